"""What a check finds. Of what comes in any number only the count and the first few are kept."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from classify_batch.errors import ApiError, ClassifyBatchError, ExitStatus, Verdict

EXAMPLES_MAX = 5

_FIRST_TO_MEND = (ExitStatus.USAGE, ExitStatus.PERSON, ExitStatus.INCOMPLETE)
"""Which status is left with where several are due: what nobody can mend by waiting goes first."""

_LATER = frozenset({Verdict.LATER, Verdict.DOWN, Verdict.PLAN_FULL})


class Severity(StrEnum):
    """What a finding means for a run."""

    ERROR = "error"
    """Must be mended first."""
    WARNING = "warning"
    """The run can begin, and something in it will go wrong or cost more than meant."""
    NOTE = "note"
    """Good to know."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        code: names the kind of finding, for programs.
        count: how many file IDs it is about; None where it is about none.
        examples: the first few of these.
        exit_status: what an error leaves with.
    """

    severity: Severity
    code: str
    message: str
    hint: str
    count: int | None = None
    examples: tuple[str, ...] = ()
    exit_status: ExitStatus = ExitStatus.USAGE


class Seen:
    """File IDs of one kind: how many, and which came first in the input, in whatever order they are told."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[tuple[int, str]] = []

    def add(self, numbered: Iterable[tuple[int, str]]) -> None:
        for each in numbered:
            self.count += 1
            if len(self._first) < EXAMPLES_MAX or each < self._first[-1]:
                insort(self._first, each)
                del self._first[EXAMPLES_MAX:]

    @property
    def examples(self) -> tuple[str, ...]:
        return tuple(file_id for _, file_id in self._first)


def exit_status_of(findings: Iterable[Finding]) -> ExitStatus:
    """0 unless there is an error."""
    due = {finding.exit_status for finding in findings if finding.severity is Severity.ERROR}
    return next((status for status in _FIRST_TO_MEND if status in due), ExitStatus.COMPLETE)


def finding_of(code: str, error: ClassifyBatchError) -> Finding:
    """An error that ended a part of the check, with the status that it would end a run with."""
    return Finding(Severity.ERROR, code, str(error), _hint_of(error), exit_status=_status_of(error))


def _status_of(error: ClassifyBatchError) -> ExitStatus:
    if isinstance(error, ApiError):
        return ExitStatus.INCOMPLETE if error.verdict in _LATER else ExitStatus.PERSON
    return error.exit_status


def _hint_of(error: ClassifyBatchError) -> str:
    if isinstance(error, ApiError) and error.verdict in (Verdict.REFUSED, Verdict.MISSING):
        return "check api.base_url, api.project_id and api.organization_id, then give the same command"
    return error.hint
