"""The lines of results.jsonl, failures.jsonl and provisional.jsonl: a public format.

Every line is one JSON object in UTF-8 without a raw line break of any kind, so that readers that split on U+2028 don't
stumble; a lone surrogate in the server's words becomes its JSON escape.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence

import msgspec
from msgspec import UNSET, UnsetType

from classify_batch.clock import to_iso
from classify_batch.model import Answer, AnsweredFile, Attempt, Carried, Failure, FirstAnswer
from classify_batch.protocol.sanitize import printable_line
from classify_batch.vocabulary import OutcomeKind

_LINE_BREAKS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}
_LINE_BREAK_BYTES = {char.encode(): escape.encode() for char, escape in ((chr(c), e) for c, e in _LINE_BREAKS.items())}


class Other(msgspec.Struct, omit_defaults=True):
    """What became of the look that doesn't count: its answer, or why there is none."""

    mode: str | None
    attempt: int
    job_id: str | None = None
    type: str | UnsetType | None = UNSET
    confidence: float | UnsetType | None = UNSET
    reasoning: str | UnsetType | None = UNSET
    classified_at: str | UnsetType = UNSET
    code: str | UnsetType = UNSET
    message: str | UnsetType = UNSET


class ResultLine(msgspec.Struct):
    """A line of results.jsonl; its keys in the order in which they are written. The last ones are there where the file
    had a second look, where columns are carried, and where the input is a folder: `sent_id` is then the project's ID of
    the content. `mode` is null where the job was found in the list, and the API doesn't tell its mode."""

    file_id: str
    outcome: str
    type: str | None
    confidence: float | None
    reasoning: str | None
    mode: str | None
    job_id: str
    chunk: int
    attempt: int
    classified_at: str
    counts: str | UnsetType = UNSET
    other: Other | UnsetType = UNSET
    carried: Carried | UnsetType = UNSET
    sent_id: str | UnsetType = UNSET


FIRST, SECOND = "first", "second"

# `value` of an enum's member takes about a microsecond on Python 3.11, and this runs once for each file.
_CLASSIFIED, _UNMATCHED = OutcomeKind.CLASSIFIED.value, OutcomeKind.UNMATCHED.value

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(ResultLine)


def encode_line(values: object) -> bytes:
    """One JSON object as a line."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    if not text.isascii():
        text = text.translate(_LINE_BREAKS)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def encode_results(lines: Sequence[ResultLine]) -> bytes:
    """Lines of results.jsonl or provisional.jsonl."""
    try:
        data = bytes(_encoder.encode_lines(lines))
    except (UnicodeEncodeError, OverflowError):  # a lone surrogate; a number beyond 64 bits
        return b"".join(encode_line(_as_json_values(line)) for line in lines)
    if not data.isascii():
        for char, escape in _LINE_BREAK_BYTES.items():
            data = data.replace(char, escape)
    return data


def _as_json_values(line: msgspec.Struct) -> dict[str, object]:
    values = {name: value for name, value in msgspec.structs.asdict(line).items() if value is not UNSET}
    return {
        name: _as_json_values(value) if isinstance(value, msgspec.Struct) else value for name, value in values.items()
    }


def result_lines(attempt: Attempt, answers: Iterable[AnsweredFile], at: str) -> list[ResultLine]:
    """Answers as lines."""
    chunk, number = attempt.key
    carried = attempt.carried
    return [
        ResultLine(
            file_id,
            _UNMATCHED if kind is None else _CLASSIFIED,
            kind,
            confidence if confidence is None or -math.inf < confidence < math.inf else None,  # as `finite_or_none`
            reasoning,
            mode,
            job_id,
            chunk,
            number,
            at,
            carried=carried[file_id] if carried else UNSET,
        )
        for file_id, (_, _, kind, confidence, reasoning, _), job_id, mode in answers
    ]


def failure_lines(attempt: Attempt, job_id: str | None, failures: Sequence[Failure], at_s: float) -> bytes:
    """Lines of failures.jsonl."""
    if not failures:
        return b""
    at = to_iso(at_s)
    ids = dict(zip(attempt.positions, attempt.file_ids, strict=True))
    sent = dict(zip(attempt.file_ids, attempt.sent_ids, strict=False))
    return b"".join(
        encode_line(
            {
                "file_id": (file_id := ids[failure.position]),
                "outcome": OutcomeKind.FAILED,
                "code": failure.code,
                "message": printable_line(failure.message),
                "job_id": failure.job_id or job_id,
                "chunk": attempt.key.chunk,
                "attempt": attempt.key.attempt,
                "failed_at": at,
            }
            | ({"carried": attempt.carried[file_id]} if attempt.carried else {})
            | ({"sent_id": sent[file_id]} if file_id in sent else {})
        )
        for failure in failures
    )


def read_first_answers(data: bytes) -> dict[str, FirstAnswer]:
    """The answers in whole lines of provisional.jsonl. Raises ValueError for what is no such line."""
    lines = [_read_line(line) for line in data.split(b"\n")[:-1]]
    return {
        line.file_id: FirstAnswer(
            Answer(line.file_id, True, line.type, line.confidence, line.reasoning),
            line.mode,
            line.job_id,
            line.attempt,
            line.classified_at,
        )
        for line in lines
    }


def _read_line(line: bytes) -> ResultLine:
    try:
        return _decoder.decode(line)
    except (msgspec.MsgspecError, ValueError):  # what msgspec is too strict for, and json wrote
        return msgspec.convert(json.loads(line), ResultLine)


def finite_or_none(value: float | None) -> float | None:
    """JSON has no NaN and no Infinity, though Python reads them from a server and would write them again."""
    return value if value is not None and abs(value) < math.inf else None
