"""One job that the API doesn't show, or whose results it doesn't hand out: the run goes on without it."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import httpx
import pytest

from classify_batch.errors import ExitStatus
from classify_batch.vocabulary import TUNE_JSON, Log
from tests.support.simulated_run import Lab, answer, ends_well, is_create, laboratory, nothing

pytestmark = pytest.mark.anyio


def break_one_job(lab: Lab, status: int, concerns: Callable[[httpx.Request], bool]) -> list[str]:
    """Answers such requests about the first job that one names with `status`; returns the list that names the job."""
    broken: list[str] = []

    async def before(request: httpx.Request) -> httpx.Response | None:
        if not concerns(request):
            return None
        job_id = request.url.path.removesuffix("/results").rsplit("/", 1)[-1]
        broken[:] = broken or [job_id]
        return answer(status, {"detail": "broken"}) if job_id == broken[0] else None

    lab.wire.before = before
    return broken


def is_results(request: httpx.Request) -> bool:
    return request.url.path.endswith("/results")


@pytest.mark.parametrize("status", [404, 400, 500])
async def test_results_that_one_job_withholds_fail_its_files_alone(status: int) -> None:
    """They are perhaps paid: named with their job, and read again by a retry, without a second payment."""
    with laboratory(60, files_per_job=10, job_duration_s=5.0, job_duration_sigma=0) as lab:
        broken = break_one_job(lab, status, is_results)
        ending = await lab.run()
        assert (ending.state, ending.exit_status) == ("complete", ExitStatus.FAILURES)
        failed = [line for line in lab.lines(Log.FAILURES) if line["job_id"] == broken[0]]
        assert [line["code"] for line in failed] == ["not_answered"] * 10
        assert f"HTTP {status}" in failed[0]["message"]
        lab.wire.before = nothing
        ending = await lab.run(retry_failed=True)
        assert (ending.state, ending.exit_status) == ("complete", ExitStatus.COMPLETE)
        assert await lab.judge() == {}
        assert lab.accepted() == 6


async def test_results_that_nobody_can_read_stop_the_run() -> None:
    """An outage of the results says nothing about any job: the same command goes on later, and nothing has failed."""
    with laboratory(60, files_per_job=10, job_duration_s=5.0, job_duration_sigma=0) as lab:

        async def before(request: httpx.Request) -> httpx.Response | None:
            return answer(500, {"detail": "broken"}) if is_results(request) else None

        lab.wire.before = before
        ending = await lab.run()
        assert (ending.state, ending.exit_status) == ("incomplete", ExitStatus.INCOMPLETE)
        assert lab.outcomes() == {}
        lab.wire.before = nothing
        await ends_well(lab)


async def test_a_job_that_the_api_refuses_to_show_is_found_in_the_list() -> None:
    """A 400 for one job's ID keeps nobody else waiting."""
    with laboratory(60, files_per_job=10, job_duration_s=50.0, job_duration_sigma=0.2) as lab:
        break_one_job(lab, 400, lambda request: "jobs/" in request.url.path and not is_results(request))
        await ends_well(lab)


async def test_lost_answers_hours_apart_do_not_stop_a_run() -> None:
    """With one slot two lost answers may lie as far apart as their jobs take: that is no API that makes no jobs."""
    limits = {"jobs_in_flight": 1}
    with laboratory(60, files_per_job=10, limits=limits, job_duration_s=900.0, job_duration_sigma=0) as lab:
        creates = 0

        async def lose(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            nonlocal creates
            creates += is_create(request)
            if is_create(request) and creates in (2, 3):
                raise httpx.ReadError("the connection was closed", request=request)
            return response

        lab.wire.after = lose
        await ends_well(lab)


async def test_a_tune_file_that_its_command_removes_again_changes_nothing() -> None:
    """`tune` takes its file back when nobody answers in time; the run may see it just before."""
    with laboratory(20, job_duration_s=20.0) as lab:
        size = lab.store.size

        async def seen_a_moment_ago(name: str) -> int | None:
            return 10 if name == TUNE_JSON and anyio.current_time() > 5 else await size(name)

        lab.store.size = seen_a_moment_ago  # type: ignore[method-assign]
        ending = await lab.run()
        assert ending.state == "complete"
