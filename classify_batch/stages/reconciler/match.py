"""Whose job is it? Pure.

A create call whose answer was lost may have left a job behind. Such a job was created after the intent, by the rules,
mode and parsing configuration of this run; a candidate is dropped only for a definite difference in a field that we
set and the server returned, since a server may drop or default any of them. What proves a candidate ours are the file
IDs in its results, and nothing else. One answer about a file of the attempt is enough: a server may answer files that
nobody asked for, too, and to take an answer that somebody else paid is cheaper than to pay again. An empty answer
proves nothing: an earlier job of the same files may have left it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from classify_batch.records import Answer, Attempt, JobSpec, JobStatus, JobView

TIME_MARGIN_S = 5.0
"""`Date` has whole seconds, and the clock that stamps `created_at` may be another machine's."""

ORDER_ITEMS_MIN = 10
"""Fewer jobs than this prove no order of a list."""

ORDER_MARGIN_S = 60.0


class Find(NamedTuple):
    """A job that answers so many files of an attempt."""

    files: int
    project_id: str | None


@dataclass(slots=True)
class Doubt:
    """An attempt that was perhaps accepted.

    Attributes:
        until_s: wall time after which its call can't have been accepted any more, but for the settling time.
        first_look_s: the event loop's time at which this process first began to read the list for it.
        last_look_s: the same for the last reading that was brought to its end.
        shown: what the list showed in the first reading that began a settling time after the first look: the attempt's
            job would be among them, so whatever shows later is not its job.
        found: candidates whose results answer files of this attempt.
        others: candidates whose results are about other files. What proves a job not to be this attempt's says nothing
            of an attempt that falls into doubt later.
    """

    attempt: Attempt
    until_s: float
    first_look_s: float | None = None
    last_look_s: float | None = None
    shown: frozenset[str] | None = None
    found: dict[str, Find] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)


def could_be_ours(view: JobView, doubt: Doubt, spec: JobSpec, clock_skew_s: float | None, settle_s: float) -> bool:
    """Whether nothing speaks against a job being the doubtful attempt's. Times say nothing while the server's clock is
    unknown."""
    if doubt.shown is not None and view.job_id not in doubt.shown:
        return False
    if view.created_at_s is not None and clock_skew_s is not None:
        earliest_s = doubt.attempt.since_s + clock_skew_s - TIME_MARGIN_S
        latest_s = doubt.until_s + clock_skew_s + settle_s + TIME_MARGIN_S
        if not earliest_s <= view.created_at_s <= latest_s:
            return False
    if view.rules and view.rules != {(rule.type, rule.description) for rule in spec.rules}:
        return False
    if view.mode is not None and view.mode != spec.mode:
        return False
    return not _configured_otherwise(view, spec)


def _configured_otherwise(view: JobView, spec: JobSpec) -> bool:
    if spec.parsing_configuration is None or view.parsing_configuration is None:
        return False
    ours = spec.parsing_configuration.model_dump(mode="json", exclude_none=True)
    theirs = view.parsing_configuration
    return any(theirs.get(name) is not None and theirs[name] != value for name, value in ours.items())


def answered_files(view: JobView, answers: Sequence[Answer]) -> frozenset[str] | None:
    """The files that a candidate's results answer; None where they don't tell: all that a job which ended well has is
    answers without a file's name, or none at all. A job that ended half well may answer nothing that was asked: were
    it known as ours, its files would go out again, so it is no reason to wait."""
    files = frozenset(answer.file_id for answer in answers if answer.file_id is not None and answer.answered)
    if files or (answers and not any(answer.answered for answer in answers)):
        return files
    return files if view.status == JobStatus.PARTIAL_SUCCESS else None


class NewestFirst:
    """Tells when the rest of a list can't hold anything newer than `since_s`.

    True only of a list that was newest first, without exception, over enough jobs; any other list is read whole.
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
        return self._descends and self._seen >= ORDER_ITEMS_MIN and self._last_s < self._since_s - ORDER_MARGIN_S
