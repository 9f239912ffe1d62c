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

import msgspec

from classify_batch.clock import to_iso
from classify_batch.ports import Journal
from classify_batch.records import Answer, Attempt, Failure, FailureCode, OutcomeKind, Part
from classify_batch.states import Ended, Kind, Tally
from classify_batch.wire.words import clean

_LINE_BREAKS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}
_LINE_BREAK_BYTES = {char.encode(): escape.encode() for char, escape in ((chr(c), e) for c, e in _LINE_BREAKS.items())}


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines ready to be appended, and what they add to the counts."""

    data: bytes = b""
    tally: Tally = field(default_factory=Tally)


NO_LINES = Lines()


class ResultLine(msgspec.Struct):
    """A line of results.jsonl; its keys in the order in which they are written."""

    file_id: str
    outcome: str
    type: str | None
    confidence: float | None
    reasoning: str | None
    mode: str
    job_id: str
    chunk: int
    attempt: int
    classified_at: str


_encoder = msgspec.json.Encoder()


def encode_line(values: dict[str, object]) -> bytes:
    """One JSON object as a line."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    if not text.isascii():
        text = text.translate(_LINE_BREAKS)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _encode_lines(lines: list[ResultLine]) -> bytes:
    try:
        data = bytes(_encoder.encode_lines(lines))
    except (UnicodeEncodeError, OverflowError):  # a lone surrogate; a number beyond 64 bits
        return b"".join(encode_line(msgspec.structs.asdict(line)) for line in lines)
    if not data.isascii():
        for char, escape in _LINE_BREAK_BYTES.items():
            data = data.replace(char, escape)
    return data


def result_lines(attempt: Attempt, job_id: str, mode: str, answers: Iterable[tuple[str, Answer]], at_s: float) -> Lines:
    """Lines of results.jsonl for answered files, given as (file ID, answer)."""
    at = to_iso(at_s)
    chunk, number = attempt.key
    lines: list[ResultLine] = []
    types: Counter[str] = Counter()
    unmatched = 0
    for file_id, (_, _, kind, confidence, reasoning) in answers:
        if kind is None:
            outcome = OutcomeKind.UNMATCHED.value
            unmatched += 1
        else:
            outcome = OutcomeKind.CLASSIFIED.value
            types[kind] += 1
        lines.append(
            ResultLine(file_id, outcome, kind, _number(confidence), reasoning, mode, job_id, chunk, number, at)
        )
    outcomes = {OutcomeKind.CLASSIFIED.value: len(lines) - unmatched, OutcomeKind.UNMATCHED.value: unmatched}
    return Lines(_encode_lines(lines), Tally({k: n for k, n in outcomes.items() if n}, dict(types)))


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
