"""The wall clock is set while a run is on, or between its processes: no age, wait or span of ours may follow it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import httpx
import pytest

from tests.sandbox.loop_clock import LoopClock
from tests.sandbox.virtual import Lab, ends_well, is_create, laboratory

pytestmark = pytest.mark.anyio

STEPS_S = pytest.mark.parametrize("step_s", [-10_800.0, 10_800.0])
BOTH = pytest.mark.parametrize("version", ["v1", "v2"])


class SteppingClock(LoopClock):
    """A wall clock that somebody sets: `ahead_s` may change at any moment."""

    ahead_s = 0.0

    def wall_s(self) -> float:
        return super().wall_s() + self.ahead_s


async def run_with_step(lab: Lab, after_s: float, step_s: float, run: Callable[[], Awaitable[object]]) -> None:
    """Sets our wall clock, and not the server's, while `run` is on."""
    clock = lab.clock = SteppingClock()
    async with anyio.create_task_group() as tasks:

        async def set_clock() -> None:
            await anyio.sleep(after_s)
            clock.ahead_s += step_s

        tasks.start_soon(set_clock)
        await run()
        tasks.cancel_scope.cancel()


@STEPS_S
@BOTH
async def test_jobs_in_flight_are_not_overdue_because_the_clock_was_set(version: str, step_s: float) -> None:
    with laboratory(40, files_per_job=4, version=version, job_duration_s=60.0, job_duration_sigma=0) as lab:
        await run_with_step(lab, 20.0, step_s, lambda: ends_well(lab))
        assert lab.codes() == {}


@STEPS_S
@BOTH
async def test_inherited_jobs_are_not_overdue_because_the_clock_was_set(version: str, step_s: float) -> None:
    """The next process runs by a clock that is hours off, and the jobs end a few seconds after it began."""
    with laboratory(40, files_per_job=4, version=version, job_duration_s=30.0, job_duration_sigma=0) as lab:
        assert await lab.run_until_power_cut(20.0) is None
        lab.clock = SteppingClock(LoopClock().wall_s() - anyio.current_time() + step_s)
        await ends_well(lab)
        assert lab.codes() == {}


@STEPS_S
async def test_ambiguous_creates_are_not_given_up_because_the_clock_was_set(step_s: float) -> None:
    """Their jobs take longer than anybody waits for a create's acceptance; the clock is set while the calls are out."""
    with laboratory(40, files_per_job=4, job_duration_s=300.0, job_duration_sigma=0, timeout_s=10.0) as lab:

        async def lose(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if is_create(request):
                await anyio.sleep(11.0)
            return response

        lab.wire.after = lose
        await run_with_step(lab, 5.0, step_s, lambda: ends_well(lab))
        assert lab.codes() == {}


@STEPS_S
async def test_a_span_ends_after_its_seconds_whatever_the_clock_says(step_s: float) -> None:
    """`--max-runtime`, unlike `--deadline`, which is a time of day."""
    limits = {"jobs_in_flight": 2}
    with laboratory(100, job_duration_s=20.0, job_duration_sigma=0, limits=limits) as lab:

        async def run_for_a_while() -> None:
            assert (await lab.run(max_runtime_s=30.0)).state == "incomplete"
            assert 40 <= anyio.current_time() < 46

        await run_with_step(lab, 15.0, step_s, run_for_a_while)
        assert len(lab.outcomes()) == 40
