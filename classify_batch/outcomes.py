"""The lines of results.jsonl and failures.jsonl: a public format.

Every line is one JSON object in UTF-8 without a raw line break of any kind, so that readers that split on U+2028 don't
stumble; a lone surrogate in the server's words becomes its JSON escape.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from classify_batch.clock import to_iso
from classify_batch.ports import Journal
from classify_batch.records import Answer, Attempt, Failure, FailureCode, OutcomeKind, Part
from classify_batch.states import Ended, Kind, Tally
from classify_batch.wire.words import clean

_LINE_BREAKS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines ready to be appended, and what they add to the counts."""

    data: bytes = b""
    tally: Tally = field(default_factory=Tally)


NO_LINES = Lines()


def encode_line(values: dict[str, object]) -> bytes:
    """One JSON object as a line."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    if not text.isascii():
        text = text.translate(_LINE_BREAKS)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def result_lines(attempt: Attempt, job_id: str, mode: str, answers: Iterable[tuple[str, Answer]], at_s: float) -> Lines:
    """Lines of results.jsonl for answered files, given as (file ID, answer)."""
    at = to_iso(at_s)
    lines: list[bytes] = []
    outcomes: Counter[str] = Counter()
    types: Counter[str] = Counter()
    for file_id, answer in answers:
        kind = OutcomeKind.UNMATCHED if answer.type is None else OutcomeKind.CLASSIFIED
        outcomes[kind.value] += 1
        if answer.type is not None:
            types[answer.type] += 1
        lines.append(
            encode_line(
                {
                    "file_id": file_id,
                    "outcome": kind,
                    "type": answer.type,
                    "confidence": _number(answer.confidence),
                    "reasoning": answer.reasoning,
                    "mode": mode,
                    "job_id": job_id,
                    "chunk": attempt.key.chunk,
                    "attempt": attempt.key.attempt,
                    "classified_at": at,
                }
            )
        )
    return Lines(b"".join(lines), Tally(dict(outcomes), dict(types)))


def _number(value: float | None) -> float | None:
    """JSON has no NaN and no Infinity, though Python reads them from a server and would write them again."""
    return value if value is not None and abs(value) < math.inf else None


def failure_lines(attempt: Attempt, job_id: str | None, failures: Sequence[Failure], at_s: float) -> Lines:
    """Lines of failures.jsonl."""
    at = to_iso(at_s)
    ids = dict(zip(attempt.positions, attempt.file_ids, strict=True))
    lines = [
        encode_line(
            {
                "file_id": ids[failure.position],
                "outcome": OutcomeKind.FAILED,
                "code": failure.code,
                "message": clean(failure.message),
                "job_id": job_id,
                "chunk": attempt.key.chunk,
                "attempt": attempt.key.attempt,
                "failed_at": at,
            }
        )
        for failure in failures
    ]
    codes = Counter(failure.code.value for failure in failures)
    outcomes = {OutcomeKind.FAILED.value: len(failures)} if failures else {}
    return Lines(b"".join(lines), Tally(outcomes, {}, dict(codes)))


def fail_all(attempt: Attempt, code: FailureCode, message: str) -> list[Failure]:
    """The same failure for every file of an attempt."""
    return [Failure(position, code, message) for position in attempt.positions]


def end_attempt(
    journal: Journal,
    attempt: Attempt,
    kind: Kind,
    *,
    results: Lines = NO_LINES,
    failures: Lines = NO_LINES,
    again: tuple[Part, ...] = (),
) -> None:
    """Appends an attempt's outcomes and the fact that ends it, in one breath: nothing may come between them."""
    segments = journal.append_outcomes(results.data, failures.data)
    tally = Tally(results.tally.outcomes | failures.tally.outcomes, results.tally.types, failures.tally.codes)
    journal.record(Ended(attempt.key, kind, *segments, tally=tally, again=again))
