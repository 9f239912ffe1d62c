"""Whole runs that are cancelled, in virtual time: live, taken over, killed at every moment, against a server that
refuses."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import anyio
import httpx
import pytest

from classify_batch.engine.canceller import CALLS_AT_ONCE
from classify_batch.engine.progress import Ending
from classify_batch.engine.shutdown import Stop
from classify_batch.errors import ExitStatus
from classify_batch.rundir.opened_run import read_run
from classify_batch.vocabulary import CANCEL_JSON, MANIFEST_JSON, TUNE_JSON, CancelState, JobStatus, Log
from tests.support.simulated_run import Lab, answer, change_faults, change_options, ends_well, laboratory

pytestmark = pytest.mark.anyio

LONG_S = 1000.0
STEADY: dict[str, Any] = {"job_duration_sigma": 0.0}
ONCE = {"attempts": 1, "jobs_in_flight": 10, "settle_s": 5.0}
"""One attempt a file: a cancelled job that counted as one would fail its file."""


def is_cancel(request: httpx.Request) -> bool:
    return request.method == "POST" and request.url.path.endswith("/cancel")


def creates(lab: Lab) -> list[float]:
    return [at for at, method, path in lab.wire.requests if method == "POST" and not path.endswith("/cancel")]


def cancelled_ids(lab: Lab) -> set[str]:
    return {path.split("/")[-2] for _, _, path in lab.wire.requests if path.endswith("/cancel")}


def jobs_with(lab: Lab, status: JobStatus) -> list[str]:
    now_s = lab.clock.wall_s()
    return [job.job_id for job in lab.app.job_table if job.status(now_s) is status]


def manifest(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.store.files[MANIFEST_JSON])
    return found


def tuned(lab: Lab) -> list[dict[str, Any]]:
    return [line for line in lab.lines(Log.JOURNAL) if line["kind"] == "tuned"]


async def run_and_do(
    lab: Lab, after_s: float, act: Callable[[], Awaitable[object]], *, retry_failed: bool = False
) -> Ending:
    """A run to its end, and what somebody does after so long."""
    endings: list[Ending] = []
    async with anyio.create_task_group() as tasks:

        async def later() -> None:
            await anyio.sleep(after_s)
            await act()

        tasks.start_soon(later)
        endings.append(await lab.run(retry_failed=retry_failed))
        tasks.cancel_scope.cancel()
    return endings[0]


async def ask_to_cancel(lab: Lab) -> None:
    await lab.store.create(CANCEL_JSON, b"{}")


async def run_and_cancel(lab: Lab, after_s: float) -> Ending:
    return await run_and_do(lab, after_s, lambda: ask_to_cancel(lab))


def is_cancelled(ending: Ending) -> bool:
    return (ending.state, ending.exit_status) == ("incomplete", ExitStatus.PERSON) and "cancelled" in str(ending.reason)


async def goes_on_well(lab: Lab) -> None:
    """The run completes: nothing lost, nothing paid twice, no file failed, however often its jobs were cancelled."""
    await ends_well(lab)
    assert lab.codes() == {}


# --- A process that is asked ------------------------------------------------------------------------------------------


async def test_a_running_run_cancels_its_jobs_and_goes_on_later() -> None:
    """No more creates, every job in flight cancelled, what was finished collected; no attempt is used up."""
    with laboratory(60, version="v2", limits=ONCE, job_duration_s=40.0, **STEADY) as lab:
        ending = await run_and_cancel(lab, 100.0)
        assert is_cancelled(ending)
        assert "resume" in ending.hint
        assert len(creates(lab)) == 30
        assert len(lab.outcomes()) == 20
        assert len(cancelled_ids(lab)) == 10
        assert sorted(jobs_with(lab, JobStatus.CANCELLED)) == sorted(cancelled_ids(lab))
        assert anyio.current_time() < 100.0 + 15.0
        assert CANCEL_JSON not in lab.store.files
        assert [(line["limits"], line["cancel"]) for line in tuned(lab)] == [({}, True)]
        assert (manifest(lab)["cancel"], manifest(lab)["exit_status"]) == ("done", 77)
        assert lab.lines(Log.JOURNAL)[-1]["cancelled"] is True
        await goes_on_well(lab)
        assert "cancel" not in manifest(lab)
        assert lab.accepted() == 70  # each cancelled job's file got another one: its transaction ID is new
        assert len({job.transaction_id for job in lab.app.job_table}) == 70


async def test_a_bill_gives_back_what_a_cancelled_job_did_not_cost() -> None:
    """The sandbox tells that it bills nothing."""
    with laboratory(10, version="v2", limits=ONCE, job_duration_s=LONG_S, **STEADY) as lab:
        await run_and_cancel(lab, 10.0)
        assert manifest(lab)["credits"]["reserved"] == 0


async def test_what_a_cancelled_job_may_have_cost_stays_set_aside() -> None:
    """Where the API tells no bill for a cancelled job, nobody knows that it was free."""
    with laboratory(10, version="v2", limits=ONCE, job_duration_s=LONG_S, **STEADY) as lab:

        async def hide_usage(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if request.method == "GET" and response.status_code == 200 and "classify" in request.url.path:
                return httpx.Response(200, text=response.text.replace('"usage"', '"hidden"'))
            return response

        lab.wire.after = hide_usage
        await run_and_cancel(lab, 10.0)
        assert manifest(lab)["credits"] == {"reserved": 50, "billed": None}


async def test_v1_collects_what_it_cannot_cancel() -> None:
    """No create and no cancel any more; the jobs in flight were paid, and are collected."""
    with laboratory(300, limits={"jobs_in_flight": 5}, job_duration_s=40.0, **STEADY) as lab:
        ending = await run_and_cancel(lab, 50.0)
        assert is_cancelled(ending)
        assert (len(creates(lab)), cancelled_ids(lab)) == (10, set())
        assert len(lab.outcomes()) == 100
        assert manifest(lab)["cancel"] == "done"
        await goes_on_well(lab)
        assert lab.accepted() == 30


async def test_v1_jobs_that_take_longer_are_left_to_a_later_process() -> None:
    """After `limits.drain_s`; the next start takes them up, and pays nothing again."""
    limits = {"jobs_in_flight": 5, "drain_s": 30.0}
    with laboratory(300, limits=limits, job_duration_s=LONG_S, **STEADY) as lab:
        ending = await run_and_cancel(lab, 50.0)
        assert is_cancelled(ending)
        assert "5 jobs" in str(ending.reason)
        assert 80.0 <= anyio.current_time() < 85.0
        await goes_on_well(lab)
        assert lab.accepted() == 30


async def test_a_paused_run_can_be_cancelled() -> None:
    """What waits for its turn is given back."""
    with laboratory(60, version="v2", limits=ONCE, job_duration_s=40.0, **STEADY) as lab:

        async def pause_and_cancel() -> None:
            await lab.store.create(TUNE_JSON, b'{"paused": true}')
            await anyio.sleep(45.0)
            await ask_to_cancel(lab)

        ending = await run_and_do(lab, 10.0, pause_and_cancel)
        assert is_cancelled(ending)
        assert len(creates(lab)) == 10
        await goes_on_well(lab)


async def test_submit_only_leaves_its_jobs_to_who_carries_the_cancel_out() -> None:
    """That process collects nothing: the cancel stays asked for, and the next command finishes it."""
    with laboratory(60, version="v2", limits=ONCE | {"requests_per_s": 2.0}, job_duration_s=LONG_S, **STEADY) as lab:
        endings: list[Ending] = []
        async with anyio.create_task_group() as tasks:

            async def later() -> None:
                await anyio.sleep(3.0)
                await ask_to_cancel(lab)

            tasks.start_soon(later)
            endings.append(await lab.run(submit_only=True))
            tasks.cancel_scope.cancel()
        assert endings[0].state == "incomplete"
        assert manifest(lab)["cancel"] == "asked"
        made = lab.accepted()
        assert made < 10
        assert is_cancelled(await lab.run(cancel=True))
        assert len(jobs_with(lab, JobStatus.CANCELLED)) == made == lab.accepted()
        await goes_on_well(lab)


@pytest.mark.usefixtures("small_batches")
async def test_old_jobs_of_failed_files_are_cancelled_as_they_are_taken_up_again() -> None:
    """There are more of them than may be in flight, so most are taken up when the run is cancelled already: all are
    cancelled, and that costs none of their files its only attempt."""
    limits = ONCE | {"jobs_in_flight": 4, "job_timeout_s": 30.0}
    with laboratory(20, version="v2", limits=limits, job_duration_s=LONG_S, **STEADY) as lab:
        assert (await lab.run()).state == "complete"
        assert set(lab.codes().values()) == {"overdue"}
        began_s = anyio.current_time()
        ending = await run_and_do(lab, 1.0, lambda: ask_to_cancel(lab), retry_failed=True)
        assert is_cancelled(ending)
        assert anyio.current_time() - began_s < 120.0  # not limits.drain_s, which is 300
        assert (len(cancelled_ids(lab)), jobs_with(lab, JobStatus.PENDING)) == (20, [])
        assert (lab.accepted(), manifest(lab)["cancel"]) == (20, "done")
        change_options(lab, job_duration_s=1.0)
        await goes_on_well(lab)
        assert lab.accepted() == 40


# --- A run that nobody runs -------------------------------------------------------------------------------------------


async def test_a_killed_run_is_cancelled_by_who_takes_it_over() -> None:
    """Jobs that another process made are cancelled; those that ended meanwhile are collected first."""
    with laboratory(60, version="v2", limits=ONCE, job_duration_s=40.0) as lab:
        assert await lab.run_until_power_cut(100.0) is None
        before = len(creates(lab))
        assert is_cancelled(await lab.run(cancel=True))
        assert len(creates(lab)) == before
        assert jobs_with(lab, JobStatus.PENDING) == []
        assert not cancelled_ids(lab) & set(jobs_with(lab, JobStatus.SUCCESS))
        await goes_on_well(lab)


async def test_a_run_with_nothing_in_flight_is_cancelled_without_a_call() -> None:
    """Planned, and never begun: that it is cancelled is written down, and nobody is called."""
    with laboratory(60, version="v2", limits=ONCE, job_duration_s=40.0) as lab:
        ending = await lab.run(cancel=True)
        assert (is_cancelled(ending), ending.reason) == (True, "cancelled")
        assert lab.wire.requests == []
        assert is_cancelled(await lab.run(cancel=True))
        await goes_on_well(lab)


async def test_a_complete_run_stays_complete() -> None:
    """Nothing is left to cancel."""
    with laboratory(10, version="v2", limits=ONCE) as lab:
        await ends_well(lab)
        ending = await lab.run(cancel=True)
        assert (ending.state, ending.exit_status) == ("complete", ExitStatus.COMPLETE)
        assert tuned(lab) == []
        assert await lab.judge() == {}


async def test_cancelled_resumed_and_cancelled_again() -> None:
    """Each time, and never at the cost of an attempt."""
    with laboratory(30, version="v2", limits=ONCE, job_duration_s=LONG_S, **STEADY) as lab:
        for turn in range(1, 4):
            assert is_cancelled(await run_and_cancel(lab, 20.0))
            assert len(jobs_with(lab, JobStatus.CANCELLED)) == 10 * turn
            assert is_cancelled(await lab.run(cancel=True))
        change_options(lab, job_duration_s=5.0)
        await goes_on_well(lab)


# --- Cut short --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("then", ["cancel", "run"])
async def test_killed_at_any_moment_the_next_command_carries_it_out(version: str, then: str) -> None:
    """Power cuts at every moment of a cancel, under lost answers: nothing lost, nothing paid twice, no attempt used."""
    faults = {"lost_create_answer": 0.2, "read_503": 0.05, "rate_429": 0.05}
    for step in range(12):
        random = Random(step)
        with laboratory(
            30,
            version=version,
            files_per_job=3,
            limits=ONCE | {"drain_s": 60.0},
            faults=faults,
            job_duration_s=12.0,
            latency_s=0.1,
            commit_s=0.05,
            seed=step,
        ) as lab:
            assert await lab.run_until_power_cut(8.0, random.randint) is None
            ending = await lab.run_until_power_cut(0.9 * step, random.randint, cancel=True)
            if ending is None:
                found = await read_run(lab.store)
                assert found is not None
                before = len(creates(lab))
                ending = await lab.run(cancel=then == "cancel")
                if found.snapshot.cancel is CancelState.ASKED:  # whoever comes next finishes it, and creates nothing
                    assert len(creates(lab)) == before
                    assert ending.state == "complete" or is_cancelled(ending), ending
            change_faults(lab)
            await goes_on_well(lab)


async def test_an_interrupted_cancel_is_finished_by_the_next_start() -> None:
    """Ctrl-C leaves at once, with 75; `resume` then cancels, and only the start after it goes on."""
    with laboratory(60, version="v2", limits=ONCE, job_duration_s=LONG_S, latency_s=0.5, **STEADY) as lab:

        async def cancel_and_interrupt() -> None:
            await ask_to_cancel(lab)
            await anyio.sleep(1.2)
            lab.stopping.request_stop(Stop("interrupted by SIGINT"))

        ending = await run_and_do(lab, 20.0, cancel_and_interrupt)
        assert (ending.exit_status, manifest(lab)["cancel"]) == (ExitStatus.INCOMPLETE, "asked")
        before = len(creates(lab))
        assert is_cancelled(await lab.run())
        assert len(creates(lab)) == before
        assert jobs_with(lab, JobStatus.PENDING) == []
        assert manifest(lab)["cancel"] == "done"
        change_options(lab, job_duration_s=5.0)
        await goes_on_well(lab)


async def test_an_api_that_is_down_leaves_the_cancel_asked_for() -> None:
    """The run ends as it does without an API, and the next command cancels."""
    limits = ONCE | {"patience_s": 60.0}
    with laboratory(60, version="v2", limits=limits, job_duration_s=LONG_S, **STEADY) as lab:

        async def down(request: httpx.Request) -> httpx.Response | None:
            return answer(503) if anyio.current_time() > 19.0 else None

        lab.wire.before = down
        ending = await run_and_cancel(lab, 20.0)
        assert ending.exit_status == ExitStatus.INCOMPLETE
        assert manifest(lab)["cancel"] == "asked"

        async def up(_: httpx.Request) -> httpx.Response | None:
            return None

        lab.wire.before = up
        assert is_cancelled(await lab.run(cancel=True))
        assert len(jobs_with(lab, JobStatus.CANCELLED)) == 10
        change_options(lab, job_duration_s=5.0)
        await goes_on_well(lab)


# --- What the server answers ------------------------------------------------------------------------------------------


async def test_lost_answers_to_cancels_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A second call is refused, since the first one did it: the job says so, and nobody is warned."""
    with laboratory(30, version="v2", limits=ONCE, job_duration_s=LONG_S, **STEADY) as lab:

        async def lose(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if is_cancel(request) and response.status_code == 200:
                raise httpx.ReadError("lost")
            return response

        lab.wire.after = lose
        assert is_cancelled(await run_and_cancel(lab, 20.0))
        assert len(jobs_with(lab, JobStatus.CANCELLED)) == 10
        assert "can't be cancelled" not in caplog.text
        change_options(lab, job_duration_s=5.0)
        await goes_on_well(lab)


async def test_a_job_that_ends_before_its_cancel_arrives_is_collected(caplog: pytest.LogCaptureFixture) -> None:
    """Its answer was paid, and counts; that it couldn't be cancelled is no news."""
    with laboratory(10, version="v2", limits=ONCE, job_duration_s=60.0, **STEADY) as lab:

        async def arrive_late(request: httpx.Request) -> httpx.Response | None:
            if is_cancel(request):
                await anyio.sleep(50.0)
            return None

        lab.wire.before = arrive_late
        ending = await run_and_cancel(lab, 20.0)
        assert ending.state == "complete"
        assert len(cancelled_ids(lab)) == CALLS_AT_ONCE  # the others were seen to have ended before their turn came
        assert "can't be cancelled" not in caplog.text
        assert await lab.judge() == {}
        assert lab.accepted() == 10


@pytest.mark.parametrize("status", [400, 402, 404, 405, 409, 503])
async def test_jobs_that_the_api_does_not_cancel_are_collected(status: int, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it refuses with: they are waited for like those of v1, and nothing is created."""
    with laboratory(30, version="v2", limits=ONCE, job_duration_s=100.0, **STEADY) as lab:

        async def refuse(request: httpx.Request) -> httpx.Response | None:
            return answer(status, {"detail": "no"}) if is_cancel(request) else None

        lab.wire.before = refuse
        ending = await run_and_cancel(lab, 20.0)
        assert is_cancelled(ending), ending
        # A 503 may pass: it is tried again until the jobs have ended.
        assert caplog.text.count("can't be cancelled") == (status != 503)
        assert len(creates(lab)) == 10
        assert len(lab.outcomes()) == 10
        assert len(lab.wire.requests) < 500
        await goes_on_well(lab)
        assert lab.accepted() == 30


async def test_jobs_that_neither_end_nor_can_be_cancelled_are_left() -> None:
    """After `limits.drain_s`, and the run says how many."""
    with laboratory(30, version="v2", limits=ONCE | {"drain_s": 40.0}, job_duration_s=LONG_S, **STEADY) as lab:

        async def refuse(request: httpx.Request) -> httpx.Response | None:
            return answer(409, {"detail": "no"}) if is_cancel(request) else None

        lab.wire.before = refuse
        ending = await run_and_cancel(lab, 20.0)
        assert is_cancelled(ending)
        assert "10 jobs" in str(ending.reason)
        await goes_on_well(lab)


async def test_a_status_that_comes_late_is_waited_for() -> None:
    """The answer to a cancel may show the job as it was: the polls show its end."""
    with laboratory(30, version="v2", limits=ONCE, job_duration_s=LONG_S, **STEADY) as lab:

        async def show_as_running(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if is_cancel(request) and response.status_code == 200:
                return httpx.Response(200, text=response.text.replace('"CANCELLED"', '"RUNNING"'))
            return response

        lab.wire.after = show_as_running
        assert is_cancelled(await run_and_cancel(lab, 20.0))
        assert anyio.current_time() < 90.0
        change_options(lab, job_duration_s=5.0)
        await goes_on_well(lab)


# --- Creates whose answers were lost ----------------------------------------------------------------------------------


@pytest.mark.parametrize("list_lag_s", [0.0, 4.0])
async def test_the_job_of_an_ambiguous_create_is_found_and_cancelled(list_lag_s: float) -> None:
    """It is looked for, also where the list shows it late; the create is never repeated in order to cancel it."""
    with laboratory(
        30, version="v2", limits=ONCE, faults={"list_lag_s": list_lag_s}, job_duration_s=LONG_S, **STEADY
    ) as lab:

        async def lose_all(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if request.method == "POST" and not is_cancel(request):
                raise httpx.ReadError("lost")
            return response

        lab.wire.after = lose_all
        assert await lab.run_until_power_cut(0.2) is None
        made = lab.accepted()
        assert made > 0
        before = len(creates(lab))
        ending = await lab.run(cancel=True)
        assert is_cancelled(ending)
        assert len(creates(lab)) == before
        assert len(jobs_with(lab, JobStatus.CANCELLED)) == made == lab.accepted()
        change_options(lab, job_duration_s=5.0)
        lab.wire.after = as_it_came
        await goes_on_well(lab)


async def as_it_came(_: httpx.Request, response: httpx.Response) -> httpx.Response:
    return response


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_create_that_made_no_job_is_looked_for_and_not_repeated(version: str) -> None:
    """Once it is proven that there is no job, the cancel is done; the file goes out with the next start."""
    with laboratory(30, version=version, limits=ONCE, job_duration_s=5.0, **STEADY) as lab:

        async def swallow(request: httpx.Request) -> httpx.Response | None:
            if request.method == "POST" and not is_cancel(request):
                raise httpx.ReadError("lost on the way there")
            return None

        lab.wire.before = swallow
        assert await lab.run_until_power_cut(0.2) is None
        before = len(creates(lab))
        assert is_cancelled(await lab.run(cancel=True))
        assert len(creates(lab)) == before
        assert 60.0 < anyio.current_time() < 200.0

        async def arrive(_: httpx.Request) -> httpx.Response | None:
            return None

        lab.wire.before = arrive
        await goes_on_well(lab)


async def test_an_ambiguous_create_that_waits_is_looked_for_in_the_same_process() -> None:
    """Its answer was lost, and it waits to be repeated: it isn't, and its job is cancelled."""
    with laboratory(10, version="v2", limits=ONCE, job_duration_s=LONG_S, **STEADY) as lab:

        async def lose(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            late = anyio.current_time() > 10.0
            if request.method == "POST" and not is_cancel(request) and not late:
                return answer(503)
            return response

        lab.wire.after = lose
        await run_and_cancel(lab, 0.4)
        assert len(jobs_with(lab, JobStatus.CANCELLED)) == lab.accepted() > 0
        change_options(lab, job_duration_s=5.0)
        await goes_on_well(lab)


# --- Other people's jobs ----------------------------------------------------------------------------------------------


async def test_only_jobs_of_the_run_are_cancelled() -> None:
    """Another run's jobs are in the same project, of the same files, by the same rules: they go on."""
    with laboratory(10, version="v2", limits=ONCE, job_duration_s=LONG_S, **STEADY) as lab:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(lab.app), base_url="https://sandbox.test") as other:
            body = {
                "file_input": "file-1",
                "configuration": {"rules": lab.settings.job.model_dump(mode="json")["rules"]},
                "transaction_id": "another run's",
            }
            key = {"Authorization": f"Bearer {lab.app.options.api_key}"}
            made = await other.post("/api/v2/classify", json=body, headers=key)
            theirs = made.json()["id"]
        assert is_cancelled(await run_and_cancel(lab, 20.0))
        assert theirs in jobs_with(lab, JobStatus.PENDING)
        assert len(cancelled_ids(lab)) == 10
        assert theirs not in cancelled_ids(lab)
