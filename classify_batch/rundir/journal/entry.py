"""One line of `journal.jsonl`, and the facts in it.

    {"seq":7,"at":"2026-11-22T02:04:16.123Z","kind":"submitted","durable":6,"items":[{…}],"crc":1234567890}

`seq` counts from 1 without gaps. `durable` is the last seq that was known to be on the disk when the line was written:
it distinguishes a torn tail (which may be cut off) from damage (which may not). `crc` is the CRC-32 of the line without
its `crc` member. A line holds a batch of facts of one kind under `items`; the facts about the run as a whole (opened,
reopened, closed) hold their own keys instead. Now and then a line of facts has the sums of all lines before it
(`totals`, see totals.py), or limits that were found to be lower than configured (`found`).

A line that intends or names jobs has the server's own time (`server_s`: the latest `created_at` that was read of a
job of this run; of intents, as it was known before them): no job made before an intent's, but for
`limits.clock_spread_s`, can be that attempt's, and no job that an earlier line names is younger. `times_apart` says
that the server's clocks were seen to disagree by more than that: from there on no time excludes a job.

A line is read straight into typed records by msgspec, which takes a sixth of json's time, and a journal of 10 million
files has 400,000 lines. Where msgspec is stricter than what Python may have written (a lone surrogate in a server's
words), json reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime

import msgspec

from classify_batch.clock import to_iso
from classify_batch.lifecycle import (
    AboutRun,
    Adopted,
    Closed,
    Ended,
    Fact,
    Finished,
    Opened,
    Recheck,
    Reopened,
    Retried,
    Submitted,
    Submitting,
    Tally,
    Tuned,
    WrittenPart,
    kind_of,
)
from classify_batch.model import AttemptKey, Part, ProvisionalRange, Range, Segment
from classify_batch.rundir.journal.line import BadLineError, refuse_unsound, seal_line
from classify_batch.rundir.journal.totals import WrittenTotals
from classify_batch.vocabulary import Kind

_RECHECK = -1
"""`bad_jobs` of a part whose job is to be read once more before anything goes out again: see `model.Part.recheck`."""


# Without the garbage collector: these hold no circles, and a start makes millions of them.
class AgainItem(msgspec.Struct, gc=False):
    """A part that goes out again, as it stands in a line."""

    ranges: tuple[tuple[int, int], ...] | None = None
    bad_jobs: int = 0
    first: tuple[int, int] | None = None
    shared: int = 0
    unnamed: int = 0

    def make_part(self, chunk: int) -> Part:
        return make_part(chunk, self.ranges, self.bad_jobs, self.first, self.shared, self.unnamed)


class Item(msgspec.Struct, gc=False):
    """What a line says of one attempt; each kind of line has some of these."""

    chunk: int
    attempt: int
    ranges: tuple[tuple[int, int], ...] | None = None
    bad_jobs: int = 0
    first: tuple[int, int] | None = None
    shared: int = 0
    unnamed: int = 0
    credits: float = 0
    job_id: str | None = None
    project_id: str | None = None
    status: str | None = None
    duration_s: float | None = None
    message: str | None = None
    results: tuple[int, int, int] | None = None
    failures: tuple[int, int, int] | None = None
    provisional: tuple[int, int, int] | None = None
    counts: dict[str, int] | None = None
    types: dict[str, int] | None = None
    failure_codes: dict[str, int] | None = None
    sums: dict[str, float] | None = None
    again: tuple[AgainItem, ...] = ()
    jobs: tuple[str, ...] = ()
    sent_ids: tuple[str, ...] = ()

    @property
    def is_planned(self) -> bool:
        """Whether the attempt sends the whole chunk, as it was planned."""
        return self.ranges is None and self.first is None and not (self.bad_jobs or self.shared or self.unnamed)

    @property
    def part(self) -> Part:
        """What the attempt sends."""
        return make_part(self.chunk, self.ranges, self.bad_jobs, self.first, self.shared, self.unnamed)

    @property
    def parts_again(self) -> tuple[Part, ...]:
        """What goes out again."""
        return tuple([part.make_part(self.chunk) for part in self.again]) if self.again else ()


class Entry(msgspec.Struct, gc=False):
    """A line, read.

    Attributes:
        at: when it was written.
        items: what it says of attempts; empty for the facts about the run.
        opened, closed, tuned, reopened, retried: what it says of the run as a whole, if it is of that kind.
        requests: requests that this process had sent by then, where the line says so.
        found: limits that were found to be lower than configured (see totals.py), where the line says so.
        server_s: the server's own time, where it was known: before the line's intents, or with the jobs that it names.
        clocks_disagree: whether the server's clocks were seen to disagree (`times_apart` in the line).
    """

    seq: int
    at: datetime
    kind: Kind
    durable: int
    items: tuple[Item, ...] = ()
    requests: int | None = None
    found: dict[str, float] | None = None
    server_s: float | None = None
    clocks_disagree: bool = msgspec.field(name="times_apart", default=False)
    opened: Opened | None = None
    closed: Closed | None = None
    tuned: Tuned | None = None
    reopened: Reopened | None = None
    retried: Retried | None = None

    @property
    def rechecks(self) -> Sequence[Recheck]:
        """The old attempts whose jobs are read again from here on."""
        if self.retried is not None:
            return self.retried["looks"]
        return () if self.reopened is None else self.reopened.get("looks", ())

    @property
    def at_s(self) -> float:
        """Wall time; one without offset is read as UTC."""
        at = self.at
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()

    @property
    def facts(self) -> tuple[Fact, ...]:
        """What it says of attempts, as the stages say it."""
        at_s = self.at_s
        return tuple(make_fact(self.kind, item, at_s, self.server_s) for item in self.items)


def encode_facts(
    seq: int,
    at_s: float,
    durable: int,
    facts: Iterable[Fact],
    requests: int | None = None,
    totals: WrittenTotals | None = None,
    found: Mapping[str, float] | None = None,
    *,
    server_s: float | None = None,
    clocks_disagree: bool = False,
) -> bytes:
    """A line for facts of one kind. `totals`, the sums of all lines before it, need `requests` beside them. `server_s`:
    the latest time of a job that is named so far; intents have their own."""
    listed = list(facts)
    body: dict[str, object] = {"seq": seq, "at": to_iso(at_s), "kind": kind_of(listed[0]), "durable": durable}
    if requests is not None:
        body["requests"] = requests
    if totals is not None:
        body["totals"] = totals
    if found is not None:
        body["found"] = found
    if (told_s := latest_server_s(listed, server_s)) is not None:
        body["server_s"] = told_s
    if clocks_disagree:
        body["times_apart"] = True
    body["items"] = [_write_item(fact) for fact in listed]
    return _seal_line(body)


def latest_server_s(facts: Sequence[Fact], named_s: float | None) -> float | None:
    """For jobs that are named, `named_s`; for intents what holds for all of a line: the earliest time that was known
    before one of them."""
    if not isinstance(facts[0], Submitting):
        return named_s if any(names_jobs(fact) for fact in facts) else None
    # One that is unknown makes the line say nothing: a time that is too late would exclude that attempt's job.
    times = [fact.server_s for fact in facts if isinstance(fact, Submitting)]
    known = [time_s for time_s in times if time_s is not None]
    return min(known) if known and len(known) == len(times) else None


def names_jobs(fact: Fact) -> bool:
    return isinstance(fact, Submitted | Adopted) or (isinstance(fact, Ended) and bool(fact.found))


def encode_about_run(seq: int, at_s: float, durable: int, kind: Kind, values: AboutRun | Mapping[str, object]) -> bytes:
    """A line about the run as a whole."""
    return _seal_line({"seq": seq, "at": to_iso(at_s), "kind": kind, "durable": durable, **values})


def _seal_line(body: Mapping[str, object]) -> bytes:
    # In ASCII: no word of a server can break a line or be no UTF-8, and each byte has one spelling for the checksum.
    # Nearly every line is, as msgspec writes it in a tenth of json's time.
    with suppress(UnicodeEncodeError):  # a lone surrogate
        if (line := _encode(body)).isascii():
            return seal_line(line)
    return seal_line(json.dumps(body, ensure_ascii=True, separators=(",", ":")).encode("ascii"))


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Entry).decode

_ABOUT_RUN: Mapping[Kind, tuple[str, msgspec.json.Decoder[AboutRun]]] = {
    Kind.OPENED: ("opened", msgspec.json.Decoder(Opened)),
    Kind.CLOSED: ("closed", msgspec.json.Decoder(Closed)),
    Kind.TUNED: ("tuned", msgspec.json.Decoder(Tuned)),
    Kind.REOPENED: ("reopened", msgspec.json.Decoder(Reopened)),
    Kind.RETRIED: ("retried", msgspec.json.Decoder(Retried)),
}
"""The kinds of lines about the run as a whole: where in an entry their keys go, and as what."""


def decode_entry(line: bytes) -> Entry:
    """Reads a line without its newline. Raises BadLineError."""
    refuse_unsound(line)
    try:
        entry = _decode(line)
    except (msgspec.MsgspecError, ValueError):
        entry = _decode_by_json(line)
    kind = entry.kind
    if kind in _ABOUT_RUN:
        entry.items = ()
        name, decoder = _ABOUT_RUN[kind]
        setattr(entry, name, _decode_about_run(line, decoder))
    elif not entry.items:
        raise BadLineError(f"not a journal line: {kind} of nothing")
    return entry


def _decode_about_run(line: bytes, decoder: msgspec.json.Decoder[AboutRun]) -> AboutRun:
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, ValueError):
        pass
    try:
        return msgspec.convert(json.loads(line), decoder.type)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadLineError(f"not a journal line: {error!r}") from None


def _decode_by_json(line: bytes) -> Entry:
    try:
        body = json.loads(line)
        return msgspec.convert(body | {"at": datetime.fromisoformat(body["at"])}, Entry)
    except (msgspec.MsgspecError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadLineError(f"not a journal line: {error!r}") from None


# --- Facts as JSON and back -------------------------------------------------------------------------------------------


def _write_item(fact: Fact) -> dict[str, object]:
    item: dict[str, object] = {"chunk": fact.key.chunk, "attempt": fact.key.attempt}
    match fact:
        case Submitting():
            item |= _write_intent(fact)
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


def _write_intent(fact: Submitting) -> dict[str, object]:
    item: dict[str, object] = {**write_part(fact.part)}
    if fact.credits:
        item["credits"] = fact.credits
    if fact.project_id is not None:
        item["project_id"] = fact.project_id
    if fact.sent_ids:
        item["sent_ids"] = fact.sent_ids
    return item


def _write_end(fact: Ended) -> dict[str, object]:
    tally = fact.tally
    return {
        name: value
        for name, value in (
            ("results", fact.results),
            ("failures", fact.failures),
            ("provisional", fact.provisional),
            ("counts", tally.outcomes),
            ("types", tally.types),
            ("failure_codes", tally.codes),
            ("sums", tally.sums),
            ("again", [write_part(part) for part in fact.requeued]),
            ("jobs", fact.found),
        )
        if value
    }


def write_part(part: Part) -> WrittenPart:
    """A part's keys beside its chunk: none for a whole chunk that was in no bad job."""
    item: WrittenPart = {} if part.ranges is None else {"ranges": part.ranges}
    if bad_jobs := _RECHECK if part.recheck else part.bad_jobs:
        item["bad_jobs"] = bad_jobs
    if part.shared_bad_jobs:
        item["shared"] = part.shared_bad_jobs
    if part.unnamed:
        item["unnamed"] = part.unnamed
    if part.first is not None:
        item["first"] = part.first
    return item


def read_part(chunk: int, item: WrittenPart) -> Part:
    """What `write_part` wrote."""
    return make_part(
        chunk,
        item.get("ranges"),
        item.get("bad_jobs", 0),
        item.get("first"),
        item.get("shared", 0),
        item.get("unnamed", 0),
    )


def make_part(
    chunk: int,
    ranges: Iterable[tuple[int, int]] | None,
    bad_jobs: int,
    first: tuple[int, int] | None,
    shared: int,
    unnamed: int,
) -> Part:
    return Part(
        chunk,
        None if ranges is None else tuple([Range(start, stop) for start, stop in ranges]),
        max(0, bad_jobs),
        None if first is None else ProvisionalRange(*first),
        shared,
        unnamed,
        bad_jobs <= _RECHECK,
    )


def make_fact(kind: Kind, item: Item, at_s: float, server_s: float | None) -> Fact:
    key = AttemptKey(item.chunk, item.attempt)
    match kind:
        case Kind.SUBMITTING:
            return Submitting(key, item.part, at_s, item.credits, server_s, item.project_id, item.sent_ids)
        case Kind.SUBMITTED:
            return Submitted(key, _text_or_empty(item.job_id), at_s, item.project_id)
        case Kind.ADOPTED:
            return Adopted(key, _text_or_empty(item.job_id), at_s, item.project_id)
        case Kind.FINISHED:
            return Finished(key, _text_or_empty(item.status), item.duration_s, item.message)
        case _:
            tally = Tally(item.counts or {}, item.types or {}, item.failure_codes or {}, item.sums or {})
            segments = (_make_segment(item.results), _make_segment(item.failures), _make_segment(item.provisional))
            return Ended(key, kind, *segments, tally, item.parts_again, item.jobs)


def _make_segment(values: tuple[int, int, int] | None) -> Segment | None:
    return None if values is None else Segment(*values)


def _text_or_empty(words: str | None) -> str:
    if words is None:
        raise BadLineError("not a journal line: it doesn't say what its kind must")
    return words
