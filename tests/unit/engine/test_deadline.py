"""Deadlines, in virtual time."""

from __future__ import annotations

import anyio
import pytest

from classify_batch.engine.deadline import NO_DEADLINE, Deadline
from classify_batch.engine.shutdown import Shutdown
from tests.support.loop_clock import LoopClock

pytestmark = pytest.mark.anyio


async def test_a_run_without_a_deadline_reads_no_clock() -> None:
    """Nothing wakes up every second for a moment that never comes."""
    shutdown = Shutdown()
    with anyio.fail_after(10):
        await NO_DEADLINE.stop_run_when_reached(shutdown, LoopClock(), drain_s=1.0)
    assert shutdown.stop is None


@pytest.mark.parametrize("of_day", [True, False])
async def test_creating_ends_at_the_deadline_and_collecting_after_the_drain(of_day: bool) -> None:
    """Whichever of the two moments is set."""
    shutdown, clock = Shutdown(), LoopClock()
    deadline = Deadline(wall_s=clock.wall_s() + 30) if of_day else Deadline(loop_s=anyio.current_time() + 30)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(deadline.stop_run_when_reached, shutdown, clock, 5.0)
        await shutdown.creating_ended.wait()
        assert anyio.current_time() == pytest.approx(30)
        await shutdown.leave_requested.wait()
        assert anyio.current_time() == pytest.approx(35)
