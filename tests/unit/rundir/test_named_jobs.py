"""Which jobs a journal names, for what, and how far back it has to be searched for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from functools import partial
from itertools import accumulate
from typing import Any

import anyio
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from classify_batch.lifecycle import Adopted, Ended, Finished, Recheck, Submitted, Submitting
from classify_batch.model import AttemptKey, Part, Range
from classify_batch.ports import NamedFor
from classify_batch.rundir.journal import named_jobs as searching
from classify_batch.rundir.journal.entry import decode_entry
from classify_batch.rundir.journal.reader import Reader
from classify_batch.rundir.journal.replay import RunSnapshot
from classify_batch.rundir.journal.writer import JournalWriter
from classify_batch.store.memory import MemoryStore
from classify_batch.vocabulary import Kind, Log

patient = settings(deadline=None)  # a busy machine is no fault

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]

CHUNKS = 40
LOTS = st.lists(st.integers(0, 1 << 20), min_size=40, max_size=160)


class Still:
    """A wall clock that stands still: nothing here may ask it."""

    def wall_s(self) -> float:
        return 1_700_000_000.0


class Life:
    """A run whose jobs are made by a server that stamps them by its own time, step by step.

    Attributes:
        made_s: when each job was made, by name.
    """

    def __init__(self, lots: list[int]) -> None:
        self._lots: Iterator[int] = iter(lots)
        self.server_s = 1000.0
        self.made_s: dict[str, float] = {}
        self.store = MemoryStore()
        self.writer = JournalWriter(self.store, RunSnapshot(CHUNKS), Still())
        self.begin()

    def draw(self, size: int) -> int:
        return next(self._lots, 0) % size

    def begin(self) -> None:
        """What a process reads of the list before its first create."""
        self.writer.learn_listed_s(self.server_s - self.draw(500))

    def take_over(self) -> None:
        """Another process goes on."""
        snapshot, reader = RunSnapshot(CHUNKS), Reader(Log.JOURNAL)
        for entry, offset in reader.read_block(self.journal()):
            snapshot.apply_entry(entry, offset)
        snapshot.end_reading()
        self.writer = JournalWriter(self.store, snapshot, Still())
        self.begin()

    def journal(self) -> bytes:
        self.writer.write()
        return self.store.crash(max).files.get(Log.JOURNAL, b"")

    def step(self) -> None:
        self.server_s += self.draw(100)
        (self._intend, self._accept, self._find, self.writer.write)[self.draw(4)]()

    def _intend(self) -> None:
        snapshot = self.writer.snapshot
        if (chunk := next(filter(snapshot.is_planned, range(CHUNKS)), None)) is not None:
            key = AttemptKey(chunk, 1)
            self.writer.record(Submitting(key, Part(chunk), 1.0, server_s=self.writer.server_s))

    def _made(self) -> tuple[str, float]:
        job_id, made_s = f"job-{len(self.made_s)}", self.server_s + self.draw(60)
        self.made_s[job_id] = made_s
        return job_id, made_s

    def _waiting(self) -> AttemptKey | None:
        return next(
            (key for key, open_attempt in self.writer.snapshot.open_attempts.items() if open_attempt.job_id is None),
            None,
        )

    def _accept(self) -> None:
        if (key := self._waiting()) is not None:
            job_id, made_s = self._made()
            self.writer.record((Submitted, Adopted)[self.draw(2)](key, job_id, 1.0, None, made_s))

    def _find(self) -> None:
        if (key := self._waiting()) is not None:
            job_id, made_s = self._made()
            self.writer.record(Ended(key, Kind.COLLECTED, found=(job_id,), created_at_s=made_s))

    def youngest_above(self, place: int) -> float:
        """The time of the youngest job that is named above a byte of the journal."""
        items = (item for line in self.journal()[:place].splitlines() for item in decode_entry(line).items)
        names = (name for item in items for name in (item.job_id, *item.jobs) if name is not None)
        return max((self.made_s[name] for name in names), default=0.0)


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    """For tests that make many small worlds."""
    return anyio.run(main, backend="asyncio")


async def search(life: Life) -> list[tuple[float, int]]:
    """Where the search begins, for every time that could be asked for."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(searching, "_BACK_BYTES", 700)  # many blocks, even of a short journal
        times = sorted({moment for made_s in life.made_s.values() for moment in (made_s, made_s + 0.5)})
        return [(server_s, await life.writer.begin_search_from(server_s)) for server_s in times]


def assert_no_younger_job_above(life: Life) -> None:
    data = life.journal()
    starts = {0, *accumulate(map(len, data.splitlines(keepends=True)))}
    for server_s, place in run(partial(search, life)):
        assert place in starts
        assert life.youngest_above(place) < server_s


@patient
@given(LOTS)
def test_no_younger_job_is_named_above_where_the_search_begins(lots: list[int]) -> None:
    """By the server's own time: whatever was read in which order, and however the lines were cut into blocks."""
    life = Life(lots)
    for _ in range(30):
        life.step()
    assert_no_younger_job_above(life)


@patient
@given(LOTS)
@example([3, 0, 3, 1, 0, 1, 0, 50, 1, 1])
def test_the_same_holds_where_other_processes_wrote_before(lots: list[int]) -> None:
    """What an earlier process had read of the server's time and never written down makes no younger job older."""
    life = Life(lots)
    for _ in range(30):
        if not life.draw(8):
            life.take_over()
        life.step()
    assert_no_younger_job_above(life)


def test_the_same_holds_where_an_older_version_wrote_before() -> None:
    """It wrote no times down: what the list shows later may be older than the jobs that the journal names."""
    life = Life([])
    life.writer = JournalWriter(life.store, RunSnapshot(CHUNKS), Still())
    key = AttemptKey(0, 1)
    life.writer.record(Submitting(key, Part(0), 1.0))
    life.writer.record(Submitted(key, "old", 1.0))
    life.made_s["old"] = life.server_s = 2000.0
    snapshot = RunSnapshot(CHUNKS)
    for entry, offset in Reader(Log.JOURNAL).read_block(life.journal()):
        snapshot.apply_entry(entry, offset)
    life.writer = JournalWriter(life.store, snapshot, Still())
    life.writer.learn_listed_s(1500.0)
    for _ in range(9):
        life._intend()
        life.writer.write()
    assert_no_younger_job_above(life)


async def test_a_long_journal_is_searched_from_near_its_end() -> None:
    """However many jobs it names, and whatever any clock of ours says; all of it, where no time is known."""
    life = Life([])
    for number in range(3000):
        life.server_s = 1000.0 + number
        key = AttemptKey(0, number + 1)
        part = Part(0) if number == 0 else Part(0, (Range(0, 1),))
        life.writer.record(Submitting(key, part, 1.0, server_s=life.writer.server_s))
        life.writer.record(Submitted(key, f"job-{number}", 1.0, None, life.server_s))
        life.writer.record(Ended(key, Kind.COLLECTED, requeued=(Part(0, (Range(0, 1),)),)))
        life.writer.write()
    end = len(life.journal())
    recent = await life.writer.begin_search_from(life.server_s - 60.0)
    assert end - 200_000 < recent < end
    assert await life.writer.begin_search_from(None) == await life.writer.begin_search_from(0.0) == 0
    asked = [f"job-{number}" for number in range(3000)]
    known, to = await life.writer.named_jobs(asked, recent)
    assert set(asked[-61:]) <= known.keys() < set(asked)
    assert known.keys() == set(asked[-len(known) :])
    assert to == end
    assert (await life.writer.named_jobs(asked, 0))[0].keys() == set(asked)


# --- What they are named for ------------------------------------------------------------------------------------------


def begun(writer: JournalWriter, chunk: int) -> AttemptKey:
    key = AttemptKey(chunk, writer.allot_attempt(chunk))
    writer.record(Submitting(key, Part(chunk) if key.attempt == 1 else Part(chunk, (Range(0, 1),)), 1.0))
    return key


def found(writer: JournalWriter, chunk: int, *job_ids: str) -> None:
    """A chunk's create was not answered, and these jobs held its files; one of these goes out again."""
    again = (Part(chunk, (Range(0, 1),)),)
    writer.record(Ended(begun(writer, chunk), Kind.COLLECTED, requeued=again, found=job_ids))


@pytest.mark.parametrize("kind", [Submitted, Adopted])
@pytest.mark.parametrize("together", [True, False])
async def test_a_job_is_named_for_the_chunks_that_found_it_or_is_ours(
    kind: Callable[[AttemptKey, str, float], Submitted | Adopted], together: bool
) -> None:
    """Whose create was answered with it, by name or in the list, has it for good, whoever else found it before or
    after. Words that look like a job's name are none."""
    writer = JournalWriter(MemoryStore(), RunSnapshot(CHUNKS), Still())

    def break_line() -> None:
        if not together:
            writer.write()

    found(writer, 0, "found", "ours later")
    break_line()
    found(writer, 7, "found", "another's")
    break_line()
    for chunk, job_id in ((1, "ours"), (2, "ours later")):
        key = begun(writer, chunk)
        writer.record(kind(key, job_id, 1.0))
        writer.record(Finished(key, "ERROR", None, 'the job "job_id":"only words","jobs":["only words"]'))
        break_line()
    found(writer, 3, "ours")
    asked = ["found", "ours", "ours later", "only words", "never heard of"]
    named, _ = await writer.named_jobs(asked, 0)
    expected: dict[str, NamedFor] = {"found": frozenset({0, 7}), "ours": None, "ours later": None}
    assert named == expected


async def test_a_job_that_is_looked_at_again_is_ours() -> None:
    """A reopening names it; one that says nothing of a job names none."""
    writer = JournalWriter(MemoryStore(), RunSnapshot(CHUNKS), Still())
    for chunk in range(2):
        writer.record(Ended(begun(writer, chunk), Kind.COLLECTED))
    old: Recheck = {"attempt": 1, "attempts": 1, "since": "2026-11-22T02:04:16.123Z"}
    looks: list[Recheck] = [{"chunk": 0, "job_id": "old", **old}, {"chunk": 1, **old}]
    writer.record_about_run(Kind.REOPENED, {"generation": 1, "again": [], "looks": looks})
    assert (await writer.named_jobs(["old", "other"], 0))[0] == {"old": None}


async def test_a_job_is_named_in_any_spelling() -> None:
    """By its key, wherever the journal has it; an ID that is no UUID is another one in another case."""
    spelled = [f"0A6B7C1E-3D2F-4A5B-8C9D-0E1F2A3B4C5{digit}" for digit in "ABC"]
    keys = [each.lower() for each in spelled]
    writer = JournalWriter(MemoryStore(), RunSnapshot(CHUNKS), Still())
    found(writer, 0, spelled[0])
    writer.record(Submitted(key := begun(writer, 1), spelled[1], 1.0))
    assert (writer.attempt_of_job(spelled[1]), writer.attempt_of_job(keys[1])) == (key, key)
    writer.record(Ended(begun(writer, 2), Kind.COLLECTED))
    recheck: Recheck = {"chunk": 2, "job_id": spelled[2], "attempt": 1, "attempts": 1, "since": "2026-11-22T02:04:16Z"}
    writer.record_about_run(Kind.REOPENED, {"generation": 1, "again": [], "looks": [recheck]})
    found(writer, 3, "DFL-1")
    expected: dict[str, NamedFor] = {keys[0]: frozenset({0}), keys[1]: None, keys[2]: None}
    for asked in (spelled, keys):
        assert (await writer.named_jobs([*asked, "dfl-1"], 0))[0] == expected


async def test_a_search_goes_on_where_the_last_one_ended() -> None:
    """What was named before is not named again, and what was recorded by then is."""
    writer = JournalWriter(MemoryStore(), RunSnapshot(CHUNKS), Still())
    found(writer, 0, "a")
    first, place = await writer.named_jobs(["a", "b"], 0)
    found(writer, 1, "b")
    second, end = await writer.named_jobs(["a", "b"], place)
    assert (first, second) == ({"a": frozenset({0})}, {"b": frozenset({1})})
    assert await writer.named_jobs(["a", "b"], end) == ({}, end)


class Choppy(MemoryStore):
    """A medium that gives a file out in small pieces."""

    async def stream(self, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        data = await self.read(name, start, end)
        for at in range(0, len(data), 7):
            yield data[at : at + 7]


async def test_lines_may_come_in_pieces() -> None:
    """The names, and the place where they ended, don't depend on it."""
    found_in = []
    for store in (MemoryStore(), Choppy()):
        writer = JournalWriter(store, RunSnapshot(CHUNKS), Still())
        found(writer, 0, "a")
        writer.record(Submitted(begun(writer, 1), "b", 1.0))
        found_in.append(await writer.named_jobs(["a", "b"], 0))
    assert found_in[0] == found_in[1]
    assert found_in[0][0] == {"a": frozenset({0}), "b": None}


# --- The journals of other shards -------------------------------------------------------------------------------------


async def test_siblings_jobs_are_named_too() -> None:
    """What another shard's create was answered with is nobody's candidate here; what its files were found in says so by
    its chunks, whose numbers are the whole plan's. Each is named once, also one that is written down later."""
    other, mine = MemoryStore(), MemoryStore()
    sibling = JournalWriter(other, RunSnapshot(CHUNKS, CHUNKS), Still())
    writer = JournalWriter(mine, RunSnapshot(CHUNKS), Still(), siblings=[other, MemoryStore()])
    key = begun(sibling, CHUNKS)
    sibling.record(Submitted(key, "theirs", 1.0))
    found(sibling, CHUNKS + 3, "found by both", "found by them")
    found(writer, 1, "found by both")
    await sibling.wait_durable()
    asked = ["theirs", "found by both", "found by them", "later", "never heard of"]
    start = await writer.begin_search_from(None)
    named, start = await writer.named_jobs(asked, start)
    assert named == {
        "theirs": None,
        "found by both": frozenset({1, CHUNKS + 3}),
        "found by them": frozenset({CHUNKS + 3}),
    }
    assert await writer.named_jobs(asked, start) == ({}, start)
    key = begun(sibling, CHUNKS + 1)
    sibling.record(Submitted(key, "later", 1.0))
    await sibling.wait_durable()
    assert (await writer.named_jobs(asked, start))[0] == {"later": None}
    await writer.begin_search_from(None)  # other jobs are asked for
    assert (await writer.named_jobs(["theirs", "later"], start))[0] == {"theirs": None, "later": None}


@pytest.mark.parametrize("cut", range(1, 12))
async def test_a_siblings_torn_line_is_passed_over(cut: int) -> None:
    """Its last line may just be written, or be torn and cut off by whoever takes it over: nothing here is damaged."""
    other = MemoryStore()
    sibling = JournalWriter(other, RunSnapshot(CHUNKS), Still())
    for chunk in range(3):
        sibling.record(Submitted(begun(sibling, chunk), f"job-{chunk}", 1.0))
        await sibling.wait_durable()
    data = other.files[Log.JOURNAL]
    torn = MemoryStore({Log.JOURNAL: data[: -10 * cut]})
    writer = JournalWriter(MemoryStore(), RunSnapshot(CHUNKS), Still(), siblings=[torn])
    begun(writer, 0)
    asked = [f"job-{chunk}" for chunk in range(3)]
    await writer.begin_search_from(None)
    named, _ = await writer.named_jobs(asked, 0)
    assert set(named) <= set(asked)
    await torn.remove(Log.JOURNAL)
    await torn.create(Log.JOURNAL, data[:40] + b"\n" + data)
    assert (await writer.named_jobs(asked, 0))[0].keys() | named.keys() == set(asked)


# --- The latest jobs --------------------------------------------------------------------------------------------------


def _record_created(writer: JournalWriter, numbers: Iterable[int]) -> None:
    """Jobs are answered, one a second by the server's clock, and written down one by one."""
    for number in numbers:
        key = AttemptKey(number, 1)
        writer.record(Submitting(key, Part(number), 1.0))
        writer.write()
        writer.record(Submitted(key, f"job-{number}", 1.0, None, 1000.0 + number))
        writer.write()


async def test_the_latest_jobs_are_read_from_the_journals_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oldest first, with the server's time as it was known; what a part of a line at the cut says is passed over."""
    monkeypatch.setattr(searching, "_BACK_BYTES", 700)
    life = Life([])
    _record_created(life.writer, range(20))
    jobs = await life.writer.latest_jobs()
    assert 1 <= len(jobs) <= 4
    assert list(jobs.items()) == [(f"job-{number}", 1000.0 + number) for number in range(20 - len(jobs), 20)]


async def test_the_latest_jobs_are_found_behind_much_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that were found for lost creates are not answers to creates, however many lines name them."""
    monkeypatch.setattr(searching, "_BACK_BYTES", 700)
    life = Life([])
    _record_created(life.writer, range(3))
    for number in range(3, 20):
        key = AttemptKey(number, 1)
        life.writer.record(Submitting(key, Part(number), 1.0))
        life.writer.write()
        life.writer.record(Ended(key, Kind.COLLECTED, found=(f"found-{number}",), created_at_s=2000.0))
        life.writer.write()
    assert list(await life.writer.latest_jobs())[-1] == "job-2"


async def test_a_journal_without_jobs_has_no_latest_ones() -> None:
    """Nothing was answered yet, in an empty journal and in one of intents."""
    life = Life([])
    assert await life.writer.latest_jobs() == {}
    life.writer.record(Submitting(AttemptKey(0, 1), Part(0), 1.0))
    assert await life.writer.latest_jobs() == {}
