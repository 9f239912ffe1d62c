"""What the server shows of a job, held against what an attempt asked for. Pure.

A create call whose answer was lost may have left a job behind. A candidate for it is dropped only for a definite
difference in a field that we set and the server returned, since a server may drop or default any of them. What proves a
candidate are the file IDs in its results, and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from unicodedata import normalize

from classify_batch.file_keys import file_key
from classify_batch.model import JobView
from classify_batch.settings.job_spec import JobSpec

ORDER_ITEMS_MIN = 10
"""Fewer jobs than this prove no order of a list."""

DIGEST_BYTES = 8


def digests_of(file_ids: Iterable[str]) -> frozenset[int]:
    """Eight bytes in each file ID's place: enough to tell whose job it is. Outcomes are taken by the IDs themselves."""
    return frozenset(map(digest_of, map(file_key, file_ids)))


def digest_of(key: str) -> int:
    return int.from_bytes(blake2b(key.encode("utf-8", "backslashreplace"), digest_size=DIGEST_BYTES).digest())


def plain(value: object) -> object:
    """What a server's way to write a value leaves of it. Case, blanks, the form of letters, a number as text and the
    order of a list are no definite difference: a server stores what it got in its own way.

    >>> plain([2, 0.0]) == plain(["0", 2]), plain("Fast ") == plain("FAST"), plain("5") == plain(6)
    (True, True, False)
    """
    if isinstance(value, list | tuple):
        return frozenset(map(plain, value))
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return " ".join(normalize("NFKC", str(value)).casefold().split())


@lru_cache(maxsize=64)
def plain_rules(rules: frozenset[tuple[str, str]]) -> frozenset[tuple[object, object]]:
    """A project's jobs have few different sets of rules: most were compared before."""
    return frozenset((plain(kind), plain(description)) for kind, description in rules)


@dataclass(frozen=True, slots=True, eq=False)
class ExpectedJob:
    """What a job shows that a create call of ours made, as far as it shows that at all. Made once for a run: a crowded
    list has a million jobs to hold against it."""

    rules: frozenset[tuple[str, str]]
    mode: str | None
    parsing_configuration: Mapping[str, object]

    @classmethod
    def from_spec(cls, spec: JobSpec) -> ExpectedJob:
        configuration = spec.parsing_configuration
        return cls(
            frozenset((rule.type, rule.description) for rule in spec.rules),
            spec.mode,
            {} if configuration is None else configuration.model_dump(mode="json", exclude_none=True),
        )

    def agrees_with(self, view: JobView, ignored: Collection[str] = ()) -> bool:
        """Whether nothing that a job shows contradicts what our creates say, but for these fields."""
        return all(field in ignored for field in self.contradictions(view))

    def contradictions(self, view: JobView) -> Iterator[str]:
        """The fields in which a job shows another value than our creates say, however it is spelled: `rules`, which are
        compared as a set, `mode`, and each one of `parsing_configuration`."""
        # Identity first: jobs that are held share their rules with ours (`SharedValues`), and there may be a million.
        if view.rules and view.rules is not self.rules and plain_rules(view.rules) != plain_rules(self.rules):
            yield "rules"
        if view.mode is not None and plain(view.mode) != plain(self.mode):
            yield "mode"
        # Only what we set is compared: a server may fill in defaults for the rest.
        theirs = view.parsing_configuration or {}
        for name, value in self.parsing_configuration.items():
            if theirs.get(name) is not None and plain(theirs[name]) != plain(value):
                yield name


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

    def has_passed(self, views: Iterable[JobView]) -> bool:
        for view in views:
            if view.created_at_s is None or view.created_at_s > self._last_s:
                self._descends = False
                return False
            self._last_s = view.created_at_s
            self._seen += 1
        return self._descends and self._seen >= ORDER_ITEMS_MIN and self._last_s < self._since_s
