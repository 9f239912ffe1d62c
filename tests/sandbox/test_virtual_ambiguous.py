"""Ambiguous creates, in virtual time: whose job is it, and how long does it take to find out?"""

from __future__ import annotations

import json
from collections import Counter
from email.utils import formatdate
from itertools import count

import anyio
import httpx
import pytest

from classify_batch.errors import ExitStatus
from classify_batch.vocabulary import Log
from tests.sandbox.virtual import Before, Lab, answer, ends_well, is_create, laboratory, nothing

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("fault", ["lost_create_answer", "create_503_after"])
async def test_lost_answers_are_found_again(fault: str) -> None:
    """Accepted and not answered for: each such job is adopted, and no file is sent twice."""
    with laboratory(300, files_per_job=10, faults={fault: 0.4}, job_duration_s=1.0) as lab:
        await ends_well(lab)
        assert lab.wire.count("POST") == lab.accepted() == 30


async def test_creates_that_were_not_accepted_are_sent_again() -> None:
    """After the settling time, twice looked at, it is sure that there is no job: then, and not before, once more."""
    with laboratory(50, files_per_job=10, faults={"create_503_before": 0.5}, limits={"settle_s": 30.0}) as lab:
        await ends_well(lab)
        assert lab.accepted() == 5
        assert lab.wire.count("POST") > 5
        assert anyio.current_time() > 30


async def test_all_chunks_ambiguous_at_once() -> None:
    """Every first answer is lost: twenty ambiguous creates, one reading of the list for all of them, no second
    payment."""
    with laboratory(100, files_per_job=5, faults={"lost_create_answer": 1.0}, job_duration_s=0.1) as lab:
        await ends_well(lab)
        assert lab.accepted() == 20
        assert lab.wire.count("GET") < 20 * 8


@pytest.mark.parametrize("order", ["newest", "oldest", "shuffled"])
async def test_a_list_that_lags_less_than_it_may(order: str) -> None:
    """An accepted job shows within `settle_s`, and that is enough."""
    faults = {"lost_create_answer": 0.3, "create_503_before": 0.2, "list_lag_s": 4.5, "get_lag_s": 3.0}
    with laboratory(100, files_per_job=5, faults=faults, limits={"settle_s": 5.0}, list_order=order) as lab:
        await ends_well(lab)
        assert lab.accepted() == 20


@pytest.mark.parametrize("skew_s", [-7200.0, 7200.0])
@pytest.mark.parametrize("says_so", [True, False])
async def test_a_server_whose_clock_is_wrong(skew_s: float, says_so: bool) -> None:
    """Its `Date` tells how wrong; where it has none, times prove nothing and the file IDs do."""
    with laboratory(60, files_per_job=5, faults={"lost_create_answer": 0.4}, skew_s=skew_s) as lab:

        async def dated(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if says_so:
                response.headers["Date"] = formatdate(lab.clock.wall_s() + skew_s, usegmt=True)
            return response

        lab.wire.after = dated
        await ends_well(lab)
        assert lab.accepted() == 12


async def test_an_answer_that_is_late_while_others_are_ambiguous() -> None:
    """A create that times out after a minute finds its job, though that was read for other attempts before."""
    with laboratory(60, files_per_job=5, job_duration_s=0.5, limits={"settle_s": 40.0}) as lab:
        posts = Counter[str]()

        async def refused_before(request: httpx.Request) -> httpx.Response | None:
            """The even ones stay ambiguous for long, because they left no job at all."""
            if is_create(request) and _chunk(request) % 2 == 0:
                posts[request.content.decode()] += 1
                return answer(503) if posts[request.content.decode()] == 1 else None
            return None

        async def late(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if is_create(request) and _chunk(request) % 2:
                await anyio.sleep(20)
                raise httpx.ReadTimeout("", request=request)
            return response

        lab.wire.before, lab.wire.after = refused_before, late
        await ends_well(lab)
        assert lab.accepted() == 12


def _chunk(request: httpx.Request) -> int:
    first: str = json.loads(request.content)["file_ids"][0]
    return int(first.removeprefix("file-")) // 5


async def test_an_earlier_job_of_the_same_file_is_not_taken_for_its_second() -> None:
    """A file alone that was null at first: its first job is known, though by its clock it may follow the second."""
    for seed in range(8):
        faults = {"null_result": 0.5, "lost_create_answer": 0.4}
        with laboratory(8, files_per_job=1, faults=faults, limits={"attempts": 5}, seed=seed) as lab:
            await ends_well(lab)


async def test_a_job_that_could_be_ours_and_never_ends() -> None:
    """Never paid on a guess: after `job_timeout_s` the files are unresolved, and the candidate is named."""
    limits = {"job_timeout_s": 300.0}
    with laboratory(5, files_per_job=5, faults={"lost_create_answer": 1.0}, job_duration_s=1e7, limits=limits) as lab:
        ending = await lab.run()
        assert ending.state == "complete"
        assert lab.wire.count("POST") == 1
        assert set(lab.codes().values()) == {"unresolved"}
        (job,) = lab.app.job_table
        assert all(job.job_id in line["message"] for line in lab.lines(Log.FAILURES))


async def test_a_job_of_somebody_else_in_the_same_project() -> None:
    """Same rules, same time, other files: not ours, whatever it looks like."""
    with laboratory(20, files_per_job=5, job_duration_s=2.0) as lab:
        first = True

        async def somebody_is_faster(request: httpx.Request) -> httpx.Response | None:
            nonlocal first
            if is_create(request) and first:
                first = False
                await somebody_creates(lab, request)
                raise httpx.ReadTimeout("", request=request)
            return None

        lab.wire.before = somebody_is_faster
        await ends_well(lab)
        assert lab.accepted() == 5


OTHERS = 400
READ_S = 0.5


@pytest.mark.parametrize("taken", [True, False], ids=["accepted", "not accepted"])
async def test_a_crowded_project_is_read_side_by_side(*, taken: bool) -> None:
    """Hundreds of jobs that others make by the same rules don't keep an ambiguous create waiting one after the
    other."""
    limits = {"accept_s": 5.0}
    with laboratory(5, files_per_job=5, job_duration_s=1.0, limits=limits, timeout_s=5.0) as lab:
        crowded(lab, taken=taken)
        await ends_well(lab)
        assert lab.accepted() == OTHERS + 1
        assert anyio.current_time() < OTHERS * READ_S / 4


async def test_a_process_that_does_not_live_long_makes_way_in_a_crowded_project() -> None:
    """What is proven is written down at once: four seconds are enough, though reading all of them takes 25."""
    with laboratory(5, files_per_job=5, job_duration_s=1.0) as lab:
        crowded(lab, taken=True)
        for _ in range(4):
            if await lab.run_until_power_cut(4.0) is not None:
                break
        assert await lab.judge() == {}
        assert lab.accepted() == OTHERS + 1


async def test_others_that_make_jobs_all_night_keep_nobody_waiting() -> None:
    """A create was lost on its way, and another run by the same rules makes a job with every page of the list that is
    read: there is always one that goes on."""
    limits = {"accept_s": 5.0, "settle_s": 5.0, "job_timeout_s": 120.0}
    with laboratory(5, files_per_job=5, job_duration_s=10.0, limits=limits, timeout_s=5.0) as lab:
        lost, numbers = list[httpx.Request](), count()

        async def somebody_is_busy(request: httpx.Request) -> httpx.Response | None:
            if is_create(request) and not lost:
                lost.append(request)
                raise httpx.ReadTimeout("", request=request)
            if lost and not is_create(request) and request.url.path.endswith("/jobs"):
                await somebody_creates(lab, lost[0], f"theirs-{next(numbers)}")
            return None

        lab.wire.before = somebody_is_busy
        await ends_well(lab)
        assert anyio.current_time() < 120


def crowded(lab: Lab, *, taken: bool) -> None:
    """The first create's answer is lost, whether or not it was accepted; then others make many jobs, and each reading
    of results takes its time."""
    first = True

    async def lose(request: httpx.Request) -> httpx.Response | None:
        nonlocal first
        if request.url.path.endswith("/results"):
            await anyio.sleep(READ_S)
        if is_create(request) and first:
            first = False
            if taken:
                await somebody_creates(lab, request, *json.loads(request.content)["file_ids"])
                await anyio.sleep(0.1)
            for number in range(OTHERS):
                await somebody_creates(lab, request, f"theirs-{number}")
            raise httpx.ReadTimeout("", request=request)
        return None

    lab.wire.before = lose


async def somebody_creates(lab: Lab, request: httpx.Request, *file_ids: str) -> None:
    """The same call about other files, past the client's wire."""
    body = json.loads(request.content) | {"file_ids": file_ids or ["theirs-1", "theirs-2"]}
    headers = {"Authorization": "Bearer sandbox"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(lab.app)) as client:
        await client.post(str(request.url), json=body, headers=headers)


# --- Creates that bring nothing --------------------------------------------------------------------------------------


async def never(request: httpx.Request) -> httpx.Response | None:
    return answer(500, {"detail": "the job store is read-only"}) if is_create(request) else None


async def not_the_api(request: httpx.Request) -> httpx.Response | None:
    return httpx.Response(200, text="<html>log in first</html>") if is_create(request) else None


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(("before", "words"), [(never, "read-only"), (not_the_api, "log in first")])
async def test_an_api_that_makes_no_jobs_is_left(version: str, before: Before, words: str) -> None:
    """Though it can be read: after `patience_s` without a job, with 75, and with the server's own words."""
    with laboratory(20, files_per_job=5, version=version, limits={"patience_s": 100.0}) as lab:
        lab.wire.before = before
        ending = await lab.run()
        assert (ending.state, ending.exit_status) == ("incomplete", ExitStatus.INCOMPLETE)
        assert words in (ending.reason or "")
        assert anyio.current_time() < 200
        lab.wire.before = nothing
        await ends_well(lab)


async def test_creates_that_often_bring_nothing_are_no_reason_to_leave() -> None:
    """As long as some make a job, or one is found that did."""
    faults = {"create_503_before": 0.6, "lost_create_answer": 0.3}
    limits = {"patience_s": 60.0, "jobs_in_flight": 2, "accept_s": 1.0}
    with laboratory(60, files_per_job=2, limits=limits, timeout_s=1.0, faults=faults) as lab:
        await ends_well(lab)
        assert anyio.current_time() > 120
