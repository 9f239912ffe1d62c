"""What a run's outcomes add up to beyond their counts: confidences by type, and some examples. Pure and bounded."""

from __future__ import annotations

import heapq
from bisect import insort
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from classify_batch.model import Carried
from classify_batch.protocol.sanitize import printable_line
from classify_batch.rundir.committed_outcomes import OutcomeLine
from classify_batch.settings.sections import TriageSettings
from classify_batch.vocabulary import FURTHER_PATHS, OutcomeKind

EXAMPLES_MAX = 5
WEAKEST_MAX = 10
LISTED_MAX = 50
"""Up to so many answers are listed one by one: who tries a folder of documents looks for each of them by its name."""

TYPES_MAX = 50
"""A run has as many types as rules; a server may answer others. Further ones are counted together."""
MESSAGES_MAX = 20
CONFIDENCE_BINS = 20
OTHER_TYPES = "(other types)"
OTHER_MESSAGES = "(other messages)"
_NAME_CHARACTERS = 160
_WORDS_CHARACTERS = 200


class ReportLine(OutcomeLine):
    """The keys of a line that a report shows."""

    reasoning: str | None = None
    message: str | None = None
    job_id: str | None = None
    carried: Carried | None = None


@dataclass(slots=True)
class Example:
    """A file to show: its name, what it was taken for, and why."""

    name: str
    type: str = ""
    confidence: float | None = None
    reasoning: str = ""


@dataclass(slots=True)
class FailureGroup:
    """Failures with the same code and message."""

    code: str
    message: str
    files: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(slots=True)
class OutcomeTotals:
    """Sums over outcomes.

    Attributes:
        keeps_examples: whether names, reasonings and the server's messages are kept.
        confidences: of each type, files by confidence in `CONFIDENCE_BINS` equal steps from 0 to 1; unrated: files
            whose confidence is missing, or outside of 0 to 1.
        failures: by code and message.
    """

    keeps_examples: bool = True
    triage: TriageSettings | None = None
    confidences: dict[str, list[int]] = field(default_factory=dict)
    unrated: Counter[str] = field(default_factory=Counter)
    review_types: Counter[str] = field(default_factory=Counter)
    failures: dict[tuple[str, str], FailureGroup] = field(default_factory=dict)
    _weakest: list[tuple[float, int, Example]] = field(default_factory=list)
    _classified: int = 0
    _unmatched: list[Example] = field(default_factory=list)
    _unmatched_count: int = 0

    def add_lines(self, lines: Iterable[ReportLine]) -> None:
        """Adds outcomes."""
        for line in lines:
            if line.outcome == OutcomeKind.CLASSIFIED:
                self._add_classified(line)
            elif line.outcome == OutcomeKind.FAILED:
                self._add_failed(line)
            else:
                self._unmatched_count += 1
                if self.keeps_examples and len(self._unmatched) < LISTED_MAX:
                    self._unmatched.append(make_example(line))

    @property
    def lists_classified(self) -> bool:
        """Whether `weakest_answers` has every classified file; else only the weakest."""
        return self._classified <= LISTED_MAX

    @property
    def lists_unmatched(self) -> bool:
        """Whether `unmatched` has every unmatched file; else only the first few."""
        return self._unmatched_count <= LISTED_MAX

    def weakest_answers(self) -> list[Example]:
        """The answers with the lowest confidence, the lowest first; all, where there are few, and then by name."""
        if self.lists_classified:
            return [example for _, _, example in sorted(self._weakest, key=lambda each: (-each[0], each[2].name))]
        found = sorted(self._weakest, key=lambda each: each[:2], reverse=True)
        return [example for _, _, example in found[:WEAKEST_MAX]]

    def unmatched(self) -> list[Example]:
        """The first unmatched files; all, where there are few, and then by name."""
        if self.lists_unmatched:
            return sorted(self._unmatched, key=lambda each: each.name)
        return self._unmatched[:EXAMPLES_MAX]

    def _add_classified(self, line: ReportLine) -> None:
        self._classified += 1
        kind = line.type or ""
        if kind not in self.confidences and len(self.confidences) >= TYPES_MAX:
            kind = OTHER_TYPES
        bins = self.confidences.get(kind)
        if bins is None:
            bins = self.confidences[kind] = [0] * CONFIDENCE_BINS
        confidence = line.confidence
        if confidence is None or not 0 <= confidence <= 1:
            self.unrated[kind] += 1
            confidence = None
        else:
            bins[min(CONFIDENCE_BINS - 1, int(confidence * CONFIDENCE_BINS))] += 1
        if self.triage is not None and not self.triage.accepts_answer(line.type or "", line.confidence):
            self.review_types[kind] += 1
        if self.keeps_examples:
            self._keep_if_weak(line, -1.0 if confidence is None else confidence)

    def _keep_if_weak(self, line: ReportLine, confidence: float) -> None:
        if len(self._weakest) >= LISTED_MAX and confidence >= -self._weakest[0][0]:
            return
        heapq.heappush(self._weakest, (-confidence, -self._classified, make_example(line)))
        if len(self._weakest) > LISTED_MAX:
            heapq.heappop(self._weakest)

    def _add_failed(self, line: ReportLine) -> None:
        message = ""
        if self.keeps_examples:
            message = printable_line(mask_own_ids(line), _WORDS_CHARACTERS)
        key = line.code or "", message
        if key not in self.failures and len(self.failures) >= MESSAGES_MAX:
            key = line.code or "", OTHER_MESSAGES
            if key not in self.failures and len(self.failures) >= 2 * MESSAGES_MAX:
                key = OTHER_MESSAGES, ""
        group = self.failures.setdefault(key, FailureGroup(*key))
        group.files += 1
        if self.keeps_examples and len(group.examples) < EXAMPLES_MAX:
            insort(group.examples, name_for_person(line))  # by name: jobs end in any order


def mask_own_ids(line: ReportLine) -> str:
    """Why a file failed, without its own IDs: else every message would be another."""
    message = (line.message or "").replace(line.file_id, "FILE_ID")
    return message.replace(line.job_id, "JOB_ID") if line.job_id else message


def make_example(line: ReportLine) -> Example:
    return Example(
        name_for_person(line), line.type or "", line.confidence, printable_line(line.reasoning or "", _WORDS_CHARACTERS)
    )


def name_for_person(line: ReportLine) -> str:
    """By what a person knows the file: its carried path or name, else its file ID."""
    carried = line.carried if isinstance(line.carried, list) else [line.carried or {}]
    names = [str(name) for each in carried if (name := each.get("path") or each.get("name"))]
    counts = (each[FURTHER_PATHS] for each in carried if set(each) == {FURTHER_PATHS})
    others = len(names) - 1 + sum(count for count in counts if isinstance(count, int))
    more = f" (and {others:,} more)" if others > 0 else ""
    return printable_line(names[0] if names else line.file_id, _NAME_CHARACTERS) + more
