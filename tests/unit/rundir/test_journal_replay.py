"""A journal read back: a torn tail is distinguished from damage, and what is replayed is what was lived."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify_batch.errors import DamagedError, InternalError
from classify_batch.lifecycle import (
    Adopted,
    Ended,
    Fact,
    Finished,
    Submitted,
    Submitting,
    Tally,
    after_bad_job,
    after_missing,
    remainder,
    split_in_halves,
)
from classify_batch.model import AttemptKey, Part
from classify_batch.rundir.journal.entry import Entry, decode_entry, encode_about_run, encode_facts
from classify_batch.rundir.journal.plain import decode_plain
from classify_batch.rundir.journal.reader import Reader
from classify_batch.rundir.journal.replay import RunSnapshot
from classify_batch.rundir.journal.writer import JournalWriter
from classify_batch.store.memory import MemoryStore
from classify_batch.vocabulary import Kind, Log, State
from tests.support.journal_reading import as_if_read_singly, stands

patient = settings(deadline=None)  # a busy machine is no fault

FILES = 4
"""Files in each chunk of these runs."""


def line(seq: int, durable: int = 0) -> bytes:
    """A sound line whose writer knew the first `durable` lines to be on the disk."""
    return encode_facts(seq, 1.0, durable, [Submitting(AttemptKey(seq, 1), Part(seq), 1.0)])


def read(data: bytes, known_durable: int = 0, block_bytes: int = 1 << 16) -> tuple[list[int], int, int]:
    """What a reader makes of a journal: the seqs, where the good lines end, and the bytes of torn tail."""
    reader = Reader("journal.jsonl")
    blocks = (data[start : start + block_bytes] for start in range(0, len(data), block_bytes))
    seqs = [entry.seq for block in blocks for entry, _ in reader.read_block(block)]
    torn = reader.finish_reading(known_durable)
    assert reader.good_end + torn == len(data)
    return seqs, reader.good_end, torn


# --- Blocks and lines ------------------------------------------------------------------------------------------------


@patient
@given(st.integers(0, 8), st.integers(1, 300))
def test_blocks_may_end_anywhere(lines: int, block_bytes: int) -> None:
    """Entries and their offsets don't depend on how the bytes come."""
    written = [line(seq) for seq in range(1, lines + 1)]
    data = b"".join(written)
    reader = Reader("journal.jsonl")
    found: list[tuple[Entry, int]] = []
    for start in range(0, len(data), block_bytes):
        found += reader.read_block(data[start : start + block_bytes])
    assert [entry.seq for entry, _ in found] == list(range(1, lines + 1))
    assert all(data[offset:].startswith(each) for (_, offset), each in zip(found, written, strict=True))
    assert reader.finish_reading() == 0


@patient
@given(st.integers(1, 8), st.data())
def test_a_torn_tail_is_cut_off_from_its_first_bad_line(lines: int, data: st.DataObject) -> None:
    """Behind the last seq known durable, a power loss may have dropped a line and kept the next: both are the tail."""
    bad = data.draw(st.integers(1, lines))
    durable = data.draw(st.integers(0, bad - 1))
    written = [line(seq, min(seq - 1, durable)) for seq in range(1, lines + 1)]
    before = b"".join(written[: bad - 1])
    spoilt = b"\0" * data.draw(st.integers(1, 200)) + b"\n"
    assert read(before + spoilt + b"".join(written[bad:])) == (
        list(range(1, bad)),
        len(before),
        len(spoilt) + sum(map(len, written[bad:])),
    )


@patient
@given(st.integers(2, 8), st.data())
def test_a_bad_line_that_was_durable_is_damage(lines: int, data: st.DataObject) -> None:
    """A later line swears that it was on the disk: named with file, line and byte, and nothing is cut off."""
    bad = data.draw(st.integers(1, lines - 1))
    witness = data.draw(st.integers(bad + 1, lines))
    written = [line(seq, bad if seq == witness else 0) for seq in range(1, lines + 1)]
    start = sum(map(len, written[: bad - 1]))
    written[bad - 1] = b"?" + written[bad - 1][1:]
    with pytest.raises(DamagedError, match=f"journal.jsonl, line {bad}, byte {start}: (?!cut off)") as caught:
        read(b"".join(written))
    assert "nothing was overwritten" in caught.value.hint


def spoil(lines: list[bytes], number: int) -> list[bytes]:
    return [*lines[:number], lines[number].replace(b"submitting", b"submitted!"), *lines[number + 1 :]]


def remove(lines: list[bytes], number: int) -> list[bytes]:
    return lines[:number] + lines[number + 1 :]


def repeat(lines: list[bytes], number: int) -> list[bytes]:
    return [*lines[: number + 1], *lines[number:]]


def swap(lines: list[bytes], number: int) -> list[bytes]:
    return [*lines[:number], lines[number + 1], lines[number], *lines[number + 2 :]]


def merge(lines: list[bytes], number: int) -> list[bytes]:
    return [*lines[:number], lines[number][:-1], *lines[number + 1 :]]


@pytest.mark.parametrize("tamper", [spoil, remove, repeat, swap, merge])
@pytest.mark.parametrize("number", range(4))
def test_lines_can_not_be_moved(tamper: Callable[[list[bytes], int], list[bytes]], number: int) -> None:
    """Spoilt, removed, repeated, swapped or run together: each is damage, at the line where it begins."""
    written = tamper([line(seq, seq - 1) for seq in range(1, 7)], number)
    at = number + (tamper is repeat)
    with pytest.raises(DamagedError, match=f"line {at + 1}, byte {sum(map(len, written[:at]))}: "):
        read(b"".join(written), known_durable=6)


@patient
@given(st.integers(0, 4), st.integers(0, 4))
def test_a_journal_that_is_shorter_than_the_manifest_says_is_damaged(lines: int, known: int) -> None:
    """Whole lines that are gone from the end are missed where it is known from elsewhere that they were there."""
    data = b"".join(line(seq) for seq in range(1, lines + 1))
    if lines >= known:
        assert read(data, known)[0] == list(range(1, lines + 1))
    else:
        with pytest.raises(DamagedError, match=f"line {lines + 1}, byte {len(data)}: cut off; {known} lines"):
            read(data, known)


def test_a_last_line_without_its_end_is_torn() -> None:
    """The newline belongs to the line: without it nobody knows whether all of it is there."""
    assert read(line(1) + line(2)[:-1]) == ([1], len(line(1)), len(line(2)) - 1)


# --- Where a run stands ----------------------------------------------------------------------------------------------


class Ticking:
    """A wall clock that goes on a little whenever it is read."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def wall_s(self) -> float:
        self.now_s += 0.0137
        return self.now_s


def replay(data: bytes, chunks: int) -> RunSnapshot:
    snapshot, reader = RunSnapshot(chunks), Reader("journal.jsonl")
    for entry, offset in reader.read_block(data):
        snapshot.apply_entry(entry, offset)
    assert reader.finish_reading() == 0
    snapshot.end_reading()
    return snapshot


class Life:
    """A run as the stages would live it, one random step after the other."""

    def __init__(self, chunks: int, draw: Callable[[int], int]) -> None:
        self.store = MemoryStore()
        self.clock = Ticking()
        self.writer = JournalWriter(self.store, RunSnapshot(chunks), self.clock)
        self.snapshot = self.writer.snapshot
        self._draw = draw
        self.writer.record_about_run(Kind.OPENED, {"limits": {}})

    def step(self) -> None:
        if not self._draw(3):
            self.writer.write()  # so that what waits together is now a line each, now all of it
        snapshot = self.snapshot
        fresh = [Part(chunk) for chunk in range(len(snapshot.chunk_states)) if snapshot.is_planned(chunk)]
        choices: list[Part | AttemptKey] = [*fresh, *snapshot.waiting_parts(), *snapshot.open_attempts]
        if choices:
            if not self._draw(50):
                self.writer.record_clocks_disagree()
            choice = choices[self._draw(len(choices))]
            if isinstance(choice, Part):
                key = AttemptKey(choice.chunk, self.writer.allot_attempt(choice.chunk))
                server_s, project_id = self.writer.server_s, ("project", None)[self._draw(2)]
                self.writer.record(
                    Submitting(key, choice, self.clock.wall_s(), self._draw(4) / 2, server_s, project_id)
                )
            else:
                self._go_on(choice)

    def _go_on(self, key: AttemptKey) -> None:
        open_attempt = self.snapshot.open_attempts[key]
        at_s = self.clock.wall_s()
        if open_attempt.state is State.SUBMITTING:
            job_id, made_s = f"job-{key.chunk}-{key.attempt}", (None, at_s - self._draw(90))[self._draw(2)]
            steps: list[Callable[[], None]] = [
                lambda: self.writer.record(Submitted(key, job_id, at_s, "project", made_s)),
                lambda: self.writer.record(Adopted(key, job_id, at_s, "project", made_s)),
                lambda: self.writer.record(Submitting(key, open_attempt.part, open_attempt.since_s)),
                lambda: self._end(key, Kind.REJECTED, again=split_in_halves(open_attempt.part, self._positions(key))),
                lambda: self._end(
                    key, Kind.REJECTED, failed=1, again=remainder(open_attempt.part, self._positions(key)[1:])
                ),
                lambda: self._end(key, Kind.COLLECTED, failed=len(self._positions(key))),
                lambda: self._collect(key, found=(job_id, "another's"), made_s=made_s),
            ]
        elif open_attempt.state is State.SUBMITTED:
            steps = [
                lambda: self.writer.record(Finished(key, "SUCCESS", self._draw(5000) / 1000)),
                lambda: self._end(key, Kind.COLLECTED, failed=len(self._positions(key))),
            ]
        else:
            steps = [
                lambda: self.writer.record(Finished(key, "PARTIAL_SUCCESS")),
                lambda: self._collect(key),
                lambda: self._split(key),
            ]
        steps[self._draw(len(steps))]()

    def _positions(self, key: AttemptKey) -> list[int]:
        return self.snapshot.open_attempts[key].part.positions(FILES)

    def _collect(self, key: AttemptKey, found: tuple[str, ...] = (), made_s: float | None = None) -> None:
        part, positions = self.snapshot.open_attempts[key].part, self._positions(key)
        missing = positions[: self._draw(len(positions))]
        again = after_missing(part, len(positions), missing, 100)
        if found:
            again = remainder(part, missing, unnamed=part.unnamed + 1)
        self._end(key, Kind.COLLECTED, answered=len(positions) - len(missing), again=again, found=found, made_s=made_s)

    def _split(self, key: AttemptKey) -> None:
        part, suspect = self.snapshot.open_attempts[key].part, self.snapshot.other_file_suspected(key)
        again = after_bad_job(part, self._positions(key), 4, other_file_suspected=suspect)
        if again:
            self._end(key, Kind.SPLIT, again=again)
        else:
            self._end(key, Kind.COLLECTED, failed=1, code="job_error")

    def _end(
        self,
        key: AttemptKey,
        kind: Kind,
        *,
        answered: int = 0,
        failed: int = 0,
        code: str = "overdue",
        again: tuple[Part, ...] = (),
        found: tuple[str, ...] = (),
        made_s: float | None = None,
    ) -> None:
        lines = {Log.RESULTS: b"r" * 9 * answered, Log.FAILURES: b"f" * 7 * failed, Log.PROVISIONAL: b"p" * len(again)}
        results, failures, provisional = (self.writer.append(log, data) for log, data in lines.items())
        outcomes = {"classified": answered} if answered else {}
        codes = {code: failed} if failed else {}
        outcomes |= {"failed": failed} if failed else {}
        sums = {"credits": -self.snapshot.open_attempts[key].credits, "accepted": answered}
        tally = Tally(outcomes, {"a": answered} if answered else {}, codes, sums)
        self.writer.record(Ended(key, kind, results, failures, provisional, tally, again, found, made_s))

    def journal(self) -> bytes:
        self.writer.write()
        return self.store.crash(max).files[Log.JOURNAL]


@patient
@given(st.integers(1, 4), st.lists(st.integers(0, 1 << 20), max_size=60))
def test_a_replayed_run_stands_where_the_living_one_stands(chunks: int, lots: list[int]) -> None:
    """After every step of every life, the process that reads the journal goes on just where its writer would have."""
    draw: Iterator[int] = iter(lots)
    life = Life(chunks, lambda size: next(draw, 0) % size)
    for _ in lots:
        life.step()
    assert stands(replay(life.journal(), chunks)) == stands(life.snapshot)


@patient
@given(st.integers(1, 3), st.lists(st.integers(0, 1 << 20), max_size=40))
def test_no_file_is_in_nobodys_hands(chunks: int, lots: list[int]) -> None:
    """At every moment each file of a begun chunk has an outcome, or is out, or waits: exactly one of these."""
    draw: Iterator[int] = iter(lots)
    life = Life(chunks, lambda size: next(draw, 0) % size)
    for _ in lots:
        life.step()
        snapshot = life.snapshot
        planned = sum(snapshot.is_planned(chunk) for chunk in range(chunks))
        out = sum(len(open_attempt.part.positions(FILES)) for open_attempt in snapshot.open_attempts.values())
        waiting = sum(len(part.positions(FILES)) for part in snapshot.waiting_parts())
        assert FILES * planned + out + waiting + snapshot.outcomes.total() == FILES * chunks


@patient
@given(st.integers(1, 4), st.lists(st.integers(0, 1 << 20), max_size=60), st.data())
def test_lines_are_read_as_their_facts_are_lived(chunks: int, lots: list[int], data: st.DataObject) -> None:
    """Also several facts of a kind on one line: reading it is applying them, one after the other."""
    draw: Iterator[int] = iter(lots)
    life = Life(chunks, lambda size: next(draw, 0) % size)
    for _ in lots:
        life.step()
    entries = [entry for entry, _ in Reader("journal.jsonl").read_block(life.journal())][1:]
    lived, read_back, in_bulk = RunSnapshot(chunks), RunSnapshot(chunks), RunSnapshot(chunks)
    while entries:
        most = next((n for n, entry in enumerate(entries) if entry.kind is not entries[0].kind), len(entries))
        taken = data.draw(st.integers(1, most))
        facts = [fact for entry in entries[:taken] for fact in entry.facts]
        lived.seq += 1
        sealed = encode_facts(lived.seq, entries[0].at_s, 0, facts)
        written = decode_entry(sealed[:-1])
        for fact in written.facts:
            lived.apply_fact(fact, 7)
        read_back.apply_entry(written, 7)
        in_bulk.replay_line(decode_plain(sealed[:-1]), 7)
        entries = entries[taken:]
        assert stands(read_back) == stands(as_if_read_singly(in_bulk)) == stands(lived)


@patient
@given(st.integers(1, 4), st.lists(st.integers(0, 1 << 20), max_size=60))
def test_a_job_is_held_by_its_open_attempt(chunks: int, lots: list[int]) -> None:
    """From the moment at which it is named until its attempt ends, and by nobody else."""
    draw: Iterator[int] = iter(lots)
    life = Life(chunks, lambda size: next(draw, 0) % size)
    named: set[str] = set()
    for _ in lots:
        life.step()
        holding = {
            open_attempt.job_id: key
            for key, open_attempt in life.snapshot.open_attempts.items()
            if open_attempt.job_id is not None
        }
        named |= holding.keys()
        assert {job_id: life.writer.attempt_of_job(job_id) for job_id in named} == dict.fromkeys(named) | holding


@patient
@given(st.integers(1, 4), st.lists(st.integers(0, 1 << 20), max_size=60))
def test_no_attempt_is_thought_to_be_younger_than_it_was(chunks: int, lots: list[int]) -> None:
    """What a later process knows of the server's time before an intent is no later than what the intent knew."""
    draw: Iterator[int] = iter(lots)
    life = Life(chunks, lambda size: next(draw, 0) % size)
    for _ in lots:
        life.step()
    read_back = replay(life.journal(), chunks)
    for key, open_attempt in life.snapshot.open_attempts.items():
        known_s, read_s = open_attempt.server_s, read_back.open_attempts[key].server_s
        assert read_s is None or (known_s is not None and read_s <= known_s)
    assert read_back.clocks_disagree is life.snapshot.clocks_disagree


def test_requests_of_killed_processes_are_counted() -> None:
    """A process that was killed is counted with what it had written down last, and one that ended with all it sent."""
    snapshot = RunSnapshot(1)
    submitting = Submitting(AttemptKey(0, 1), Part(0), 1.0)
    lines = [
        encode_about_run(1, 1.0, 0, Kind.OPENED, {}),
        encode_facts(2, 1.0, 0, [submitting]),
        encode_facts(3, 1.0, 0, [Ended(submitting.key, Kind.REJECTED, requeued=(Part(0),))], requests=5),
        encode_about_run(4, 1.0, 0, Kind.OPENED, {}),  # killed after 5
        encode_about_run(5, 1.0, 0, Kind.CLOSED, {"requests": 7}),
        encode_about_run(6, 1.0, 0, Kind.OPENED, {}),
    ]
    for entry, offset in Reader("journal.jsonl").read_block(b"".join(lines)):
        snapshot.apply_entry(entry, offset)
    snapshot.end_reading()
    assert snapshot.requests == 12
    assert snapshot.closed is None


# --- What can't follow, and what follows -----------------------------------------------------------------------------

SUBMITTED = Submitted(AttemptKey(0, 1), "j", 1.0)
BEGUN = Submitting(AttemptKey(0, 1), Part(0), 1.0)


@pytest.mark.parametrize(
    "facts",
    [
        [SUBMITTED],
        [BEGUN, SUBMITTED, SUBMITTED],
        [BEGUN, Finished(AttemptKey(0, 1), "SUCCESS")],
        [BEGUN, Ended(AttemptKey(0, 1), Kind.COLLECTED), SUBMITTED],
    ],
    ids=["no intent", "two jobs", "no job", "after the end"],
)
def test_what_can_not_follow_is_refused(facts: list[Fact]) -> None:
    """Sound lines in an order that no run can have written."""
    snapshot = RunSnapshot(1)
    *before, last = facts
    for fact in before:
        snapshot.apply_fact(fact, 0)
    with pytest.raises(InternalError):
        snapshot.apply_fact(last, 0)


def test_found_limits_are_written_when_they_are_news() -> None:
    """A limit that was found, that moved by a tenth, or that is none any more is on the next line that ends an attempt;
    and a later process begins with it."""
    store, snapshot, found = MemoryStore(), RunSnapshot(9), dict[str, float]()
    writer = JournalWriter(store, snapshot, Ticking(), found=lambda: dict(found))
    said: list[dict[str, float] | None] = []
    for chunk, now in enumerate(
        [{}, {"requests_per_s": 20.0}, {"requests_per_s": 20.5}, {"requests_per_s": 15.0, "jobs_in_flight": 5}, {}, {}]
    ):
        found.clear()
        found.update(now)
        key = AttemptKey(chunk, 1)
        writer.record(Submitting(key, Part(chunk), 0.0))
        writer.record(Submitted(key, f"job-{chunk}", 0.0))
        writer.record(Finished(key, "ERROR", 1.0))
        writer.record(Ended(key, Kind.COLLECTED))
        writer.write()
        line = store.crash(max).files[Log.JOURNAL].splitlines()[-1]
        said.append(decode_entry(line).found)
        assert replay(store.crash(max).files[Log.JOURNAL], 9).found == snapshot.found
    assert said == [None, {"requests_per_s": 20.0}, None, {"requests_per_s": 15.0, "jobs_in_flight": 5}, {}, None]
