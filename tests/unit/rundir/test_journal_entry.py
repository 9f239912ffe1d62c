"""A line of the journal: what is written is read back, and what was not written is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify_batch.lifecycle import Adopted, Ended, Fact, Finished, Submitted, Submitting, Tally, kind_of
from classify_batch.model import AttemptKey, Part, ProvisionalRange, Segment, to_ranges
from classify_batch.rundir.journal import entry as entry_module
from classify_batch.rundir.journal.entry import decode_entry, encode_about_run, encode_facts, read_part, write_part
from classify_batch.rundir.journal.line import BadLineError, seal_line
from classify_batch.vocabulary import Kind

patient = settings(deadline=None)  # a busy machine is no fault

ENDINGS = (Kind.COLLECTED, Kind.SPLIT, Kind.REJECTED)

# Whatever a server says, lone surrogates and control characters included.
WORDS = st.text(st.characters(exclude_categories=()), max_size=20) | st.sampled_from(['"', ',"crc":1}', "\\", "\n"])
MILLISECONDS = st.integers(0, 4_000_000_000_000).map(lambda value: value / 1000)
COUNTS = st.dictionaries(WORDS, st.integers(1, 500), max_size=3)
SEGMENTS = st.none() | st.builds(Segment, *[st.integers(0, 1 << 40)] * 2, st.integers(0, (1 << 32) - 1))
KEYS = st.builds(AttemptKey, st.integers(0, 10_000_000), st.integers(1, 1000))


CREDITS = st.integers(-1000, 1000) | st.sampled_from([0.0, 0.25, -7.5])


COUNT = st.integers(0, 1000)
LIMITS = st.dictionaries(WORDS, st.none() | COUNT | WORDS, max_size=3)
AGAIN = {"attempts": COUNT, "ranges": st.lists(st.tuples(COUNT, COUNT), max_size=2), "bad_jobs": st.just(-1)}
LOOKED_AT = {"job_id": WORDS, "since": WORDS, "server_s": MILLISECONDS, "project_id": WORDS, "credits": MILLISECONDS}
IN_HAND = {
    "again": st.lists(st.fixed_dictionaries({"chunk": COUNT}, optional=AGAIN), max_size=2),
    "looks": st.lists(
        st.fixed_dictionaries({"chunk": COUNT, "attempt": COUNT}, optional=AGAIN | LOOKED_AT), max_size=2
    ),
}
ABOUT_RUN: dict[Kind, st.SearchStrategy[dict[str, object]]] = {
    Kind.OPENED: st.fixed_dictionaries({}, optional={"run_sha256": WORDS, "accept_s": MILLISECONDS, "limits": LIMITS}),
    Kind.TUNED: st.fixed_dictionaries({"limits": LIMITS}),
    Kind.CLOSED: st.fixed_dictionaries(
        {}, optional={"state": WORDS, "reason": st.none() | WORDS, "exit_status": COUNT, "requests": COUNT}
    ),
    Kind.REOPENED: st.fixed_dictionaries({"generation": COUNT}, optional={"retry_bytes": COUNT, **IN_HAND}),
    Kind.RETRIED: st.fixed_dictionaries({"generation": COUNT, "taken": COUNT, **IN_HAND}),
}


@st.composite
def parts(draw: st.DrawFn, chunk: int) -> Part:
    positions = sorted(draw(st.sets(st.integers(0, 499), max_size=8)))
    ranges = draw(st.sampled_from([None, to_ranges(positions)]))
    first = draw(st.none() | st.builds(ProvisionalRange, st.integers(0, 99), st.integers(0, 1 << 40)))
    bad_jobs, shared, unnamed = (draw(st.integers(0, 99)) for _ in range(3))
    recheck = draw(st.booleans())
    return Part(chunk, ranges, 0 if recheck else bad_jobs, first, shared, unnamed, recheck)


@st.composite
def facts(draw: st.DrawFn, kind: Kind, at_s: float, server_s: float | None) -> Fact:
    key = draw(KEYS)
    match kind:
        case Kind.SUBMITTING:
            part, project_id = draw(parts(key.chunk)), draw(st.none() | WORDS)
            return Submitting(key, part, at_s, draw(CREDITS), server_s, project_id)
        case Kind.SUBMITTED:
            return Submitted(key, draw(WORDS), at_s, draw(st.none() | WORDS))
        case Kind.ADOPTED:
            return Adopted(key, draw(WORDS), at_s, draw(st.none() | WORDS))
        case Kind.FINISHED:
            return Finished(key, draw(WORDS), draw(st.none() | MILLISECONDS), draw(st.none() | WORDS))
        case _:
            again = draw(st.lists(parts(key.chunk), max_size=2))
            found = tuple(draw(st.lists(WORDS, max_size=2)))
            tally = Tally(draw(COUNTS), draw(COUNTS), draw(COUNTS), draw(st.dictionaries(WORDS, CREDITS, max_size=2)))
            return Ended(key, kind, draw(SEGMENTS), draw(SEGMENTS), draw(SEGMENTS), tally, tuple(again), found)


@st.composite
def batches(draw: st.DrawFn) -> tuple[float, list[Fact]]:
    kind = draw(st.sampled_from([Kind.SUBMITTING, Kind.SUBMITTED, Kind.ADOPTED, Kind.FINISHED, *ENDINGS]))
    at_s, server_s = draw(MILLISECONDS), draw(st.none() | MILLISECONDS)
    return at_s, draw(st.lists(facts(kind, at_s, server_s), min_size=1, max_size=4))


@patient
@given(batches(), st.integers(1, 1 << 53), st.integers(0, 1 << 53), st.none() | st.integers(0, 1 << 53), st.booleans())
def test_facts_are_read_back_as_they_were_written(
    batch: tuple[float, list[Fact]], seq: int, durable: int, requests: int | None, clocks_disagree: bool
) -> None:
    """Every fact, in batches of every size, with every word that a server may have said."""
    at_s, written = batch
    line = encode_facts(seq, at_s, durable, written, requests, clocks_disagree=clocks_disagree)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert line.isascii()
    entry = decode_entry(line[:-1])
    assert entry.facts == tuple(written)
    assert entry.kind is kind_of(written[0])
    assert (entry.seq, entry.at_s, entry.durable, entry.requests) == (seq, at_s, durable, requests)
    assert entry.clocks_disagree is clocks_disagree


@patient
@given(st.data(), st.sampled_from(list(ABOUT_RUN)))
def test_what_is_said_of_the_run_is_read_back(data: st.DataObject, kind: Kind) -> None:
    """The facts about the run as a whole keep their own keys, whatever other versions write beside them."""
    values = data.draw(ABOUT_RUN[kind])
    entry = decode_entry(encode_about_run(7, 1.5, 6, kind, values | {"from": "another version"})[:-1])
    assert (entry.seq, entry.at_s, entry.durable, entry.kind) == (7, 1.5, 6, kind)
    read = {
        Kind.OPENED: entry.opened,
        Kind.CLOSED: entry.closed,
        Kind.TUNED: entry.tuned,
        Kind.REOPENED: entry.reopened,
        Kind.RETRIED: entry.retried,
    }
    assert {name: each for name, each in read.items() if each is not None} == {kind: values}
    assert entry.facts == ()


@patient
@given(st.data(), batches())
def test_a_flipped_bit_is_refused(data: st.DataObject, batch: tuple[float, list[Fact]]) -> None:
    """A single bit, anywhere in any line, the checksum's own digits included."""
    line = bytearray(encode_facts(9, batch[0], 8, batch[1])[:-1])
    bit = data.draw(st.integers(0, 8 * len(line) - 1))
    line[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadLineError):
        decode_entry(bytes(line))


def test_every_flipped_bit_of_a_line_is_refused() -> None:
    """All of them, one after the other, for a line that has everything in it, and a type named like the checksum."""
    tally = Tally({"classified": 3, "failed": 1}, {"a": 2, "crc": 1}, {"rejected": 1}, {"credits": -7.5})
    again = (Part(4, to_ranges([0, 1]), 1, ProvisionalRange(7, 99), 2, 3),)
    segments = (Segment(10, 20, 123), Segment(0, 7, 9), Segment(7, 99, 5))
    fact = Ended(AttemptKey(4, 2), Kind.COLLECTED, *segments, tally, again, ("job", "another's"))
    line = encode_facts(12, 1_700_000_000.123, 11, [fact], 40, clocks_disagree=True)[:-1]
    for bit in range(8 * len(line)):
        flipped = bytearray(line)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadLineError):
            decode_entry(bytes(flipped))


@patient
@given(batches(), st.integers(0, 1 << 20))
def test_a_line_that_lost_a_byte_is_refused(batch: tuple[float, list[Fact]], where: int) -> None:
    """Cut short anywhere, or with a byte missing in the middle."""
    line = encode_facts(9, batch[0], 8, batch[1])[:-1]
    where %= len(line)
    for damaged in (line[:where], line[:where] + line[where + 1 :]):
        if damaged != line:
            with pytest.raises(BadLineError):
                decode_entry(damaged)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"null",
        b'{"seq":1}',
        b"\xff" * 40,
        b'{"seq":1,"crc":0}',
        b'{"seq":1,"at":"2026-01-01T00:00:00Z","kind":"opened","durable":0,"crc":}',
        encode_about_run(1, 0.0, 0, Kind.OPENED, {})[:-2],
    ],
)
def test_what_is_no_line_is_refused(line: bytes) -> None:
    """Garbage is reported as such, and never becomes another error."""
    with pytest.raises(BadLineError):
        decode_entry(line)


@patient
@given(batches(), st.integers(1, 1 << 53))
def test_both_readers_read_the_same(batch: tuple[float, list[Fact]], seq: int) -> None:
    """What msgspec is too strict for is read by json: which of the two it is makes no difference."""
    line = encode_facts(seq, batch[0], 0, batch[1], 7)[:-1]
    slow = entry_module._decode_by_json(line)
    assert decode_entry(line) == slow
    assert slow.facts == tuple(batch[1])


@pytest.mark.parametrize(
    "body",
    [
        b'{"seq":1,"at":"2026-01-01T00:00:00Z","kind":"submitting","durable":0}',
        b'{"seq":1,"at":"2026-01-01T00:00:00Z","kind":"submitting","durable":0,"items":[]}',
        b'{"seq":1,"at":"2026-01-01T00:00:00Z","kind":"submitting","durable":0,"items":[{"chunk":1}]}',
        b'{"seq":1,"at":"yesterday","kind":"submitting","durable":0,"items":[{"chunk":1,"attempt":1}]}',
        b'{"seq":1,"at":"2026-01-01T00:00:00Z","kind":"dreamt","durable":0,"items":[{"chunk":1,"attempt":1}]}',
        b'{"seq":"1","at":"2026-01-01T00:00:00Z","kind":"submitting","durable":0,"items":[{"chunk":1,"attempt":1}]}',
        b"[1,2]",
    ],
)
def test_a_sound_line_that_says_nothing_is_refused(body: bytes) -> None:
    """The checksum fits, and yet it is no line of ours."""
    with pytest.raises(BadLineError):
        decode_entry(seal_line(body)[:-1])


def test_readers_ignore_keys_that_they_do_not_know() -> None:
    """A later version may say more."""
    at = b'"at":"2026-01-01T00:00:00","kind":"submitted","durable":0'
    line = seal_line(b'{"seq":1,%s,"epoch":3,"items":[{"chunk":1,"attempt":1,"job_id":"j","account":"a"}]}' % at)
    assert decode_entry(line[:-1]).facts == (Submitted(AttemptKey(1, 1), "j", 1_767_225_600.0),)


@patient
@given(st.data())
def test_a_part_in_a_reopening_is_read_back(data: st.DataObject) -> None:
    """With all that it counts; and a whole chunk that was in no bad job says nothing."""
    part = data.draw(parts(3))
    assert read_part(3, json.loads(json.dumps(write_part(part)))) == part
    assert write_part(Part(3)) == {}


def test_a_line_of_an_older_version_is_read() -> None:
    """It knows nothing of shared bad jobs, of found jobs, and of the server's time."""
    line = seal_line(
        b'{"seq":1,"at":"2026-01-01T00:00:00Z","kind":"submitting","durable":0,'
        b'"items":[{"chunk":1,"attempt":1,"ranges":[[0,2]],"bad_jobs":2,"credits":15}]}'
    )
    entry = decode_entry(line[:-1])
    assert entry.facts == (Submitting(AttemptKey(1, 1), Part(1, to_ranges([0, 1]), 2), 1_767_225_600.0, 15),)
    assert (entry.server_s, entry.clocks_disagree) == (None, False)
