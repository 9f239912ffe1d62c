"""The sums of a journal: written now and then as a line, so that `status` reads the end and not the whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify_batch.errors import DamagedError
from classify_batch.lifecycle import Adopted, Ended, Fact, Finished, Recheck, Retried, Submitted, Submitting, Tally
from classify_batch.model import AttemptKey, Part, Segment
from classify_batch.operations import status
from classify_batch.rundir.journal.entry import decode_entry, encode_about_run, encode_facts
from classify_batch.rundir.journal.line import BadLineError, refuse_unsound, seal_line
from classify_batch.rundir.journal.replay import RunSnapshot
from classify_batch.rundir.journal.totals import TOTALS_EVERY_BYTES, Totals, read_totals
from classify_batch.rundir.journal.writer import JournalWriter
from classify_batch.store.memory import MemoryStore
from classify_batch.vocabulary import Kind, Log
from tests.support.journal_reading import replay

patient = settings(deadline=None)  # a busy machine is no fault


class Still:
    """A wall clock that stands still."""

    def wall_s(self) -> float:
        return 1_700_000_000.0


class Life:
    """A run in as many processes as the lots say, whose lines tell the sums every `every` bytes."""

    def __init__(self, chunks: int, lots: list[int], every: int) -> None:
        self._lots: Iterator[int] = iter(lots)
        self.store = MemoryStore()
        self.snapshot = RunSnapshot(chunks)
        self.sent = 0
        self._every = every
        self._begin()
        for lot in self._lots:
            self._step(lot)

    def journal(self) -> bytes:
        self.writer.write()
        return self.store.crash(max).files.get(Log.JOURNAL, b"")

    def _draw(self, size: int) -> int:
        return next(self._lots, 0) % size

    def _begin(self) -> None:
        self.sent = 0
        data = self.journal() if hasattr(self, "writer") else b""
        self.snapshot = replay(data, len(self.snapshot.chunk_states))
        self.writer = JournalWriter(
            self.store,
            self.snapshot,
            Still(),
            lambda: self.sent,
            found=lambda: ({}, {"requests_per_s": 18.0}, {"jobs_in_flight": 5, "noise_share": 0.02})[self._draw(3)],
            totals_every_bytes=self._every,
        )
        self.writer.record_about_run(Kind.OPENED, {"limits": {}})

    def _step(self, lot: int) -> None:
        self.sent += 1
        if lot % 3 == 0:
            self.writer.write()
        fresh = [chunk for chunk in range(len(self.snapshot.chunk_states)) if self.snapshot.is_planned(chunk)]
        if lot % 11 == 0:
            if lot % 2:
                self.writer.record_about_run(Kind.CLOSED, {"requests": self.sent})
            self._begin()  # or after a kill
        elif lot % 13 == 0 and not self.snapshot.open_attempts:
            generation = self.snapshot.generation + 1
            looks = [self._make_recheck(chunk) for chunk in range(lot % 3) if self.snapshot.is_done(chunk)]
            if lot % 2:
                self.writer.record_about_run(Kind.REOPENED, {"generation": generation, "again": [], "looks": looks})
            else:
                self.writer.record_about_run(Kind.REOPENED, {"generation": generation, "retry_bytes": 9})
                taken: Retried = {"generation": generation, "taken": 9, "again": [], "looks": looks}
                self.writer.record_about_run(Kind.RETRIED, taken)
        elif lot % 2 and fresh:
            key = AttemptKey(fresh[0], 1)
            self.writer.record(Submitting(key, Part(fresh[0]), 1.0, self._draw(3) / 4))
            self.writer.record((Submitted, Adopted)[self._draw(2)](key, "j", 1.0))
        elif self.snapshot.open_attempts:
            self._end(next(iter(self.snapshot.open_attempts)))

    def _make_recheck(self, chunk: int) -> Recheck:
        job: Recheck = {"chunk": chunk, "attempt": 1, "attempts": 1, "job_id": "j", "since": "2026-11-22T02:04:16.123Z"}
        counted: tuple[Recheck, ...] = ({}, {"credits": 1.5}, {"billed": 2, "unbilled": 1})
        return {**job, **counted[self._draw(3)]}

    def _end(self, key: AttemptKey) -> None:
        failed, answered = self._draw(3), 1 + self._draw(3)
        ends = ((self.snapshot.results_end, answered), (self.snapshot.failures_end, failed))
        results, failures = (Segment(end, end + size, 0) for end, size in ends)
        counts = {"classified": answered} | ({"failed": failed} if failed else {})
        codes = {("overdue", "rejected")[self._draw(2)]: failed} if failed else {}
        sums = {("credits", "accepted")[self._draw(2)]: answered - 1.5}
        tally = Tally(counts, {("a", "totals")[self._draw(2)]: answered}, codes, sums)
        self.writer.record(Finished(key, "SUCCESS", None, '"totals":{'))
        self.writer.record(Ended(key, Kind.COLLECTED, results, failures, None, tally))


def sums(totals: Totals) -> dict[str, Any]:
    counts = (+totals.outcomes, +totals.types, +totals.codes, dict(totals.sums))
    return {
        "counts": counts,
        "found": totals.found,
        "jobs": totals.jobs,
        "requests": totals.requests,
        "seq": totals.seq,
    }


def of(data: bytes, known_durable: int = 0) -> Totals:
    return read_totals(lambda start, end: data[start:end], len(data), "journal.jsonl", known_durable)


LOTS = st.lists(st.integers(0, 1 << 20), max_size=60)
EVERY = st.sampled_from([1, 500, 2000, TOTALS_EVERY_BYTES])


@patient
@given(LOTS, EVERY)
def test_the_sums_are_those_of_all_lines(lots: list[int], every: int) -> None:
    """Kills, new chances for failures, sums on every line or on none: `status` says what a replay would."""
    data = Life(5, lots, every).journal()
    assert sums(of(data)) == sums(replay(data, 5))


@patient
@given(LOTS, EVERY, st.integers(0, 1 << 20))
def test_a_tail_that_is_being_written_is_left_out(lots: list[int], every: int, cut: int) -> None:
    """Cut at any byte, as a power loss or a look in the middle of a write does: the whole lines count."""
    data = Life(3, lots, every).journal()
    data = data[: cut % (len(data) + 1)]
    assert sums(of(data)) == sums(replay(data, 3))


@patient
@given(LOTS, st.integers(0, 1 << 20))
def test_an_old_journal_is_summed_up_whole(lots: list[int], where: int) -> None:
    """One that tells no sums, and one that does only up to some line, since an older version went on with it."""
    lines = Life(4, lots, 500).journal().splitlines(keepends=True)
    last = where % (len(lines) + 1)
    data = b"".join(lines[:last] + [without_sums(line) for line in lines[last:]])
    assert sums(of(data)) == sums(replay(data, 4))


def without_sums(line: bytes) -> bytes:
    body = json.loads(line)
    kept = {key: value for key, value in body.items() if key not in ("totals", "crc")}
    return seal_line(json.dumps(kept, separators=(",", ":")).encode())


def long_life(jobs: int, found: dict[str, float] | None = None) -> bytes:
    store, snapshot = MemoryStore(), RunSnapshot(jobs)
    writer = JournalWriter(store, snapshot, Still(), found=lambda: found or {})
    for chunk in range(jobs):
        key = AttemptKey(chunk, 1)
        facts: list[Fact] = [Submitting(key, Part(chunk), 1.0), Submitted(key, f"job-{chunk}", 1.0, "project")]
        facts.append(Finished(key, "SUCCESS", 1.0))
        facts.append(Ended(key, Kind.COLLECTED, tally=Tally({"classified": 100}, {"a": 100})))
        for fact in facts:
            writer.record(fact)
        writer.write()
    return store.crash(max).files[Log.JOURNAL]


def test_only_the_end_of_a_long_journal_is_read() -> None:
    """However long it is: sums are never further away than what `status` reads in a blink, and cost next to nothing."""
    data = long_life(3000)
    looked: list[int] = []

    def read(start: int, end: int) -> bytes:
        looked.append(end - start)
        return data[start:end]

    found = read_totals(read, len(data), "journal.jsonl")
    assert sums(found) == sums(replay(data, 3000))
    assert (found.jobs, found.outcomes.total()) == (3000, 300_000)
    assert sum(looked) < 4 * TOTALS_EVERY_BYTES < len(data) / 4
    told = [line for line in data.splitlines() if b'"totals":{' in line]
    assert len(data) // TOTALS_EVERY_BYTES - 1 <= len(told) <= len(data) // TOTALS_EVERY_BYTES
    assert sum(map(len, told)) < 0.01 * len(data)


SUBMITTING = [encode_facts(seq, 1.0, 0, [Submitting(AttemptKey(seq, 1), Part(seq), 1.0)]) for seq in range(1, 5)]


@pytest.mark.parametrize(
    ("lines", "known", "words"),
    [
        (SUBMITTING[:2], 3, "line 3, byte .*: cut off; 3 lines"),
        ([*SUBMITTING[:2], b"?\n", SUBMITTING[3]], 3, "line 3, byte .*: not a line as it was written"),
        ([SUBMITTING[0], *SUBMITTING[2:]], 4, "line 2, byte .*: seq 3 follows seq 1"),
        ([b"?\n", encode_about_run(2, 1.0, 1, Kind.OPENED, {})], 0, "line 1, byte 0: not a line"),
    ],
)
def test_lines_that_were_durable_and_are_gone_are_damage(lines: list[bytes], known: int, words: str) -> None:
    """The manifest, or a later line, swears that they were on the disk."""
    with pytest.raises(DamagedError, match=f"journal.jsonl, {words}"):
        of(b"".join(lines), known)


def test_sums_stand_on_a_line_of_any_kind() -> None:
    """They are what all lines before it add up to, and readers of single lines don't mind them."""
    fact = Submitting(AttemptKey(0, 1), Part(0), 1_700_000_000.0)
    snapshot = replay(long_life(2), 2)
    line = encode_facts(9, fact.since_s, 8, [fact], 5, snapshot.sums_for_line(5))
    assert decode_entry(line[:-1]).facts == (fact,)
    found = of(b"x" * 40 + b"\n" + line)
    assert (found.seq, found.jobs, found.outcomes, found.requests) == (9, 2, {"classified": 200}, 5)


def test_status_knows_what_was_found_long_ago() -> None:
    """A limit that was written down once, at the beginning, is among the sums at the end."""
    found = {"creates_per_s": 18.0, "noise_share": 0.021}
    data = long_life(3000, found)
    assert data.count(b'"creates_per_s"') <= 2 + len(data) // TOTALS_EVERY_BYTES
    assert of(data).found == found


@pytest.mark.parametrize(("files", "state"), [(900, "complete"), (901, "incomplete")])
@pytest.mark.parametrize(("left", "seq"), [("running", 4), ("incomplete", 36), ("incomplete", 4)])
def test_status_tells_what_the_journal_says(tmp_path: Path, files: int, state: str, left: str, seq: int) -> None:
    """After a kill the manifest is that of the start: counts come from the journal, and stale sizes are not shown. Nor
    are those of an older manifest that was put back."""
    run = {"format": 1, "run_id": "r", "created_at": "", "settings": {}, "identity": {}, "duplicates": 0, "chunks": 9}
    (tmp_path / "run.json").write_text(json.dumps(run | {"files": files, "plan_sha256": ""}))
    (tmp_path / "journal.jsonl").write_bytes(long_life(9))
    manifest = {
        **dict.fromkeys(("files", "jobs", "requests"), 4),
        "journal_seq": seq,
        **dict.fromkeys(("reason", "exit_status", "stopped_at")),
        **{name: dict[str, int]() for name in ("counts", "types", "failure_codes")},
        "state": left,
        "run_id": "r",
        "started_at": "then",
        "outputs": {"plan.jsonl": {"lines": 9, "bytes": 9}},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    told = status.read_status(tmp_path)
    assert (told["state"], told["counts"], told["jobs"]) == (state, {"classified": 900, "unmatched": 0, "failed": 0}, 9)
    assert (told["started_at"], told["journal_seq"]) == ("then", 36)
    assert ("outputs" in told) == (seq == told["journal_seq"])


@patient
@given(st.binary(max_size=80).filter(lambda body: b"\n" not in body))
def test_a_seal_is_kept_by_its_line_alone(body: bytes) -> None:
    """A sealed line is sound, and every other one with the same checksum is not."""
    line = seal_line(b"{" + body + b"}")[:-1]
    refuse_unsound(line)
    for changed in (b" " + line, line + b" ", line[1:], line[:-1], line.replace(b"crc", b"CRC")):
        with pytest.raises(BadLineError):
            refuse_unsound(changed)
