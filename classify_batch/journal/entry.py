"""One line of `journal.jsonl`, and the facts in it.

    {"seq":7,"at":"2026-11-22T02:04:16.123Z","kind":"submitted","durable":6,"items":[{…}],"crc":1234567890}

`seq` counts from 1 without gaps. `durable` is the last seq that was known to be on the disk when the line was written:
it tells a torn tail (which may be cut off) from damage (which may not). `crc` is the CRC-32 of the line without its
`crc` member. A line holds a batch of facts of one kind under `items`; the facts about the run as a whole (opened,
reopened, closed) hold their own keys instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from classify_batch.clock import from_iso, to_iso
from classify_batch.records import AttemptKey, Part, Range, Segment
from classify_batch.states import Adopted, Ended, Fact, Finished, Kind, Submitted, Submitting, Tally, kind_of

_CRC = b',"crc":'
RUN_KINDS = frozenset({Kind.OPENED, Kind.REOPENED, Kind.CLOSED})


class BadLineError(ValueError):
    """A line that is not what was written."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line, read.

    Attributes:
        at_s: wall time at which it was written.
        facts: what it says of attempts; empty for the facts about the run.
        about_run: the keys of opened, reopened and closed.
        requests: requests that this process had sent by then, where the line says so.
    """

    seq: int
    at_s: float
    kind: Kind
    durable: int
    facts: tuple[Fact, ...] = ()
    about_run: Mapping[str, Any] | None = None
    requests: int | None = None


def encode_facts(seq: int, at_s: float, durable: int, facts: Iterable[Fact], requests: int | None = None) -> bytes:
    """A line for facts of one kind."""
    listed = list(facts)
    body: dict[str, Any] = {"seq": seq, "at": to_iso(at_s), "kind": kind_of(listed[0]), "durable": durable}
    if requests is not None:
        body["requests"] = requests
    body["items"] = [_write(fact) for fact in listed]
    return _seal(body)


def encode_about_run(seq: int, at_s: float, durable: int, kind: Kind, values: Mapping[str, Any]) -> bytes:
    """A line about the run as a whole."""
    return _seal({"seq": seq, "at": to_iso(at_s), "kind": kind, "durable": durable, **values})


def _seal(body: Mapping[str, Any]) -> bytes:
    data = json.dumps(body, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    return b'%s,"crc":%d}\n' % (data[:-1], crc32(data))


def decode(line: bytes) -> Entry:
    """Reads a line without its newline. Raises BadLineError."""
    body_end = line.rfind(_CRC)
    if body_end < 0 or not line.endswith(b"}"):
        raise BadLineError("not a journal line")
    body = line[:body_end] + b"}"
    if line[body_end + len(_CRC) : -1] != b"%d" % crc32(body):
        raise BadLineError("the checksum doesn't fit")
    try:
        return _read(json.loads(body))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadLineError(f"not a journal line: {error!r}") from None


def _read(body: dict[str, Any]) -> Entry:
    seq, at, kind, durable = body.pop("seq"), from_iso(body.pop("at")), Kind(body.pop("kind")), body.pop("durable")
    if at is None or not isinstance(seq, int) or not isinstance(durable, int):
        raise ValueError("seq, at or durable")
    if kind in RUN_KINDS:
        return Entry(seq, at, kind, durable, about_run=body)
    facts = tuple(_read_fact(kind, item, at) for item in body["items"])
    return Entry(seq, at, kind, durable, facts, requests=body.get("requests"))


# --- Facts as JSON and back -------------------------------------------------------------------------------------------


def _write(fact: Fact) -> dict[str, Any]:
    item: dict[str, Any] = {"chunk": fact.key.chunk, "attempt": fact.key.attempt}
    match fact:
        case Submitting():
            item |= write_part(fact.part)
        case Submitted() | Adopted():
            item["job_id"] = fact.job_id
            if fact.project_id is not None:
                item["project_id"] = fact.project_id
        case Finished():
            item["status"] = fact.status
            if fact.duration_s is not None:
                item["duration_s"] = round(fact.duration_s, 3)
            if fact.message is not None:
                item["message"] = fact.message
        case Ended():
            item |= _write_end(fact)
    return item


def _write_end(fact: Ended) -> dict[str, Any]:
    tally = fact.tally
    return {
        name: value
        for name, value in (
            ("results", fact.results),
            ("failures", fact.failures),
            ("counts", tally.outcomes),
            ("types", tally.types),
            ("failure_codes", tally.codes),
            ("again", [write_part(part) for part in fact.again]),
        )
        if value
    }


def write_part(part: Part) -> dict[str, Any]:
    """A part's keys beside its chunk: none for a whole chunk that was in no bad job."""
    item: dict[str, Any] = {} if part.ranges is None else {"ranges": part.ranges}
    return item | ({"bad_jobs": part.bad_jobs} if part.bad_jobs else {})


def _read_fact(kind: Kind, item: Mapping[str, Any], at_s: float) -> Fact:
    key = AttemptKey(item["chunk"], item["attempt"])
    match kind:
        case Kind.SUBMITTING:
            return Submitting(key, read_part(key.chunk, item), at_s)
        case Kind.SUBMITTED:
            return Submitted(key, item["job_id"], at_s, item.get("project_id"))
        case Kind.ADOPTED:
            return Adopted(key, item["job_id"], at_s, item.get("project_id"))
        case Kind.FINISHED:
            return Finished(key, item["status"], item.get("duration_s"), item.get("message"))
        case _:
            return Ended(
                key,
                kind,
                _read_segment(item.get("results")),
                _read_segment(item.get("failures")),
                Tally(item.get("counts", {}), item.get("types", {}), item.get("failure_codes", {})),
                tuple(read_part(key.chunk, part) for part in item.get("again", ())),
            )


def read_part(chunk: int, item: Mapping[str, Any]) -> Part:
    """What `write_part` wrote."""
    ranges = item.get("ranges")
    return Part(
        chunk,
        None if ranges is None else tuple(Range(start, stop) for start, stop in ranges),
        item.get("bad_jobs", 0),
    )


def _read_segment(values: Any) -> Segment | None:
    return None if values is None else Segment(*values)
