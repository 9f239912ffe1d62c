"""The journal of a real run, cut at every byte and appended to again."""

from __future__ import annotations

import anyio
import pytest
from trio.testing import MockClock

from classify_batch.errors import DamagedError, StoreError
from classify_batch.lifecycle import Ended, Submitted, Submitting
from classify_batch.model import AttemptKey, Part
from classify_batch.rundir.journal.entry import encode_about_run
from classify_batch.rundir.journal.reader import Reader
from classify_batch.rundir.journal.replay import RunSnapshot
from classify_batch.rundir.journal.writer import JournalWriter
from classify_batch.rundir.opened_run import RunOnDisk, cut_off_tails, read_run
from classify_batch.store.memory import MemoryStore
from classify_batch.vocabulary import Kind, Log
from tests.support.simulated_run import laboratory

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """A run with a bit of everything in it, complete."""

    async def run() -> dict[str, bytes]:
        faults = {"poison": {"file-1"}, "null_result": 0.2}
        with laboratory(5, files_per_job=3, faults=faults, limits={"attempts": 2}, seed=4) as lab:
            await lab.run()
            assert await lab.judge() == {}
            return lab.store.files

    return anyio.run(run, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


class Fixed:
    """A wall clock that stands."""

    def wall_s(self) -> float:
        return 1_700_000_000.0


async def found_in(store: MemoryStore) -> RunOnDisk:
    found = await read_run(store)
    assert found is not None
    return found


def snapshot_after(lines: list[bytes], chunks: int) -> RunSnapshot:
    snapshot = RunSnapshot(chunks)
    for entry, offset in Reader("journal.jsonl").read_block(b"".join(lines)):
        snapshot.apply_entry(entry, offset)
    return snapshot


def has_both_kinds_of_outcome(files: dict[str, bytes]) -> bool:
    return bool(files[Log.RESULTS] and files[Log.FAILURES])


async def test_a_cut_journal_is_a_prefix_and_goes_on(files: dict[str, bytes]) -> None:
    """Cut at every byte: what is read is the whole lines before the cut, and what is appended then is read, too."""
    assert has_both_kinds_of_outcome(files)
    journal = files[Log.JOURNAL]
    lines = journal.splitlines(keepends=True)
    head = {name: data for name, data in files.items() if name != "manifest.json"}
    for cut in range(len(journal) + 1):
        store = MemoryStore({**head, Log.JOURNAL: journal[:cut]})
        found = await found_in(store)
        whole = journal[:cut].count(b"\n")
        assert found.snapshot.seq == whole
        assert found.journal_end == sum(map(len, lines[:whole]))
        assert found.torn_bytes == cut - found.journal_end
        await cut_off_tails(store, found)
        writer = JournalWriter(store, found.snapshot, Fixed())
        writer.record_about_run(Kind.OPENED, {"run_sha256": found.run_sha256})
        await writer.wait_durable()
        again = await found_in(store)
        assert (again.snapshot.seq, again.torn_bytes) == (whole + 1, 0)
        assert again.snapshot.outcomes == found.snapshot.outcomes
        assert store.files[Log.RESULTS] == files[Log.RESULTS][: found.snapshot.results_end]
        assert store.files[Log.FAILURES] == files[Log.FAILURES][: found.snapshot.failures_end]


async def test_lines_that_come_after_the_reading_are_never_cut_off(files: dict[str, bytes]) -> None:
    """A process that the lock didn't keep out may have sent what stands there: this one ends, and cuts nothing."""
    lines = files[Log.JOURNAL].splitlines(keepends=True)
    head = {name: data for name, data in files.items() if name != "manifest.json"}
    for torn in (b"", lines[9][:-4]):
        read = b"".join(lines[:9]) + torn
        store = MemoryStore({**head, Log.JOURNAL: read})
        found = await found_in(store)
        grown = MemoryStore({**head, Log.JOURNAL: read + lines[9]})
        with pytest.raises(StoreError, match="another process is at work"):
            await cut_off_tails(grown, found)
        assert grown.files[Log.JOURNAL] == read + lines[9]


async def test_a_prefix_stands_where_the_run_stood(files: dict[str, bytes]) -> None:
    """Line by line: what is open, what waits and what is committed is what the lines so far say, and no more."""
    lines = files[Log.JOURNAL].splitlines(keepends=True)
    for count in range(len(lines) + 1):
        head = {name: data for name, data in files.items() if name != "manifest.json"}
        found = (await found_in(MemoryStore({**head, Log.JOURNAL: b"".join(lines[:count])}))).snapshot
        lived = snapshot_after(lines[:count], len(found.chunk_states))
        assert found.open_attempts == lived.open_attempts
        assert found.waiting_parts() == lived.waiting_parts()
        assert (found.results_end, found.failures_end) == (lived.results_end, lived.failures_end)


async def test_a_cut_that_the_manifest_knows_better_is_damage(files: dict[str, bytes]) -> None:
    """A complete run's manifest says how many lines there were: cut at any byte, that is damage and no tail."""
    journal = files[Log.JOURNAL]
    for cut in range(len(journal)):
        whole = journal[:cut].count(b"\n")
        with pytest.raises(DamagedError, match=f"line {whole + 1}, byte "):
            await read_run(MemoryStore({**files, Log.JOURNAL: journal[:cut]}))


async def test_lines_of_another_run_are_damage(files: dict[str, bytes]) -> None:
    """A journal belongs to one run.json: under another one it is refused."""
    lines = files[Log.JOURNAL].splitlines(keepends=True)
    lines[0] = encode_about_run(1, 1.0, 0, Kind.OPENED, {"run_sha256": "0" * 64})
    with pytest.raises(DamagedError, match=r"run\.json in memory is not the one"):
        await read_run(MemoryStore({**files, Log.JOURNAL: b"".join(lines)}))


async def test_sound_lines_that_contradict_each_other_are_damage(files: dict[str, bytes]) -> None:
    """A journal can be whole by its checksums and still say what no run can have done."""
    store = MemoryStore({**files, Log.JOURNAL: b""})
    writer = JournalWriter(store, RunSnapshot(3), Fixed())
    key = AttemptKey(0, 1)
    for fact in (Submitting(key, Part(0), 1.0), Submitted(key, "j", 1.0), Ended(key, Kind.COLLECTED)):
        writer.record(fact)
    writer.write()
    sound = store.crash(max).files[Log.JOURNAL].splitlines(keepends=True)
    other = MemoryStore({**files, Log.JOURNAL: b""})
    snapshot = RunSnapshot(3)
    snapshot.seq = 3
    liar = JournalWriter(other, snapshot, Fixed())
    liar.record(Submitting(AttemptKey(0, 2), Part(0), 1.0))
    liar.write()
    lie = other.crash(max).files[Log.JOURNAL]
    data = b"".join([*sound, lie])
    with pytest.raises(DamagedError, match=f"line 4, byte {len(data) - len(lie)}: what it says can't follow"):
        await read_run(MemoryStore({**files, Log.JOURNAL: data}))
