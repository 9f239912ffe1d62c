"""What a check finds. Of what comes in any number only the count and the first few are kept."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from classify_batch.errors import ApiError, ClassifyBatchError, ExitStatus, SettingsError, Verdict
from classify_batch.inputs.ids import Fault

EXAMPLES_MAX = 5

INPUT = "input"
"""The code of what keeps the input, or lines of it, from being file IDs: its examples are lines, with their faults."""

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


class FaultyLines:
    """Lines of the input that hold no file ID: how many, and the first few."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[Fault] = []

    def take(self, fault: Fault) -> None:
        self.count += 1
        if len(self._first) < EXAMPLES_MAX:
            self._first.append(fault)

    def findings(self) -> Iterator[Finding]:
        if not self._first:
            return
        first = self._first[0]
        unit = first.place.partition(" ")[0]
        message = str(first.error) if self.count == 1 else f"{first.name}: {self.count:,} {unit}s can't be taken"
        examples = tuple(f"{fault.place}: {fault.what}" for fault in self._first)
        yield Finding(Severity.ERROR, INPUT, message, first.hint, self.count, examples)


def exit_status_of(findings: Iterable[Finding]) -> ExitStatus:
    """0 unless there is an error."""
    due = {finding.exit_status for finding in findings if finding.severity is Severity.ERROR}
    return next((status for status in _FIRST_TO_MEND if status in due), ExitStatus.COMPLETE)


def finding_of(code: str, error: ClassifyBatchError) -> Finding:
    """An error that ended a part of the check, with the status that it would end a run with."""
    return Finding(Severity.ERROR, code, str(error), _hint_of(error), exit_status=_status_of(error))


def findings_of_settings(error: SettingsError) -> Iterator[Finding]:
    """Each fault in the settings, which come as one error: its first line tells how many where there are several."""
    head, *faults = str(error).split("\n  ")
    for words in faults or [head]:
        yield Finding(Severity.ERROR, "settings", words, error.hint)


def _status_of(error: ClassifyBatchError) -> ExitStatus:
    if isinstance(error, ApiError):
        return ExitStatus.INCOMPLETE if error.verdict in _LATER else ExitStatus.PERSON
    return error.exit_status


def _hint_of(error: ClassifyBatchError) -> str:
    if isinstance(error, ApiError) and error.verdict in (Verdict.REFUSED, Verdict.MISSING):
        return "check api.base_url, api.project_id and api.organization_id, then give the same command"
    return error.hint
