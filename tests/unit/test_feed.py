"""What an earlier process left open is taken up no faster than jobs may be out."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from classify_batch.gate import Slots
from classify_batch.journal.replay import Standing
from classify_batch.journal.writer import JournalWriter
from classify_batch.manifest.cost import Price
from classify_batch.manifest.plan import PlanReader, write_plan
from classify_batch.orchestrator.feed import Feed
from classify_batch.orchestrator.purse import Purse
from classify_batch.records import Attempt, AttemptKey, Job, Part
from classify_batch.settings import Settings
from classify_batch.states import Submitted, Submitting
from classify_batch.stopping import Stopping
from classify_batch.store.memory import MemoryStore

pytestmark = pytest.mark.anyio

SETTINGS = Settings(job={"rules": [{"type": "a", "description": "0123456789"}]})


class Still:
    def wall_s(self) -> float:
        return 1.0


async def test_memory_holds_the_files_of_no_more_jobs_than_may_be_out() -> None:
    """However many are: each waits for its slot, and nothing new goes out before all have one."""
    store = MemoryStore()
    await write_plan(store, chunks())
    plan = PlanReader(store)
    await plan.scan()
    journal = JournalWriter(store, Standing(6), Still())
    for chunk in range(5):
        journal.record(Submitting(AttemptKey(chunk, 1), Part(chunk), 1.0))
        journal.record(Submitted(AttemptKey(chunk, 1), f"job-{chunk}", 1.0))
    slots, standing = Slots(2), journal.standing
    feed = Feed(store, plan, journal, slots, Stopping(), Purse(standing, None), Price(SETTINGS), carries=False)
    out, submitted = anyio.create_memory_object_stream[Job](99)
    doubtful, _doubtful = anyio.create_memory_object_stream[Attempt](99)
    again, _again = anyio.create_memory_object_stream[Attempt](99)
    new, intake = anyio.create_memory_object_stream[Attempt](99)
    with out, submitted, doubtful, _doubtful, again, _again, new, intake:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take_up, feed, out, doubtful, again)
            tasks.start_soon(feed.work, new)
            for known in (2, 3, 4, 5):
                await anyio.wait_all_tasks_blocked()
                assert submitted.statistics().current_buffer_used == known
                assert intake.statistics().current_buffer_used == 0
                slots.release()
            await anyio.wait_all_tasks_blocked()
            assert intake.statistics().current_buffer_used == 1
            tasks.cancel_scope.cancel()


async def take_up(feed: Feed, *streams: object) -> None:
    await feed.take_up(*streams, repeatable=False)  # type: ignore[arg-type]


async def chunks() -> AsyncIterator[list[str]]:
    for chunk in range(6):
        yield [f"file-{chunk}"]
