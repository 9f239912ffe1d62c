"""A listed job that may be an attempt's, and what is known of it. Pure."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from classify_batch.file_keys import file_key
from classify_batch.model import JobView
from classify_batch.ports import NamedFor
from classify_batch.vocabulary import JobStatus

READ_AGAIN_S_MIN = 1.0
READ_AGAIN_S_MAX = 60.0
"""Later readings come ever further apart: as far as the job's end lies back, within these bounds."""

NAMED_NOWHERE: NamedFor = frozenset()


@dataclass(slots=True, eq=False)
class Candidate:
    """A listed job that nothing excludes.

    Attributes:
        view: as it was shown last.
        first_seen_s, seen_s: when it was first shown to this process, and last.
        named_for: what the journal names it for, once it was asked (`journal_asked`).
        ended_s: when it was first seen to have ended with answers.
        failed_s: since when it was seen as failed, without a break.
        read_s: when the last reading of its results began; asked_s: the same of one that may have failed.
        names_files: whether its results name any file.
        named, answered: the files of ambiguous attempts in its results, and those of them that have an answer, as
            digests.
        withheld: whether its results may name more files, which the API doesn't hand out.
        unreadable: whether its results could not be had when they were asked for last.
    """

    view: JobView
    first_seen_s: float
    seen_s: float
    named_for: NamedFor = NAMED_NOWHERE
    journal_asked: bool = False
    ended_s: float | None = None
    failed_s: float | None = None
    read_s: float | None = None
    asked_s: float | None = None
    names_files: bool = False
    named: frozenset[int] = frozenset()
    answered: frozenset[int] = frozenset()
    withheld: bool = False
    unreadable: bool = False

    @property
    def job_id(self) -> str:
        """As the server spelled it first."""
        return self.view.job_id

    @property
    def key(self) -> str:
        """What is compared of its ID."""
        return file_key(self.view.job_id)

    def update_view(self, view: JobView, now_s: float) -> None:
        self.view, self.seen_s = self.view if view == self.view else merge_views(view, self.view), now_s
        if view.answered:
            # A replica that lags may show an end and take it back: the first sight counts for an end, an unbroken one
            # for a failure.
            self.ended_s, self.failed_s = now_s if self.ended_s is None else self.ended_s, None
        elif view.finished:
            self.failed_s = now_s if self.failed_s is None else self.failed_s
        else:
            self.failed_s = None

    @property
    def names_its_files(self) -> bool:
        """Whether its results say whose it is. A job that ended with SUCCESS has answers: where none of them names a
        file, they prove nothing. One that ended with PARTIAL_SUCCESS may have answered nothing at all."""
        return self.names_files or self.view.status == JobStatus.PARTIAL_SUCCESS

    def is_decided(self, settle_s: float) -> bool:
        if self.failed_s is not None:
            # By when it was seen, not by the clock: a job that nobody looked at since may have answers by now.
            return self.seen_s - self.failed_s >= settle_s
        return self.was_read_late_enough(settle_s) and self.names_its_files and not self.withheld

    def has_failed_for_good(self, settle_s: float) -> bool:
        """Whether it has failed, and shows no answers any more: it isn't paid, and there is nothing to take from it."""
        return self.unreadable and self.failed_s is not None and self.is_decided(settle_s)

    def has_late_answers_to_read(self, settle_s: float) -> bool:
        """Whether it has answers that were not asked for yet when all of them must have come."""
        if not self.view.answered or self.ended_s is None:
            return False
        return self.asked_s is None or self.asked_s - self.ended_s < settle_s

    def was_read_late_enough(self, settle_s: float) -> bool:
        return self.ended_s is not None and self.read_s is not None and self.read_s - self.ended_s >= settle_s

    def read_due_s(self, settle_s: float, *, concerns: bool) -> float:
        """When to read its results (again). `concerns`: whether they name a file of an attempt, or none at all so far;
        others' jobs are read once more only to be sure."""
        if not self.view.answered or self.ended_s is None or self.is_decided(settle_s):
            return math.inf
        # At once, though results may lag: what is there already may settle an attempt.
        if self.read_s is None:
            return self.ended_s
        final_s = self.ended_s + settle_s
        if self.read_s < final_s and not concerns:
            return final_s
        wait_s = min(READ_AGAIN_S_MAX, max(READ_AGAIN_S_MIN, self.read_s - self.ended_s))
        return min(final_s, self.read_s + wait_s) if self.read_s < final_s else self.read_s + wait_s


class SharedValues:
    """Lets the views of many jobs share what they have in common. The server's words about an error are left out:
    nobody reads a candidate's."""

    def __init__(self, rules: Iterable[frozenset[tuple[str, str]]]) -> None:
        self._rules = {each: each for each in rules}
        self._configuration: dict[str, object] | None = None

    def with_shared_values(self, view: JobView) -> JobView:
        configuration = view.parsing_configuration
        if configuration == self._configuration:
            configuration = self._configuration  # one is kept: a project's jobs are alike, one after the other
        else:
            self._configuration = configuration
        return view._replace(
            status=_one_of_each(view.status),
            project_id=None if view.project_id is None else _one_of_each(view.project_id),
            error_message=None,
            rules=view.rules if view.rules is None else self._rules.get(view.rules, view.rules),
            mode=None if view.mode is None else _one_of_each(view.mode),
            parsing_configuration=configuration,
        )


def _one_of_each(words: str) -> str:
    return sys.intern(words) if type(words) is str else words  # an enumeration's values are shared by themselves


def merge_views(view: JobView, known: JobView) -> JobView:
    """A job that is read by itself shows its status, and not its rules and mode; the list showed these."""
    return view._replace(
        job_id=known.job_id,
        project_id=known.project_id if view.project_id is None else view.project_id,
        created_at_s=known.created_at_s if view.created_at_s is None else view.created_at_s,
        rules=known.rules if view.rules is None else view.rules,
        mode=known.mode if view.mode is None else view.mode,
        parsing_configuration=(
            known.parsing_configuration if view.parsing_configuration is None else view.parsing_configuration
        ),
        transaction_id=known.transaction_id if view.transaction_id is None else view.transaction_id,
        file_id=known.file_id if view.file_id is None else view.file_id,
    )
