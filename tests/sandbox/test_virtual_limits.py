"""Whole runs whose limits change, or that only submit, in virtual time."""

from __future__ import annotations

import json
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from trio.testing import MockClock

from classify_batch.errors import ExitStatus
from classify_batch.ports import Log
from classify_batch.settings.tuning import NAME

if TYPE_CHECKING:
    from tests.sandbox.virtual import Lab, is_create, laboratory
else:
    from virtual import Lab, is_create, laboratory

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


def told_to(lab: Lab, settings: dict[str, object]) -> None:
    limits = lab.settings.limits.model_copy(update=settings)
    lab.settings = lab.settings.model_copy(update={"limits": limits})


def creates(lab: Lab) -> list[float]:
    return [at for at, method, _ in lab.wire.requests if method == "POST"]


# --- Submit now, collect later ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_as_many_as_may_be_out_and_no_more(version: str) -> None:
    """Leaves with 75 without looking at anything; a later run collects, and makes the rest."""
    files_per_job = 10 if version == "v1" else 1
    with laboratory(20 * files_per_job, version=version, limits={"jobs_in_flight": 7}, job_duration_s=600.0) as lab:
        ending = await lab.run(submit_only=True)
        assert (ending.state, ending.exit_status) == ("incomplete", ExitStatus.INCOMPLETE)
        assert "7 jobs are out" in (ending.reason or "")
        assert (lab.wire.count("POST"), lab.wire.count("GET")) == (7, 0)
        again = await lab.run(submit_only=True)
        assert again.exit_status == ExitStatus.INCOMPLETE
        assert lab.wire.count("POST") == 7
        assert (await lab.run()).state == "complete"
        assert await lab.judge() == {}


async def test_all_at_once() -> None:
    """0: no bound of ours; collected hours later, with no more out at once than is then allowed."""
    with laboratory(500, limits={"jobs_in_flight": 0}, job_duration_s=3600.0) as lab:
        ending = await lab.run(submit_only=True)
        assert "50 jobs are out" in (ending.reason or "")
        told_to(lab, {"jobs_in_flight": 5})
        await anyio.sleep(10 * 3600)
        before = lab.wire.count("POST")
        assert (await lab.run()).state == "complete"
        assert lab.wire.count("POST") == before == 50
        assert await lab.judge() == {}


async def test_a_run_without_a_bound_also_collects() -> None:
    """0 in a run that goes to its end."""
    with laboratory(300, limits={"jobs_in_flight": 0}, job_duration_s=60.0) as lab:
        assert (await lab.run()).state == "complete"
        first = creates(lab)
        assert first[-1] - first[0] < 5


async def test_what_is_in_doubt_is_settled_before_leaving() -> None:
    """A create whose answer was lost is adopted, or made again, and counts as out only then."""
    random = Random(2)
    with laboratory(100, limits={"jobs_in_flight": 0}, latency_s=0.05, job_duration_s=300.0) as lab:

        async def lose_some(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if is_create(request) and random.random() < 0.4:
                raise httpx.ReadError("lost")
            return response

        lab.wire.after = lose_some
        ending = await lab.run(submit_only=True)
        assert "10 jobs are out" in (ending.reason or "")
        assert (await lab.run()).state == "complete"
        assert await lab.judge() == {}


async def test_a_plan_that_allows_fewer() -> None:
    """As many as it takes; nobody waits for room that nothing makes."""
    with laboratory(200, limits={"jobs_in_flight": 0}, jobs_at_once=6, job_duration_s=600.0) as lab:
        ending = await lab.run(submit_only=True)
        assert ending.exit_status == ExitStatus.INCOMPLETE
        assert sum(1 for _ in lab.app.world) == 6
        assert (await lab.run()).state == "complete"
        assert await lab.judge() == {}


async def test_a_complete_run_has_nothing_to_submit() -> None:
    """And one whose every file failed at once neither."""
    with laboratory(30) as lab:
        await lab.run()
        assert (await lab.run(submit_only=True)).state == "complete"


# --- More out than is now allowed -------------------------------------------------------------------------------------


async def test_nothing_new_goes_out_while_more_are_out_than_allowed() -> None:
    """A resume with a lower limit collects first."""
    with laboratory(300, limits={"jobs_in_flight": 20}, job_duration_s=50.0) as lab:
        assert await lab.run_until_power_cut(10.0, max) is None
        assert len(creates(lab)) == 20
        told_to(lab, {"jobs_in_flight": 2})
        assert (await lab.run()).state == "complete"
        assert await lab.judge() == {}
        jobs = sorted(lab.app.world, key=lambda job: job.created_at_s)
        for job in jobs[20:]:
            out = [each for each in jobs if each.created_at_s < job.created_at_s < each.finished_at_s]
            assert len(out) <= 2


# --- tune -------------------------------------------------------------------------------------------------------------


async def run_told(lab: Lab, words: list[tuple[float, dict[str, Any]]]) -> None:
    """A run to its end, that is told something at some moments."""

    async def tell() -> None:
        for after_s, tuning in words:
            await anyio.sleep(after_s)
            await lab.store.create(NAME, json.dumps(tuning).encode())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tell)
        ending = await lab.run()
    assert ending.state == "complete"
    assert await lab.judge() == {}


def tuned(lab: Lab) -> list[dict[str, Any]]:
    return [line["limits"] for line in lab.lines(Log.JOURNAL) if line["kind"] == "tuned"]


async def test_more_jobs_at_once() -> None:
    """Within a second, and written down."""
    with laboratory(400, limits={"jobs_in_flight": 2}, job_duration_s=100.0, job_duration_sigma=0.0) as lab:
        await run_told(lab, [(50.0, {"jobs_in_flight": 30})])
        moments = creates(lab)
        assert sum(at - moments[0] < 50 for at in moments) == 2
        assert sum(at - moments[0] < 51.5 for at in moments) == 30
        assert tuned(lab) == [{"jobs_in_flight": 30}]
        assert NAME not in lab.store.files


async def test_fewer_requests() -> None:
    """The rate of all requests."""
    with laboratory(600, limits={"jobs_in_flight": 60, "requests_per_s": 50.0}, job_duration_s=20.0) as lab:
        await run_told(lab, [(5.0, {"requests_per_s": 2})])
        moments = [at for at, _, _ in lab.wire.requests]
        later = [at for at in moments if at > moments[0] + 6.5]
        assert max(sum(start <= at < start + 10 for at in later) for start in later) <= 21


async def test_pause_and_resume() -> None:
    """No create passes; what is out is collected meanwhile."""
    with laboratory(200, limits={"jobs_in_flight": 5}, job_duration_s=2.0) as lab:
        await run_told(lab, [(3.0, {"paused": True}), (500.0, {"paused": False})])
        moments = creates(lab)
        gaps = [later - sooner for sooner, later in pairwise(moments)]
        assert 495 < max(gaps) < 505
        assert tuned(lab) == [{"paused": True}, {"paused": False}]


async def test_more_credits() -> None:
    """A run that waits for its last jobs' bills may be given more meanwhile."""
    with laboratory(100, limits={"max_credits": 100, "jobs_in_flight": 2}, job_duration_s=30.0) as lab:
        await run_told(lab, [(5.0, {"max_credits": 500})])


async def test_words_that_were_for_another_process_are_forgotten() -> None:
    """A file that was left behind says nothing to the next process; nonsense is said to be that, and taken away."""
    with laboratory(100, job_duration_s=20.0) as lab:
        await lab.plan()
        await lab.store.create(NAME, b'{"paused": true}')
        await run_told(lab, [(5.0, {"jobs_in_flight": -1})])
        assert tuned(lab) == []
        assert NAME not in lab.store.files
