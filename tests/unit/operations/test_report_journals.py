"""The journals of several shards are read as one, in bounded memory."""

from __future__ import annotations

import random

import pytest

from classify_batch.operations.report import journals
from classify_batch.operations.report.journals import read_journals
from classify_batch.rundir.journal.entry import encode_about_run
from classify_batch.rundir.journal.replay import RunSnapshot
from classify_batch.rundir.opened_run import RunOnDisk
from classify_batch.rundir.run_json import RunFile
from classify_batch.store.memory import MemoryStore
from classify_batch.vocabulary import Kind, Log

pytestmark = pytest.mark.anyio


def shard(index: int, times: list[float]) -> RunOnDisk:
    """A shard whose journal has a line at each of these times."""
    lines = [encode_about_run(seq, at_s, 0, Kind.OPENED, {}) for seq, at_s in enumerate(times, 1)]
    run = RunFile(
        format=6,
        run_id="r",
        created_at="2026-11-22T01:00:00Z",
        settings={},
        identity={},
        files=1,
        duplicates=0,
        chunks=1,
        plan_sha256="",
        shard={"index": index, "count": 3, "first_chunk": index, "run_sha256": ""},
    )
    data = b"".join(lines)
    return RunOnDisk(MemoryStore({Log.JOURNAL: data + b"more"}), run, "", RunSnapshot(1, index), len(data), 0, None)


async def test_lines_of_all_shards_come_in_the_order_of_their_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the size of a block, and no further than each journal was read before."""
    rng = random.Random(2)
    times = [sorted(rng.randrange(1000) / 10 for _ in range(count)) for count in (40, 0, 25)]
    expected = sorted((at_s, index) for index, each in enumerate(times) for at_s in each)
    for block_bytes in (1, 97, 1 << 18):
        monkeypatch.setattr(journals, "_BLOCK_BYTES_MIN", 1)
        monkeypatch.setattr(journals, "_BLOCK_BYTES_MAX", block_bytes)
        parts = [shard(index, each) for index, each in enumerate(times)]
        found = [(entry.at_s, index) async for entry, index in read_journals(parts)]
        assert found == expected


async def test_a_clock_that_steps_back_holds_no_other_shard_up() -> None:
    """What it writes behind that comes at once, and each journal keeps its order."""
    found = [(entry.at_s, index) async for entry, index in read_journals([shard(0, [5, 1, 8]), shard(1, [4, 6])])]
    assert found == [(4, 1), (5, 0), (1, 0), (6, 1), (8, 0)]
