"""One job that the API doesn't show, or whose results it doesn't hand out: the run goes on without it."""

from __future__ import annotations

import json
from collections.abc import Callable

import anyio
import httpx
import pytest

from classify_batch.engine.collector import RESULTS_CALLS_MAX, UNREADABLE_MAX
from classify_batch.errors import ExitStatus
from classify_batch.vocabulary import TUNE_JSON, Log
from tests.support.simulated_run import Lab, answer, as_it_is, ends_well, is_create, laboratory, nothing, retried_well

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


def spoil_results(lab: Lab, kind: str) -> list[str]:
    """Spoils the results of the first job whose results are asked for; returns the list that names the job."""
    spoiled: list[str] = []

    async def spoil(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        job_id = request.url.path.removesuffix("/results").rsplit("/", 1)[-1]
        if not is_results(request) or job_id != (spoiled or [job_id])[0]:
            return response
        spoiled[:] = [job_id]
        if kind == "cut off":
            raise httpx.ReadError("the connection was closed", request=request)
        return answer(200, {"items": [{"file_id": "file-0", "result": {"type": 7}}], "next_page_token": None})

    lab.wire.after = spoil
    return spoiled


@pytest.mark.parametrize("kind", ["cut off", "of another shape"])
async def test_results_of_one_job_that_never_come_whole_fail_its_files_alone(kind: str) -> None:
    """Whatever makes them unreadable, it is this job: all others' can be read."""
    with laboratory(60, files_per_job=10, job_duration_s=5.0, job_duration_sigma=0) as lab:
        spoil_results(lab, kind)
        ending = await lab.run()
        assert (ending.state, ending.exit_status) == ("complete", ExitStatus.FAILURES)
        assert [*lab.codes().values()] == ["not_answered"] * 10
        lab.wire.after = as_it_is
        await retried_well(lab)
        assert lab.accepted() == 6


@pytest.mark.parametrize("kind", ["cut off", "of another shape"])
async def test_a_bad_job_that_is_all_that_is_left_stops_no_run(kind: str) -> None:
    """No other results come meanwhile: the latest job that has ended shows that it isn't the API. So it is for a retry,
    which leaves its files failed as they were."""
    with laboratory(60, files_per_job=10, job_duration_s=5.0, job_duration_sigma=0) as lab:
        spoil_results(lab, kind)
        assert await lab.run_until_power_cut(20.0, max) is None
        assert len(lab.outcomes()) == 50
        for retries in (False, True):
            ending = await lab.run(retry_failed=retries)
            assert (ending.state, ending.exit_status) == ("complete", ExitStatus.FAILURES)
            assert [*lab.codes().values()] == ["not_answered"] * 10
        lab.wire.after = as_it_is
        await retried_well(lab)
        assert lab.accepted() == 6


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_job_that_ended_and_is_only_listed_fails_its_files_alone(version: str) -> None:
    """Neither it nor its results can be had by its ID; on v2 these are one."""
    with laboratory(60, files_per_job=10, version=version, job_duration_s=5.0, job_duration_sigma=0) as lab:
        bad: list[str] = []

        async def spoil(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if bad and bad[0] in request.url.path:
                return answer(500, {"detail": "broken"})
            if response.status_code < 300 and is_create(request):
                bad[:] = bad or [response.json()["id"]]
            elif response.status_code < 300 and request.url.path.endswith("/classify"):
                items = [
                    job | {"result": None if job["id"] in bad else job["result"]} for job in response.json()["items"]
                ]
                return answer(200, response.json() | {"items": items})
            return response

        lab.wire.after = spoil
        ending = await lab.run()
        assert (ending.state, ending.exit_status) == ("complete", ExitStatus.FAILURES)
        assert [*lab.codes().values()] == ["not_answered"] * lab.settings.files_per_job
        lab.wire.after = as_it_is
        await retried_well(lab)
        assert lab.accepted() == 60 // lab.settings.files_per_job


async def test_an_outage_that_ends_only_now_fails_no_file() -> None:
    """The results of another job come again: so the job's own are asked for once more before it is blamed."""
    limits = {"jobs_in_flight": 1}
    with laboratory(20, files_per_job=10, limits=limits, job_duration_s=5.0, job_duration_sigma=0) as lab:
        asked = 0

        async def fail(request: httpx.Request) -> httpx.Response | None:
            nonlocal asked
            asked += is_results(request)
            failing = is_results(request) and 1 < asked <= 1 + RESULTS_CALLS_MAX
            return answer(500, {"detail": "broken"}) if failing else None

        lab.wire.before = fail
        await ends_well(lab)
        assert asked == 1 + RESULTS_CALLS_MAX + 2


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


async def test_an_outage_that_begins_while_a_job_is_asked_for_fails_no_file() -> None:
    """Other results came while its first call hung, and none any more: that says nothing of the job."""
    with laboratory(20, files_per_job=10, job_duration_s=5.0, job_duration_sigma=0) as lab:
        asked: list[str] = []

        async def fail(request: httpx.Request) -> httpx.Response | None:
            if not is_results(request):
                return None
            asked.append(request.url.path)
            if len(asked) == 1:
                await anyio.sleep(50.0)  # the other job's are read meanwhile
            return answer(500, {"detail": "broken"}) if request.url.path == asked[0] or len(asked) > 2 else None

        lab.wire.before = fail
        ending = await lab.run()
        assert (ending.state, ending.exit_status) == ("incomplete", ExitStatus.INCOMPLETE)
        assert (len(lab.outcomes()), lab.codes()) == (10, {})
        lab.wire.before = nothing
        await ends_well(lab)


async def test_jobs_in_flight_are_no_witnesses_in_an_outage_of_the_results() -> None:
    """A server may hand out no answers for them where it fails for all that have ended."""
    with laboratory(100, files_per_job=10, job_duration_s=200.0, job_duration_sigma=1.0) as lab:

        async def fail_for_ended(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if not is_results(request):
                return response
            in_flight = response.status_code == 400
            return answer(200, {"items": [], "next_page_token": None}) if in_flight else answer(500)

        lab.wire.after = fail_for_ended
        ending = await lab.run()
        assert (ending.state, ending.exit_status) == ("incomplete", ExitStatus.INCOMPLETE)
        assert lab.outcomes() == {}
        lab.wire.after = as_it_is
        await ends_well(lab)


async def test_jobs_in_flight_are_no_sign_of_an_outage_of_the_results() -> None:
    """A server may answer for them with what else means that it is in trouble."""
    with laboratory(100, files_per_job=10, seed=4, job_duration_s=2000.0, job_duration_sigma=0.4) as lab:
        asked: dict[str, None] = {}

        async def fail_for_third(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if not is_results(request):
                return response
            if response.status_code == 400:
                return answer(409, {"detail": "the job has not ended"})
            asked[request.url.path] = None
            return answer(500) if [*asked].index(request.url.path) == 2 else response

        lab.wire.after = fail_for_third
        ending = await lab.run()
        assert (ending.state, ending.exit_status) == ("complete", ExitStatus.FAILURES)
        assert [*lab.codes().values()] == ["not_answered"] * 10


async def test_many_bad_jobs_that_are_all_that_is_left_stop_no_run() -> None:
    """They are the latest ones, too, and being read just now: so the one before them shows that it isn't the API."""
    limits = {"patience_s": 86_400}
    with laboratory(8, files_per_job=1, limits=limits, job_duration_s=5.0, job_duration_sigma=0) as lab:
        created: list[str] = []

        async def note_job(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if is_create(request):
                created.append(json.loads(await response.aread())["id"])
            return response

        async def fail(request: httpx.Request) -> httpx.Response | None:
            bad = is_results(request) and created[0] not in request.url.path
            return answer(500, {"detail": "broken"}) if bad else None

        lab.wire.before, lab.wire.after = fail, note_job
        assert await lab.run_until_power_cut(20.0, max) is None
        assert len(lab.outcomes()) == 1
        ending = await lab.run()
        assert (ending.state, ending.exit_status) == ("complete", ExitStatus.FAILURES)
        assert [*lab.codes().values()] == ["not_answered"] * 7


async def test_many_bad_jobs_one_after_the_other_stop_no_run() -> None:
    """The first of them are the latest jobs that have ended: that they can't be read either says nothing of the API."""
    limits = {"jobs_in_flight": 1, "patience_s": 86_400}
    with laboratory(UNREADABLE_MAX + 3, files_per_job=1, limits=limits, job_duration_s=5.0) as lab:
        asked: dict[str, None] = {}

        async def fail(request: httpx.Request) -> httpx.Response | None:
            if not is_results(request):
                return None
            asked[request.url.path] = None
            return None if request.url.path == next(iter(asked)) else answer(500, {"detail": "broken"})

        lab.wire.before = fail
        ending = await lab.run()
        assert (ending.state, ending.exit_status) == ("complete", ExitStatus.FAILURES)
        assert [*lab.codes().values()] == ["not_answered"] * (UNREADABLE_MAX + 2)


async def test_few_other_jobs_are_asked_for_in_an_outage_of_the_results() -> None:
    """Each call may last as long as its timeout, and the run shall end soon."""
    limits = {"jobs_in_flight": 1, "patience_s": 86_400}
    with laboratory(30, files_per_job=1, limits=limits, job_duration_s=5.0, job_duration_sigma=0) as lab:
        asked: list[str] = []

        async def fail(request: httpx.Request) -> httpx.Response | None:
            if is_results(request):
                asked.append(request.url.path)
            return answer(500, {"detail": "broken"}) if is_results(request) and len(asked) > 25 else None

        lab.wire.before = fail
        ending = await lab.run()
        assert (ending.state, ending.exit_status) == ("incomplete", ExitStatus.INCOMPLETE)
        assert len(lab.outcomes()) == 25
        again = [each for each in asked[25:] if each in asked[:25]]
        assert 0 < len(again) <= UNREADABLE_MAX * (lab.accepted() - 25)


async def test_a_job_that_the_api_refuses_to_show_is_found_in_the_list() -> None:
    """A 400 for one job's ID keeps nobody else waiting."""
    with laboratory(60, files_per_job=10, job_duration_s=50.0, job_duration_sigma=0.2) as lab:
        break_one_job(lab, 400, lambda request: "jobs/" in request.url.path and not is_results(request))
        await ends_well(lab)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("status", [200, 500])
async def test_a_job_that_neither_its_id_nor_the_list_can_show_holds_no_other_up(version: str, status: int) -> None:
    """Its server can't write it, say. All others are collected before the run stops, and nothing is paid again."""
    limits = {"jobs_in_flight": 5}
    with laboratory(40, files_per_job=2, version=version, limits=limits) as lab:
        bad: list[str] = []

        async def spoil(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if response.status_code >= 300 or is_results(request) or "files" in request.url.path:
                return response
            body = response.json()
            if is_create(request):
                bad[:] = bad or [body["id"]]
                return response
            for job in body.get("items", [body]):
                if job["id"] == bad[0]:
                    job["status"] = None
                    return answer(status, body)
            return response

        lab.wire.after = spoil
        ending = await lab.run()
        assert (ending.state, ending.exit_status) == ("incomplete", ExitStatus.INCOMPLETE)
        assert len(lab.outcomes()) == 40 - lab.settings.files_per_job
        lab.wire.after = as_it_is
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
