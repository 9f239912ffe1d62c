"""What a retry writes and takes: a line at a time, in little memory, each failed file once."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any
from zlib import crc32

import anyio
import pytest

from classify_batch.engine import retry_failed as module
from classify_batch.engine.retry_failed import read_failures, reopen_failed
from classify_batch.engine.shutdown import Shutdown
from classify_batch.errors import DamagedError
from classify_batch.lifecycle import Ended, Fact, Finished, Submitted, Submitting, Tally
from classify_batch.model import AttemptKey, Part, Range, Segment
from classify_batch.rundir.journal.reader import Reader
from classify_batch.rundir.journal.replay import RunSnapshot
from classify_batch.rundir.journal.writer import JournalWriter
from classify_batch.rundir.plan import PlanReader, write_plan
from classify_batch.rundir.retry_file import pending_retry_batches
from classify_batch.store.memory import MemoryStore
from classify_batch.vocabulary import Kind, Log
from tests.support.loop_clock import LoopClock

pytestmark = pytest.mark.anyio


class FailedRun:
    """A complete run all of whose files failed, with a store that reads in blocks as a disk does."""

    def __init__(self, chunks: int, files_per_job: int, code: str = "job_error") -> None:
        self.chunks, self.per_job, self.code = chunks, files_per_job, code
        self.store = BlockStore()
        self.plan = PlanReader(self.store)
        self.snapshot = RunSnapshot(chunks)
        self.files = chunks * files_per_job
        self.journal = JournalWriter(self.store, self.snapshot, LoopClock())

    async def make(self) -> None:
        async def chunks() -> AsyncIterator[list[str]]:
            for chunk in range(self.chunks):
                yield [f"file-{chunk}-{number}" for number in range(self.per_job)]

        await write_plan(self.store, chunks())
        await self.plan.scan_whole_file()
        for chunk in range(self.chunks):
            self.end(chunk, dict.fromkeys(range(self.per_job), self.code))
        await self.begin_anew()

    async def begin_anew(self) -> None:
        """As another process does."""
        self.snapshot = await self.read_again()
        self.store = BlockStore(self.store.files)
        await self.store.open_log(Log.JOURNAL, len(self.store.files[Log.JOURNAL]))
        self.journal = JournalWriter(self.store, self.snapshot, LoopClock())
        self.plan = PlanReader(self.store)
        await self.plan.scan_whole_file()

    def end(self, chunk: int, codes: dict[int, str]) -> None:
        """The life of a chunk whose files end so."""
        key = AttemptKey(chunk, 1)
        lines = [
            {"file_id": f"file-{chunk}-{number}", "outcome": "failed", "code": code, "message": "it is broken" * 5}
            | {"job_id": f"job-{chunk}", "chunk": chunk, "attempt": 1, "failed_at": "2026-11-22T02:04:16.123Z"}
            for number, code in codes.items()
        ]
        data = "".join(json.dumps(line) + "\n" for line in lines).encode()
        start = self.store.append(Log.FAILURES, data)
        segment = Segment(start, start + len(data), crc32(data))
        tally = Tally({"failed": len(lines)}, {}, dict(Counter(codes.values())))
        facts: list[Fact] = [
            Submitting(key, Part(chunk), 5.0, 5.0 * self.per_job, 1.7e9, "p"),
            Submitted(key, f"job-{chunk}", 6.0),
            Finished(key, "ERROR", 1.0),
            Ended(key, Kind.COLLECTED, failures=segment, tally=tally),
        ]
        for fact in facts:
            self.journal.record(fact)

    async def reopen(self) -> None:
        failed = await read_failures(self.store, self.snapshot, self.plan, self.files, Shutdown())
        assert failed is not None
        await reopen_failed(self.store, self.journal, failed)

    async def take(self, batches_max: int | None = None) -> list[dict[str, Any]]:
        """Takes batches into the run's hands; what they said, in their order."""
        taken: list[dict[str, Any]] = []
        async with aclosing(pending_retry_batches(self.store, self.snapshot)) as batches:
            async for batch in batches:
                if batches_max is not None and len(taken) == batches_max:
                    break
                self.journal.record_about_run(Kind.RETRIED, batch.as_retried())
                taken.append({"again": batch.requeued, "looks": batch.rechecks})
        return taken

    async def read_again(self) -> RunSnapshot:
        """What another process reads in the journal."""
        await self.journal.wait_durable()
        snapshot, reader = RunSnapshot(self.chunks), Reader("journal")
        for entry, offset in reader.read_block(self.store.files[Log.JOURNAL]):
            snapshot.apply_entry(entry, offset)
        assert reader.finish_reading() == 0
        return snapshot


class BlockStore(MemoryStore):
    """Reads in blocks of 64 KiB, and counts what is read of the plan."""

    plan_bytes = 0

    async def stream(self, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        if name not in self._files:
            raise FileNotFoundError(name)
        size = len(self._files[name]) if end is None else end
        for at in range(start, size, 1 << 16):
            await anyio.lowlevel.checkpoint()
            yield bytes(self._files[name][at : min(size, at + (1 << 16))])

    async def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        data = await super().read(name, start, end)
        self.plan_bytes += len(data) if name == "plan.jsonl" else 0
        return data


async def made(chunks: int, files_per_job: int, code: str = "job_error") -> FailedRun:
    run = FailedRun(chunks, files_per_job, code)
    await run.make()
    return run


# --- Memory and reading ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["job_error", "overdue"])
@pytest.mark.parametrize("files_per_job", [1, 20])
async def test_a_retry_takes_a_line_at_a_time(files_per_job: int, code: str) -> None:
    """No line of the journal, nor of the file that is taken from, grows with the failures; nor does what is held."""
    run = await made(6_000 // files_per_job, files_per_job, code)
    await run.reopen()
    assert max(map(len, run.store.files["retry.1.jsonl"].splitlines())) < 20_000
    first = await run.take(batches_max=1)
    assert sum(len(parts) for parts in first[0].values()) == module.PARTS_PER_BATCH
    assert len(run.snapshot.waiting_parts()) + len(run.snapshot.open_attempts) == module.PARTS_PER_BATCH
    assert not run.snapshot.complete
    await run.take()
    await run.journal.wait_durable()
    lines = [line for line in run.store.files[Log.JOURNAL].splitlines() if b'"kind":"retried"' in line]
    assert max(map(len, lines)) < 20_000
    assert len(run.snapshot.waiting_parts()) + len(run.snapshot.open_attempts) == run.chunks


@pytest.mark.slow
@pytest.mark.parametrize("code", ["job_error", "unresolved"])
async def test_reopening_takes_no_memory_for_a_failed_file(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times as many files, the same memory beside the files themselves."""
    monkeypatch.setattr(module, "TOGETHER_MAX", 500)
    held = []
    for chunks in (2_000, 8_000):
        run = await made(chunks, 1, code)
        tracemalloc.start()
        failed = await read_failures(Discarding(run.store), run.snapshot, run.plan, run.files, Shutdown())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert failed is not None
        assert failed["retry_bytes"] > 10 * chunks
        held.append(peak)
    assert held[1] < 1.3 * held[0]


class Discarding(BlockStore):
    """Reads another store, and keeps nothing of what is written."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__()
        self._files = store._files

    async def replace(self, name: str, blocks: AsyncIterator[bytes]) -> None:
        async for _ in blocks:
            pass


async def test_the_plan_is_read_once() -> None:
    """Not 64 KiB of it for each file; where each job has one file nothing of it is read for the reopening."""
    single = await made(5_000, 1)
    await single.reopen()
    assert single.store.plan_bytes == 0
    for chunk in range(5_000):
        assert await single.plan.file_ids(chunk) == [f"file-{chunk}-0"]
    assert single.store.plan_bytes < 1.1 * len(single.store.files["plan.jsonl"])
    many = await made(500, 10)
    await many.reopen()
    assert many.store.plan_bytes < 1.5 * len(many.store.files["plan.jsonl"])


# --- What is taken ---------------------------------------------------------------------------------------------------


async def test_a_killed_process_has_taken_a_line_or_not() -> None:
    """Another process reads in the journal what is in hand and what is not, and goes on with the next line."""
    run = await made(300, 2)
    await run.reopen()
    await run.take(batches_max=2)
    snapshot = await run.read_again()
    assert not snapshot.complete
    assert snapshot.waiting_parts() == run.snapshot.waiting_parts()
    assert [part.chunk for part in snapshot.waiting_parts()] == list(range(2 * module.PARTS_PER_BATCH))
    await run.begin_anew()
    await run.take()
    assert [part.chunk for part in run.snapshot.waiting_parts()] == list(range(300))
    assert not run.snapshot.pending_retries
    assert await run.store.size("failures.1.jsonl") is not None


async def test_files_of_an_attempt_may_have_failed_in_several_ways() -> None:
    """Those that may be paid are looked for, each in its way, and the others go out again; none is left out."""
    run = FailedRun(1, 6)

    async def one() -> AsyncIterator[list[str]]:
        yield [f"file-0-{number}" for number in range(6)]

    await write_plan(run.store, one())
    await run.plan.scan_whole_file()
    run.end(0, {0: "unresolved", 1: "not_answered", 2: "job_error", 3: "overdue", 4: "unresolved", 5: "job_error"})
    await run.begin_anew()
    await run.reopen()
    looks, parts = await run.take()
    assert parts["again"] == [{"chunk": 0, "ranges": [(2, 3), (5, 6)]}]
    assert [look["ranges"] for look in looks["looks"]] == [[(0, 1), (4, 5)], [(1, 2)], [(3, 4)]]
    assert [look.get("job_id") for look in looks["looks"]] == [None, "job-0", "job-0"]
    assert {look["credits"] for look in looks["looks"]} == {10.0, 5.0}
    assert run.snapshot.waiting_parts() == [Part(0, (Range(2, 3), Range(5, 6)))]


async def test_a_chunks_failures_are_brought_together() -> None:
    """Also where attempts of other chunks ended in between."""
    run = FailedRun(3, 2)
    await run.make()
    lines = run.store.files[Log.FAILURES].splitlines(keepends=True)
    shuffled = b"".join(lines[number] for number in (0, 2, 4, 1, 3, 5))
    await run.store.replace(Log.FAILURES, single(shuffled))
    await run.reopen()
    assert await run.take() == [{"again": [{"chunk": 0}, {"chunk": 1}, {"chunk": 2}], "looks": []}]


async def single(data: bytes) -> AsyncIterator[bytes]:
    yield data


@pytest.mark.parametrize("damage", ["cut off", "a flipped bit", "gone"])
async def test_damage_to_the_failures_taken_from_is_reported(damage: str) -> None:
    """With the file and the byte; nothing is guessed."""
    run = await made(300, 1)
    await run.reopen()
    data = bytearray(run.store.files["retry.1.jsonl"])
    if damage == "cut off":
        del data[-10:]
    data[len(data) // 2] ^= 1 if damage == "a flipped bit" else 0
    if damage == "gone":
        await run.store.remove("retry.1.jsonl")
    else:
        await run.store.replace("retry.1.jsonl", single(bytes(data)))
    with pytest.raises(DamagedError, match=r"retry\.1\.jsonl in .*byte \d+"):
        await run.take()


@pytest.mark.parametrize("code", ["job_error", "overdue"])
async def test_failures_that_are_not_the_plans_are_damage(code: str) -> None:
    """A file ID that isn't in its chunk, or fewer lines than were committed."""
    run = await made(4, 2, code)
    data = run.store.files[Log.FAILURES].replace(b"file-2-1", b"file-9-1")
    await run.store.replace(Log.FAILURES, single(data))
    with pytest.raises(DamagedError, match="'file-9-1' is no file of chunk 2"):
        await run.reopen()
