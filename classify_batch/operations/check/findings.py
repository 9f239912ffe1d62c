"""What a check finds. Of things that may be many, only their count and the first few are kept."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from classify_batch.errors import ApiError, ClassifyBatchError, ExitStatus, SettingsError, Verdict
from classify_batch.inputs.ids import Fault

EXAMPLES_MAX = 5

INPUT = "input"
"""The code of an input that can't be read, or of its bad lines: the examples are then lines with their errors."""

_STATUS_PRIORITY = (ExitStatus.USAGE, ExitStatus.PERSON, ExitStatus.INCOMPLETE)
"""Which exit status wins where several apply: first what can't be fixed by waiting."""

_LATER = frozenset({Verdict.LATER, Verdict.DOWN, Verdict.PLAN_FULL})


class Severity(StrEnum):
    """What a finding means for a run."""

    ERROR = "error"
    """Must be fixed first."""
    WARNING = "warning"
    """The run can begin, but something in it will go wrong, or cost more than expected."""
    NOTE = "note"
    """Good to know."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        code: names the kind of finding, for programs.
        count: how many file IDs, or lines of the input, it is about; None where it is about none.
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


class CountedExamples:
    """File IDs of one kind: how many, and which came first in the input, in whatever order they are added."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[tuple[int, str]] = []

    def add_numbered(self, numbered: Iterable[tuple[int, str]]) -> None:
        """Adds IDs, each with its place in the input."""
        for each in numbered:
            self.count += 1
            if len(self._first) < EXAMPLES_MAX or each < self._first[-1]:
                insort(self._first, each)
                del self._first[EXAMPLES_MAX:]

    @property
    def examples(self) -> tuple[str, ...]:
        return tuple(file_id for _, file_id in self._first)


class BadLines:
    """Lines of the input that hold no file ID: how many, and the first few with their errors."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[Fault] = []

    def add_bad_line(self, fault: Fault) -> None:
        self.count += 1
        if len(self._first) < EXAMPLES_MAX:
            self._first.append(fault)

    def findings(self) -> Iterator[Finding]:
        if not self._first:
            return
        first = self._first[0]
        unit = first.place.partition(" ")[0]
        message = str(first.as_error) if self.count == 1 else f"{first.name}: {self.count:,} {unit}s can't be read"
        examples = tuple(f"{fault.place}: {fault.what}" for fault in self._first)
        yield Finding(Severity.ERROR, INPUT, message, first.hint, self.count, examples)


def exit_status_of(findings: Iterable[Finding]) -> ExitStatus:
    """The exit status of a check: 0 unless there is an error."""
    statuses = {finding.exit_status for finding in findings if finding.severity is Severity.ERROR}
    return next((status for status in _STATUS_PRIORITY if status in statuses), ExitStatus.COMPLETE)


def finding_from_error(code: str, error: ClassifyBatchError) -> Finding:
    """An error that ended a part of the check, with the exit status that it would give a run."""
    return Finding(Severity.ERROR, code, str(error), _hint_of_error(error), exit_status=_exit_status_of_error(error))


def findings_from_settings_error(error: SettingsError) -> Iterator[Finding]:
    """A finding for each error in the settings. SettingsError joins them in one message, below a head."""
    head, *lines = str(error).split("\n  ")
    for message in lines or [head]:
        yield Finding(Severity.ERROR, "settings", message, error.hint)


def _exit_status_of_error(error: ClassifyBatchError) -> ExitStatus:
    if isinstance(error, ApiError):
        return ExitStatus.INCOMPLETE if error.verdict in _LATER else ExitStatus.PERSON
    return error.exit_status


def _hint_of_error(error: ClassifyBatchError) -> str:
    if isinstance(error, ApiError) and error.verdict in (Verdict.REFUSED, Verdict.MISSING):
        return "check api.base_url, api.project_id and api.organization_id, then give the same command"
    return error.hint
