"""Compares two runs, a bucket at a time; UUIDs are compared by value.

Every file that is planned in one of the runs, or in both, is counted once: under the first of these that holds of it.

    waiting     it has no outcome yet in a run that is not complete
    new, gone   only the second run has it, or only the first
    outcome     classified, unmatched, failed: another one than before
    type        classified both times, and not as the same
    confidence  the same answer, and the confidence moved far enough, or came, or went
    unchanged   all others; also those that failed for another reason
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from math import fsum
from pathlib import Path
from typing import NamedTuple

import msgspec
from anyio.lowlevel import checkpoint

from classify_batch.operations.diff.outcome_buckets import WAITING, Answer, AnswerInterner, Record
from classify_batch.operations.diff.sides import read_side
from classify_batch.operations.open_run import OpenedRun
from classify_batch.rundir.outcome_lines import encode_line
from classify_batch.streams.spill import LIMITS, Limits

_CONFIDENCE_ERROR_MAX = 1e-9
"""As floats, 0.9 and 0.8 are not quite 0.1 apart; a user who asks for 0.1 expects them to count."""


class Change(StrEnum):
    """What can have happened to a file; see the head of this module."""

    NEW = "new"
    GONE = "gone"
    OUTCOME = "outcome"
    TYPE = "type"
    CONFIDENCE = "confidence"
    UNCHANGED = "unchanged"
    WAITING = "waiting"


CHANGES = (Change.NEW, Change.GONE, Change.OUTCOME, Change.TYPE, Change.CONFIDENCE)
"""The changes that `only` can select."""

LinesSink = Callable[[bytes], object]


class Pair(NamedTuple):
    """From one answer to another, as a row of a table."""

    change: Change
    before: str
    after: str


@dataclass(slots=True)
class Confidence:
    """The confidences of files that have the same answer in both runs, and a confidence in both. Sums."""

    files: int = 0
    before: float = 0.0
    after: float = 0.0
    moved: float = 0.0

    def add_pairs(self, pairs: list[tuple[float, float]]) -> None:
        self.files += len(pairs)
        self.before += fsum(before for before, _ in pairs)
        self.after += fsum(after for _, after in pairs)
        self.moved += fsum(abs(after - before) for before, after in pairs)


@dataclass(slots=True)
class Diff:
    """What changed between two runs.

    Attributes:
        min_confidence_change: from which a confidence counts as moved.
        counts: files by change, all of them named.
        pairs: files with another outcome or type, by what they were and what they are.
    """

    before: OpenedRun
    after: OpenedRun
    min_confidence_change: float
    counts: Counter[Change] = field(default_factory=lambda: Counter(dict.fromkeys(Change, 0)))
    pairs: Counter[Pair] = field(default_factory=Counter)
    confidence: Confidence = field(default_factory=Confidence)


async def compare_runs(
    before: OpenedRun,
    after: OpenedRun,
    *,
    min_confidence_change: float,
    only: Change | None = None,
    sink: LinesSink | None = None,
    directory: Path | None = None,
    limits: Limits = LIMITS,
) -> Diff:
    """Compares two runs. Calls `sink` with the lines of the files with the change `only`, some at a time.

    `directory`: where temporary files may go: about 50 bytes for each file and run.

    Raises:
        DamagedError: what was committed is not there as it was written.
        WorldError: `retry_failed` reopened a run while it was read, or temporary files can't be written.
    """
    labels = AnswerInterner()
    found = Diff(before, after, min_confidence_change)
    with ExitStack() as opened:
        sides = [await read_side(side, labels, opened, directory, limits) for side in (before, after)]
        comparison = Comparison(labels.answers, found, only)
        for number in range(limits.buckets):
            # Equal IDs have equal keys, so they are in the same bucket on both sides.
            data = comparison.compare_bucket(*(side.read_bucket(number) for side in sides))
            if data and sink is not None:
                sink(data)
            await checkpoint()
        comparison.count_pairs()
    return found


class AnswerChanges(dict[tuple[int, int], Change]):
    """The change from one label to another, without the confidence; computed once for each pair of labels."""

    def __init__(self, answers: list[Answer]) -> None:
        super().__init__()
        self._answers = answers

    def __missing__(self, labels: tuple[int, int]) -> Change:
        before, after = (self._answers[label] for label in labels)
        if WAITING in labels:
            change = Change.WAITING
        elif before.outcome != after.outcome:
            change = Change.OUTCOME
        else:
            change = Change.UNCHANGED if before.type == after.type else Change.TYPE
        self[labels] = change
        return change


class _Outcome(msgspec.Struct):
    outcome: str
    type: str | None
    confidence: float | None
    code: str | None


class _ChangeLine(msgspec.Struct):
    """A line of the files that changed; its keys in the order in which they are written."""

    file_id: str
    change: str
    before: _Outcome | None
    after: _Outcome | None


class Comparison:
    """Compares the buckets of two runs one after the other, and adds up what changed."""

    def __init__(self, answers: list[Answer], found: Diff, only: Change | None) -> None:
        self._answers = answers
        self._found = found
        self._only = only
        self._of_answers = AnswerChanges(answers)
        self._label_pairs: Counter[tuple[int, int]] = Counter()
        self._min = found.min_confidence_change - _CONFIDENCE_ERROR_MAX
        self._encoder = msgspec.json.Encoder()

    def compare_bucket(self, before: dict[str, Record], after: dict[str, Record]) -> bytes:
        """Counts the files of a bucket by their change; returns the lines of those with the change `only`."""
        changes: list[Change] = []
        selected: list[_ChangeLine] = []
        confidences: list[tuple[float, float]] = []
        for key, now in after.items():
            was = before.pop(key, None)  # what is left in `before` at the end is gone
            change = self._classify_change(was, now, confidences)
            changes.append(change)
            if change is self._only:
                selected.append(self._make_change_line(now[0], change, was, now))
        for was in before.values():
            change = Change.WAITING if was[1] == WAITING else Change.GONE
            changes.append(change)
            if change is self._only:
                selected.append(self._make_change_line(was[0], change, was, None))
        self._found.counts.update(changes)
        self._found.confidence.add_pairs(confidences)
        return self._encode_lines(selected)

    def count_pairs(self) -> None:
        """Adds up the pairs of labels by their names, which labels that differ only in their code share."""
        for labels, files in self._label_pairs.items():
            before, after = (self._answers[label].table_name for label in labels)
            self._found.pairs[Pair(self._of_answers[labels], before, after)] += files

    def _classify_change(self, was: Record | None, now: Record, confidences: list[tuple[float, float]]) -> Change:
        if was is None:
            return Change.WAITING if now[1] == WAITING else Change.NEW
        labels = was[1], now[1]
        change = self._of_answers[labels]
        if change is not Change.UNCHANGED:
            if change is not Change.WAITING:
                self._label_pairs[labels] += 1
            return change
        before, after = was[2], now[2]
        if before is not None and after is not None:
            confidences.append((before, after))
            moved = before != after and abs(after - before) >= self._min
        else:
            moved = before is not after  # one of them is None: the confidence came or went
        return Change.CONFIDENCE if moved else Change.UNCHANGED

    def _make_change_line(self, file_id: str, change: Change, was: Record | None, now: Record | None) -> _ChangeLine:
        return _ChangeLine(file_id, change.value, self._make_outcome(was), self._make_outcome(now))

    def _make_outcome(self, record: Record | None) -> _Outcome | None:
        if record is None:
            return None
        _, label, confidence = record
        outcome, kind, code = self._answers[label]
        return _Outcome(outcome, kind, confidence, code)

    def _encode_lines(self, lines: list[_ChangeLine]) -> bytes:
        try:
            data = bytes(self._encoder.encode_lines(lines))
            if data.isascii():
                return data
        except UnicodeEncodeError:  # msgspec refuses a lone surrogate, which the server may have sent in a type
            pass
        return b"".join(encode_line(msgspec.to_builtins(line)) for line in lines)
