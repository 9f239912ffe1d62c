"""Submit-only runs whose creates lose their answers, in virtual time."""

from __future__ import annotations

from random import Random

import anyio
import httpx
import pytest

from classify_batch.errors import ExitStatus
from classify_batch.rundir.opened_run import read_run
from tests.support.simulated_run import After, Lab, answer, is_create, laboratory, nothing

pytestmark = pytest.mark.anyio

SOON_S = 10.0
LONG_S = 1_200.0


def losing(share: float, seed: int = 2) -> After:
    """A server that accepts, and whose answer is lost on its way."""
    random = Random(seed)

    async def after(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        if is_create(request) and random.random() < share:
            raise httpx.ReadError("lost")
        return response

    return after


async def count_ambiguous(lab: Lab) -> int:
    left = await read_run(lab.store)
    assert left is not None
    return len(left.snapshot.open_attempts) - left.snapshot.jobs_in_flight


async def test_ambiguous_creates_are_left_to_a_later_process() -> None:
    """Whose job it is could be proven only when the jobs have ended, much later: it leaves now, and says how many; the
    later process settles them, and pays nothing twice."""
    with laboratory(100, limits={"jobs_in_flight": 0}, latency_s=0.05, job_duration_s=LONG_S) as lab:
        lab.wire.after = losing(0.4)
        began_s = anyio.current_time()
        ending = await lab.run(submit_only=True)
        assert anyio.current_time() - began_s < SOON_S
        assert (ending.state, ending.exit_status) == ("incomplete", ExitStatus.INCOMPLETE)
        ambiguous = await count_ambiguous(lab)
        assert 0 < ambiguous < 10
        assert f"{10 - ambiguous} jobs are in flight" in (ending.reason or "")
        assert f"{ambiguous} more creates it is unknown" in (ending.reason or "")
        assert lab.accepted() == 10
        again = await lab.run(submit_only=True)
        assert f"{ambiguous} more creates it is unknown" in (again.reason or "")
        assert lab.accepted() == 10
        assert (await lab.run()).state == "complete"
        assert lab.accepted() == 10
        assert await lab.judge() == {}


async def test_ambiguous_creates_with_a_bound_of_jobs() -> None:
    """Each holds one of the places: jobs in flight and ambiguous creates together are as many as may be in flight."""
    with laboratory(300, limits={"jobs_in_flight": 8}, latency_s=0.05, job_duration_s=LONG_S) as lab:
        lab.wire.after = losing(0.4)
        began_s = anyio.current_time()
        ending = await lab.run(submit_only=True)
        assert anyio.current_time() - began_s < SOON_S
        assert ending.exit_status == ExitStatus.INCOMPLETE
        assert await count_ambiguous(lab) > 0
        assert lab.accepted() == 8


async def test_ambiguous_creates_are_left_to_a_later_run_while_the_list_fails() -> None:
    """Without the list nothing proves whether a create was accepted: a later process reconciles."""
    with laboratory(100, limits={"jobs_in_flight": 0}, latency_s=0.05, job_duration_s=LONG_S) as lab:

        async def no_list(request: httpx.Request) -> httpx.Response | None:
            return None if is_create(request) else answer(503)

        lab.wire.before, lab.wire.after = no_list, losing(0.3)
        began_s = anyio.current_time()
        ending = await lab.run(submit_only=True)
        assert anyio.current_time() - began_s < 6 * SOON_S  # creates wait for each other while nothing else is answered
        assert ending.exit_status == ExitStatus.INCOMPLETE
        assert "it is unknown whether" in (ending.reason or "")
        assert lab.accepted() == 10


async def test_ambiguous_creates_that_are_settled_at_once() -> None:
    """Creates that were lost on their way there are sent again before it leaves, where that is proven soon."""
    limits = {"jobs_in_flight": 0, "settle_s": 0.3, "accept_s": 0.2}
    with laboratory(100, limits=limits, timeout_s=0.2, job_duration_s=LONG_S, latency_s=0.02) as lab:
        random = Random(3)

        async def lose_on_the_way(request: httpx.Request) -> httpx.Response | None:
            if is_create(request) and random.random() < 0.3:
                raise httpx.ReadError("lost")
            return None

        lab.wire.before = lose_on_the_way
        with anyio.fail_after(SOON_S):
            ending = await lab.run(submit_only=True)
        ambiguous = await count_ambiguous(lab)
        assert lab.wire.count("POST") > 10
        assert f"{10 - ambiguous} jobs are in flight" in (ending.reason or "")
        lab.wire.before = nothing
        assert (await lab.run()).state == "complete"
        assert await lab.judge() == {}
