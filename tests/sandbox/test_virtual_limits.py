"""Whole runs whose limits change, or that only submit, in virtual time."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import anyio
import httpx
import pytest

from classify_batch.engine.shutdown import Stop
from classify_batch.errors import ExitStatus
from classify_batch.rundir.opened_run import read_run
from classify_batch.vocabulary import TUNE_JSON, Log
from tests.support.simulated_run import Lab, answer, is_create, laboratory

pytestmark = pytest.mark.anyio

FOR_EVER_S = 3000.0


def set_limits(lab: Lab, settings: dict[str, object]) -> None:
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
        assert "7 jobs are in flight" in (ending.reason or "")
        assert (lab.wire.count("POST"), lab.wire.count("GET")) == (7, 2)  # two reads were for the project
        again = await lab.run(submit_only=True)
        assert again.exit_status == ExitStatus.INCOMPLETE
        assert lab.wire.count("POST") == 7
        assert (await lab.run()).state == "complete"
        assert await lab.judge() == {}


async def test_all_jobs_are_created_at_once_without_a_bound() -> None:
    """0: no bound of ours; collected hours later, with no more in flight than is then allowed."""
    with laboratory(500, limits={"jobs_in_flight": 0}, job_duration_s=3600.0) as lab:
        ending = await lab.run(submit_only=True)
        assert "50 jobs are in flight" in (ending.reason or "")
        set_limits(lab, {"jobs_in_flight": 5})
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


async def test_all_jobs_are_submitted_where_the_plan_allows_fewer_at_once() -> None:
    """As many as it takes; nobody waits for room that nothing makes."""
    with laboratory(200, limits={"jobs_in_flight": 0}, jobs_at_once=6, job_duration_s=600.0) as lab:
        ending = await lab.run(submit_only=True)
        assert ending.exit_status == ExitStatus.INCOMPLETE
        assert sum(1 for _ in lab.app.job_table) == 6
        assert (await lab.run()).state == "complete"
        assert await lab.judge() == {}


async def test_credits_that_do_not_suffice() -> None:
    """Nobody collects, so none come back: what could be paid for is out."""
    with laboratory(100, limits={"max_credits": 120, "jobs_in_flight": 0}, job_duration_s=5.0) as lab:
        with anyio.fail_after(FOR_EVER_S):
            ending = await lab.run(submit_only=True)
        assert "2 jobs are in flight" in (ending.reason or "")


@pytest.mark.parametrize("refusal", [402, 401])
async def test_a_refused_create_decides_the_exit_status(refusal: int) -> None:
    """Out of credits, or the key refused: 77, and not the reason of an orderly leave."""
    with laboratory(100, limits={"jobs_in_flight": 0}, job_duration_s=5.0) as lab:

        async def refuse(request: httpx.Request) -> httpx.Response | None:
            late = is_create(request) and lab.wire.count("POST") > 3
            return answer(refusal, {"detail": "no"}) if late else None

        lab.wire.before = refuse
        with anyio.fail_after(FOR_EVER_S):
            ending = await lab.run(submit_only=True)
        assert ending.exit_status == ExitStatus.PERSON
        assert sum(1 for _ in lab.app.job_table) == 3


async def test_too_many_refused_files_stop_the_run() -> None:
    """Files that the API refuses one by one."""
    limits = {"jobs_in_flight": 0, "stop_at_failure_percentage": 50.0}
    with laboratory(300, files_per_job=1, limits=limits, job_duration_s=50.0) as lab:

        async def refuse(request: httpx.Request) -> httpx.Response | None:
            return answer(400, {"detail": "no"}) if is_create(request) else None

        lab.wire.before = refuse
        with anyio.fail_after(FOR_EVER_S):
            assert (await lab.run(submit_only=True)).exit_status == ExitStatus.PERSON


async def test_a_run_with_more_jobs_than_allowed_leaves() -> None:
    """Nothing can be created then, so submit-only leaves."""
    with laboratory(100, limits={"jobs_in_flight": 5}, job_duration_s=500.0) as lab:
        await lab.run(submit_only=True)
        set_limits(lab, {"jobs_in_flight": 3})
        with anyio.fail_after(FOR_EVER_S):
            assert "5 jobs are in flight" in ((await lab.run(submit_only=True)).reason or "")
        assert lab.wire.count("POST") == 5


async def test_a_limit_that_was_found_is_used() -> None:
    """An earlier process found the plan's limit: as many as that are made, and what was refused is given back."""
    with laboratory(200, limits={"jobs_in_flight": 10}, job_duration_s=50.0, jobs_at_once=4) as lab:
        first = await lab.run(submit_only=True)
        assert "4 jobs are in flight" in (first.reason or "")
        left = await read_run(lab.store)
        assert left is not None
        assert len(left.snapshot.open_attempts) == left.snapshot.jobs_in_flight == 4
        await anyio.sleep(1000)

        async def stop() -> None:
            await anyio.sleep(1)
            lab.stopping.request_stop(Stop("a deadline", collects=True))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stop)
            await lab.run()
        before = sum(1 for _ in lab.app.job_table)
        again = await lab.run(submit_only=True)
        assert sum(1 for _ in lab.app.job_table) - before >= 3
        assert f"{sum(1 for _ in lab.app.job_table) - before} jobs are in flight" in (again.reason or "")


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
        set_limits(lab, {"jobs_in_flight": 2})
        assert (await lab.run()).state == "complete"
        assert await lab.judge() == {}
        jobs = sorted(lab.app.job_table, key=lambda job: job.created_at_s)
        for job in jobs[20:]:
            out = [each for each in jobs if each.created_at_s < job.created_at_s < each.finished_at_s]
            assert len(out) <= 2


# --- tune -------------------------------------------------------------------------------------------------------------


async def run_with_limits(lab: Lab, words: list[tuple[float, dict[str, Any]]]) -> None:
    """A run to its end, whose limits change at some moments."""

    async def change_limits() -> None:
        for after_s, tuning in words:
            await anyio.sleep(after_s)
            await lab.store.create(TUNE_JSON, json.dumps(tuning).encode())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(change_limits)
        ending = await lab.run()
    assert ending.state == "complete"
    assert await lab.judge() == {}


def tuned(lab: Lab) -> list[dict[str, Any]]:
    return [line["limits"] for line in lab.lines(Log.JOURNAL) if line["kind"] == "tuned"]


async def test_a_raised_job_limit_holds_within_a_second() -> None:
    """Within a second, and written down."""
    with laboratory(400, limits={"jobs_in_flight": 2}, job_duration_s=100.0, job_duration_sigma=0.0) as lab:
        await run_with_limits(lab, [(50.0, {"jobs_in_flight": 30})])
        moments = creates(lab)
        assert sum(at < 50 for at in moments) == 2
        assert sum(at - moments[0] < 51.5 for at in moments) == 30
        assert tuned(lab) == [{"jobs_in_flight": 30}]
        assert TUNE_JSON not in lab.store.files


async def test_a_lowered_rate_holds_for_all_requests() -> None:
    """The rate of all requests."""
    with laboratory(600, limits={"jobs_in_flight": 60, "requests_per_s": 50.0}, job_duration_s=20.0) as lab:
        await run_with_limits(lab, [(5.0, {"requests_per_s": 2})])
        moments = [at for at, _, _ in lab.wire.requests]
        later = [at for at in moments if at > moments[0] + 6.5]
        assert max(sum(start <= at < start + 10 for at in later) for start in later) <= 21


@pytest.mark.parametrize("listed", [True, False], ids=["in the list", "by their ids"])
async def test_more_requests_after_very_few(*, listed: bool) -> None:
    """A poll that was put off for a rate of one request in fifty seconds isn't put off any more."""
    limits = {"jobs_in_flight": 8, "requests_per_s": 200.0}
    with laboratory(300, version="v2", limits=limits, job_duration_s=3.0, latency_s=0.2) as lab:

        async def no_list(request: httpx.Request) -> httpx.Response | None:
            is_list = request.method == "GET" and request.url.path.endswith("/classify")
            return answer(404, {"detail": "no"}) if is_list and not listed else None

        lab.wire.before = no_list
        await run_with_limits(lab, [(8.3, {"requests_per_s": 0.02}), (1.0, {"requests_per_s": 200.0})])
        assert longest_silence_s(lab) < 5.0


def longest_silence_s(lab: Lab) -> float:
    return max(later - sooner for (sooner, *_), (later, *_) in pairwise(lab.wire.requests))


async def test_as_many_jobs_as_there_are() -> None:
    """0 means the same as in the settings."""
    with laboratory(400, limits={"jobs_in_flight": 2}, job_duration_s=100.0, job_duration_sigma=0.0) as lab:
        await run_with_limits(lab, [(50.0, {"jobs_in_flight": 0})])
        moments = creates(lab)
        assert sum(at - moments[0] < 52 for at in moments) == 40
        assert tuned(lab) == [{"jobs_in_flight": 0}]


async def test_paused_creates_wait_while_jobs_are_collected() -> None:
    """No create passes; what is in flight is collected meanwhile."""
    with laboratory(200, limits={"jobs_in_flight": 5}, job_duration_s=2.0) as lab:
        await run_with_limits(lab, [(3.0, {"paused": True}), (500.0, {"paused": False})])
        moments = creates(lab)
        gaps = [later - sooner for sooner, later in pairwise(moments)]
        assert 495 < max(gaps) < 505
        assert tuned(lab) == [{"paused": True}, {"paused": False}]


async def test_a_raised_credit_limit_reaches_a_waiting_run() -> None:
    """A run that waits for its last jobs' bills may be given more meanwhile."""
    with laboratory(100, limits={"max_credits": 100, "jobs_in_flight": 2}, job_duration_s=30.0) as lab:
        await run_with_limits(lab, [(5.0, {"max_credits": 500})])


async def test_unreadable_limits_are_reported_and_change_nothing() -> None:
    """A file of limits that can't be read is reported and removed, whoever wrote it."""
    with laboratory(100, job_duration_s=20.0) as lab:
        await run_with_limits(lab, [(5.0, {"jobs_in_flight": -1})])
        assert tuned(lab) == []
        assert TUNE_JSON not in lab.store.files


async def test_a_stop_comes_through_a_pause() -> None:
    """What waits for its turn is given back, so that a run which only collects comes to its end."""
    with laboratory(100, limits={"jobs_in_flight": 5}, job_duration_s=5.0, latency_s=0.01) as lab:
        slow_create = anyio.Event()

        async def slow_once(request: httpx.Request) -> httpx.Response | None:
            if is_create(request) and not slow_create.is_set():
                slow_create.set()
                return answer(429, {"detail": "slow"})
            return None

        async def pause_and_stop() -> None:
            await slow_create.wait()
            await lab.store.create(TUNE_JSON, b'{"paused": true}')
            await anyio.sleep(30)
            lab.stopping.request_stop(Stop("too many failures", collects=True))

        lab.wire.before = slow_once
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pause_and_stop)
            with anyio.fail_after(FOR_EVER_S):
                assert (await lab.run()).reason == "too many failures"
        assert (await lab.run()).state == "complete"
        assert await lab.judge() == {}


async def test_jobs_that_take_longer_than_patience_with_a_full_plan() -> None:
    """The plan is full of our own jobs: that is no reason to give up."""
    with laboratory(
        60, limits={"jobs_in_flight": 4}, jobs_at_once=2, job_duration_s=1500.0, job_duration_sigma=0
    ) as lab:
        assert (await lab.run()).state == "complete"
        assert await lab.judge() == {}
