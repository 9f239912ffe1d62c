"""How far a run may be ahead of its reader: of all its shards together."""

from __future__ import annotations

import anyio
import pytest

from classify_batch.limits.reader_pace import ReaderPace

pytestmark = pytest.mark.anyio


async def is_slowed(pace: ReaderPace, committed: int) -> bool:
    """Whether a further job of this shard would wait."""
    with anyio.move_on_after(0.01) as scope:
        await pace.wait_for_reader(lambda: committed)
    return scope.cancelled_caught


async def test_all_shards_of_a_process_count_together() -> None:
    """Unread outcomes of an earlier shard slow a later one; what is read of others' shards makes no room."""
    pace = ReaderPace(10)
    assert not await is_slowed(pace.of_shard(0), 10)
    assert await is_slowed(pace.of_shard(1), 1)
    pace.count_read(99, shard=2)  # of another process
    assert await is_slowed(pace.of_shard(1), 1)
    pace.count_read(1, shard=0)
    assert not await is_slowed(pace.of_shard(1), 1)
    assert not pace.started.is_set()
    pace.of_shard(1).mark_started()
    assert (pace.started.is_set(), pace.has_started(1), pace.has_started(0)) == (True, True, False)


async def test_every_shard_that_waits_is_woken() -> None:
    """Two shards that wait at the same time both go on when there is room."""
    pace = ReaderPace(0)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for shard in range(2):
                tasks.start_soon(pace.of_shard(shard).wait_for_reader, lambda: 1)
            await anyio.sleep(0.01)
            for shard in range(2):
                pace.count_read(1, shard)
