"""What the server shows of a job, held against what an attempt asked for. Pure.

A create call whose answer was lost may have left a job behind. A candidate for it is dropped only for a definite
difference in a field that we set and the server returned, since a server may drop or default any of them. What proves a
candidate are the file IDs in its results, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from classify_batch.file_keys import file_key
from classify_batch.model import JobView
from classify_batch.settings.job_spec import JobSpec

ORDER_ITEMS_MIN = 10
"""Fewer jobs than this prove no order of a list."""

DIGEST_BYTES = 8


def digests_of(file_ids: Iterable[str]) -> frozenset[int]:
    """Eight bytes in each file ID's place: enough to tell whose job it is. Outcomes are taken by the IDs themselves."""
    return frozenset(map(_digest_of, map(file_key, file_ids)))


def _digest_of(key: str) -> int:
    return int.from_bytes(blake2b(key.encode("utf-8", "backslashreplace"), digest_size=DIGEST_BYTES).digest())


def may_be_made_by(view: JobView, spec: JobSpec) -> bool:
    """Whether nothing that a job shows contradicts what our creates say. Rules are compared as a set."""
    if view.rules and view.rules != {(rule.type, rule.description) for rule in spec.rules}:
        return False
    if view.mode is not None and view.mode != spec.mode:
        return False
    return not has_other_configuration(view, spec)


def has_other_configuration(view: JobView, spec: JobSpec) -> bool:
    if spec.parsing_configuration is None or view.parsing_configuration is None:
        return False
    ours = spec.parsing_configuration.model_dump(mode="json", exclude_none=True)
    theirs = view.parsing_configuration
    return any(theirs.get(name) is not None and theirs[name] != value for name, value in ours.items())


class NewestFirst:
    """Tells when the rest of a list can't hold anything that the server made after `since_s`, by its own clock.

    True only of a list that was newest first, without exception, over enough jobs. It shortens a search and proves
    nothing: that a job is not there is for a complete reading to say.
    """

    def __init__(self, since_s: float) -> None:
        self._since_s = since_s
        self._last_s = float("inf")
        self._seen = 0
        self._descends = True

    def passed(self, views: Iterable[JobView]) -> bool:
        for view in views:
            if view.created_at_s is None or view.created_at_s > self._last_s:
                self._descends = False
                return False
            self._last_s = view.created_at_s
            self._seen += 1
        return self._descends and self._seen >= ORDER_ITEMS_MIN and self._last_s < self._since_s
