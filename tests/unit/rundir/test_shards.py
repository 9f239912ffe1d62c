"""Cutting a plan into shards, and what each of them gets."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify_batch.engine.planner import cut_into_chunks
from classify_batch.errors import DamagedError, RunDirectoryError
from classify_batch.rundir.plan import PlanReader, write_plan
from classify_batch.rundir.run_json import FORMAT, Reused, RunFile, create_run_file, parse_run_file, read_run_file
from classify_batch.rundir.shards import ShardSlice, cut_plan_into_shards, first_chunks
from classify_batch.store.memory import MemoryStore
from classify_batch.vocabulary import PLAN_JSONL, RUN_JSON

pytestmark = [pytest.mark.anyio, pytest.mark.any_loop]


class SmallBlocks(MemoryStore):
    """A store that streams in blocks of a few bytes, as a disk does with larger ones."""

    async def stream(self, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        data = await self.read(name, start, end)
        for at in range(0, len(data), 11):
            yield data[at : at + 11]


async def planned(files: int, files_per_chunk: int, count: int) -> tuple[MemoryStore, RunFile, str]:
    """A whole run of so many files in so many shards, in memory."""
    store = SmallBlocks()

    async def file_ids() -> AsyncIterator[list[str]]:
        yield [f"file-{number}" for number in range(files)]

    plan = await write_plan(store, cut_into_chunks(file_ids(), files_per_chunk))
    ranges = await cut_plan_into_shards(store, plan, None, files_per_chunk, count)
    run = RunFile(
        FORMAT, "r", "", {"limits": {"max_credits": 100.0}}, {}, files, 0, plan.chunks, plan.sha256, shards=ranges
    )
    return store, run, "abc"


@settings(deadline=None)
@given(
    count=st.integers(1, 40), files=st.integers(0, 3000), files_per_chunk=st.integers(1, 500), done=st.integers(0, 9)
)
async def test_shards_share_the_chunks_evenly(count: int, files: int, files_per_chunk: int, done: int) -> None:
    """Each chunk is in one shard, in order, and no shard has more than a chunk more or less than its even share."""
    firsts = first_chunks(count, files=files, files_per_chunk=files_per_chunk, done_chunks=done)
    assert len(firsts) == count + 1
    assert firsts == sorted(firsts)
    assert (firsts[0], firsts[-1]) == (done, done - (-files // files_per_chunk))
    before = [min((first - done) * files_per_chunk, files) for first in firsts]
    for shard in range(count):
        assert abs(before[shard + 1] - before[shard] - files / count) <= files_per_chunk


@settings(deadline=None, max_examples=50)
@given(count=st.integers(1, 12), files=st.integers(0, 60), files_per_chunk=st.integers(1, 9))
async def test_the_pieces_are_the_plan(count: int, files: int, files_per_chunk: int) -> None:
    """The shards' plans, one behind the other, are the whole plan; each reads with the whole plan's chunk numbers."""
    store, run, sha256 = await planned(files, files_per_chunk, count)
    whole, chunks, seen = PlanReader(store), list[tuple[int, list[str]]](), b""
    await whole.scan_whole_file()
    for index in range(count):
        shard = MemoryStore()
        made = await ShardSlice(store, run, sha256, index).write_shard(shard)
        assert made.plan_sha256 == hashlib.sha256(shard.files[PLAN_JSONL]).hexdigest()
        seen += shard.files[PLAN_JSONL]
        reader = PlanReader(shard, made.first_chunk)
        await reader.scan_whole_file(made.plan_sha256)
        assert reader.chunks == made.chunks
        own = [each async for each in reader.stream()]
        assert sum(len(file_ids) for _, file_ids in own) == made.files
        for number, file_ids in own:
            assert await reader.file_ids(number) == file_ids == await whole.file_ids(number)
        with pytest.raises(IndexError):
            await reader.file_ids(made.first_chunk - 1)
        chunks += own
    assert seen == store.files[PLAN_JSONL]
    assert [number for number, _ in chunks] == list(range(run.chunks))


async def test_reused_chunks_are_in_no_shard() -> None:
    """The plan's first chunks have their outcomes already: the shards divide the others."""
    store = MemoryStore()

    async def all_chunks() -> AsyncIterator[list[str]]:
        for number in range(10):
            yield [f"file-{number}-{place}" for place in range(3)]

    plan = await write_plan(store, all_chunks())
    reused = Reused(chunks=4, files=12, bytes=1, crc=0, counts={}, types={}, accepted=0, runs=[])
    ranges = await cut_plan_into_shards(store, plan, reused, 3, 2)
    assert [(each["first_chunk"], each["chunks"], each["files"]) for each in ranges] == [(4, 3, 9), (7, 3, 9)]
    assert store.files[PLAN_JSONL][: ranges[0]["start"]].count(b"\n") == 4


async def test_a_shards_run_says_whose_it_is() -> None:
    """Its run.json reads back, has the whole run's ID, and its share of the credits; nobody takes it for another."""
    store, run, sha256 = await planned(100, 10, 3)
    shard, slice_ = MemoryStore(), ShardSlice(store, run, sha256, 1)
    await slice_.write_shard(shard)
    found = await read_run_file(shard)
    assert found is not None
    made, _ = found
    assert (made.run_id, made.shard) == ("r", {"index": 1, "count": 3, "first_chunk": 3, "run_sha256": "abc"})
    assert (made.format, made.files, made.settings["limits"]) == (FORMAT, 40, {"max_credits": 40.0})
    slice_.refuse_other(made, "here")
    with pytest.raises(RunDirectoryError, match="not shard 2"):
        ShardSlice(store, run, sha256, 2).refuse_other(made, "here")
    with pytest.raises(RunDirectoryError, match="not shard 1"):
        ShardSlice(store, run, "another", 1).refuse_other(made, "here")


async def test_shares_of_credits_are_no_more_than_the_whole() -> None:
    """However the files are divided, all shards together may spend what the run may."""
    store, run, sha256 = await planned(101, 7, 11)
    shares = [ShardSlice(store, run, sha256, index).share_of_credits(1.0) for index in range(11)]
    assert 0.99 < sum(shares) <= 1.0


async def test_the_bound_of_all_follows_from_a_share() -> None:
    """What `tune` gave one shard is carried on to the next: none gets more than was given to all, or much less."""
    store, run, sha256 = await planned(101, 7, 11)
    for index in range(11):
        shard = ShardSlice(store, run, sha256, index)
        for credits in (0, 1, 90, 1234.5):
            assert shard.credits_of_all(shard.share_of_credits(credits)) == pytest.approx(credits, abs=1e-4)


async def test_a_damaged_plan_makes_no_shard() -> None:
    """A byte that changed since the run was planned is found before there is a shard."""
    store, run, sha256 = await planned(30, 5, 2)
    data = store.files[PLAN_JSONL]
    await store.remove(PLAN_JSONL)
    await store.create(PLAN_JSONL, data.replace(b"file-29", b"file-92"))
    await ShardSlice(store, run, sha256, 0).write_shard(MemoryStore())
    with pytest.raises(DamagedError, match="shard 1"):
        await ShardSlice(store, run, sha256, 1).write_shard(shard := MemoryStore())
    assert RUN_JSON not in shard.files


async def test_nobody_takes_a_run_with_shards_for_a_run_without() -> None:
    """Whoever doesn't know of shards would send all files once more: it gets an error, and so do older versions."""
    store, run, _ = await planned(30, 5, 2)
    await create_run_file(store, run)
    with pytest.raises(RunDirectoryError, match="2 shards") as caught:
        await read_run_file(store)
    assert "shards/00000" in caught.value.hint
    assert parse_run_file(store.files[RUN_JSON], "run.json", takes_shards=True).shards == run.shards
