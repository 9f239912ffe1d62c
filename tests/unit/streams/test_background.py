"""Tasks beside a block: they end with it, and its errors are raised as they are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import cast

import anyio
import pytest

from classify_batch.engine.orchestrator import Orchestrator
from classify_batch.engine.shutdown import Shutdown, Stop, following
from classify_batch.errors import InterruptedEarlyError, LockedError
from classify_batch.operations.ownership import keeping_lease
from classify_batch.operations.reporting_progress import reporting_progress
from classify_batch.operations.run import interruptible
from classify_batch.store.memory import MemoryStore
from classify_batch.streams.background import background_tasks
from tests.support.leases import LeaseUntil

pytestmark = pytest.mark.anyio


class Reported:
    """Stands for an orchestrator, of which only the progress is asked for."""

    def progress(self) -> None: ...


BLOCKS: dict[str, Callable[[], AbstractAsyncContextManager[object]]] = {
    "background_tasks": background_tasks,
    "following": lambda: following(Shutdown()),
    "interruptible": lambda: interruptible(Shutdown()),
    "keeping_lease": lambda: keeping_lease(LeaseUntil(lambda: True), MemoryStore(), Shutdown()),
    "reporting_progress": lambda: reporting_progress(cast("Orchestrator", Reported()), lambda _progress: None),
}


@pytest.mark.parametrize("name", BLOCKS)
async def test_an_error_of_the_block_is_raised_as_it_is(name: str) -> None:
    """Whoever catches it outside of the block catches it by its own class."""

    async def fail() -> None:
        async with BLOCKS[name]():
            await anyio.sleep(0.01)
            raise LockedError("in use")

    with pytest.raises(LockedError, match="in use"):
        await fail()


async def test_the_tasks_end_with_the_block() -> None:
    """What would run for ever is cancelled."""
    with anyio.fail_after(1.0):
        async with background_tasks() as tasks:
            tasks.start_soon(anyio.sleep_forever)


async def test_an_error_of_a_task_ends_the_block() -> None:
    """It is raised in a group, since several tasks may fail."""

    async def fail() -> None:
        raise LockedError("in use")

    async def wait() -> None:
        async with background_tasks() as tasks:
            tasks.start_soon(fail)
            await anyio.sleep_forever()

    with pytest.raises(BaseExceptionGroup):
        await wait()


async def test_a_stop_still_interrupts_the_block() -> None:
    """A block that is interrupted is told so by an error of its own."""
    shutdown = Shutdown()

    async def work() -> None:
        async with interruptible(shutdown):
            shutdown.request_stop(Stop("enough"))
            await anyio.sleep_forever()

    with pytest.raises(InterruptedEarlyError, match="enough"):
        await work()
