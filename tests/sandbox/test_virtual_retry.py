"""Failed files that get a new chance, in virtual time: what may have been paid is looked at first, and is not paid
again; what it didn't cost comes back; and a stop is heard while the failures are read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from random import Random
from typing import Any

import anyio
import httpx
import pytest

from classify_batch.engine.shutdown import Stop
from classify_batch.errors import ExitStatus, InterruptedEarlyError, the_cause
from classify_batch.rundir.journal.totals import read_totals
from classify_batch.sandbox.documents.project import JobConfig
from classify_batch.sandbox.faults.job_endings import JobEnding
from classify_batch.sandbox.jobs.create_request import CreateRequest
from classify_batch.store.memory import MemoryStore
from classify_batch.vocabulary import JobStatus, Log
from tests.support.simulated_run import (
    KEPT,
    After,
    Choose,
    Lab,
    answer,
    as_it_is,
    change_faults,
    change_options,
    is_create,
    laboratory,
    nothing,
    retried_well,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("small_batches")]


def is_results(request: httpx.Request) -> bool:
    return request.url.path.endswith("/results")


async def fails_unanswered(lab: Lab, code: str = "not_answered", **given: Any) -> None:
    """A run, or a retry, after which every failed file has this code."""
    ending = await lab.run(**given)
    assert (ending.state, ending.exit_status) == ("complete", ExitStatus.FAILURES)
    assert set(lab.codes().values()) == {code}
    assert await lab.judge() == {}


# --- Not answered: the old job first ---------------------------------------------------------------------------------


async def withhold(request: httpx.Request) -> httpx.Response | None:
    """Page tokens that were given out are not taken back."""
    refused = is_results(request) and "page_token" in request.url.params
    return answer(422, {"detail": "Invalid page token"}) if refused else None


def first_answers_only(count: int) -> After:
    async def cut(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        if not is_results(request) or response.status_code != 200:
            return response
        body = response.json()
        return httpx.Response(200, json=body | {"items": body["items"][:count], "next_page_token": "more"})

    return cut


@pytest.mark.parametrize("cut_s", [None, 0.05, 0.4, 1.0])
@pytest.mark.parametrize("kept", KEPT.values(), ids=KEPT.keys())
async def test_answers_that_are_withheld_are_not_paid_again(cut_s: float | None, kept: Choose) -> None:
    """However often they are asked for; each retry takes what has come free, and pays nothing."""
    with laboratory(40, latency_s=0.05, commit_s=0.01, limits={"attempts": 1}) as lab:
        lab.wire.before, lab.wire.after = withhold, first_answers_only(7)
        await fails_unanswered(lab)
        assert len(lab.codes()) == 4 * 3
        for free in (7, 7, 8):
            lab.wire.after = first_answers_only(free)
            if cut_s is not None:
                await lab.run_until_power_cut(cut_s, kept, retry_failed=True)
                assert (await lab.verify()).errors == []
            await fails_unanswered(lab, retry_failed=True)
            assert len(lab.codes()) == 4 * (10 - free)
        lab.wire.before, lab.wire.after = nothing, as_it_is
        await retried_well(lab)
        assert (lab.wire.count("POST"), lab.accepted()) == (4, 4)
        assert all(count == 1 for count in lab.billed().values())


async def test_answers_that_a_found_job_withholds_are_not_paid_again() -> None:
    """It was found in the list, and more of its files may be in it: each retry finds it again."""
    with laboratory(10, files_per_job=10, faults={"lost_create_answer": 1.0}, limits={"job_timeout_s": 60.0}) as lab:
        lab.wire.before, lab.wire.after = withhold, first_answers_only(7)
        await fails_unanswered(lab, "unresolved")
        for free in (7, 8):
            lab.wire.after = first_answers_only(free)
            await fails_unanswered(lab, "unresolved", retry_failed=True)
            assert len(lab.codes()) == 10 - free
        lab.wire.before, lab.wire.after = nothing, as_it_is
        await retried_well(lab)
        assert (lab.accepted(), lab.paid_twice()) == (1, [])


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("attempts", [1, 3])
async def test_what_a_job_surely_left_out_goes_out_again(version: str, attempts: int) -> None:
    """Its results were read to their end, twice: the retry is a new beginning, with as many attempts as the first."""
    limits = {"attempts": attempts}
    with laboratory(20, version=version, limits=limits, faults={"null_result": 0.4}, seed=3) as lab:
        await fails_unanswered(lab)
        jobs, failed = lab.accepted(), lab.codes()
        change_faults(lab, null_result=1.0)
        await fails_unanswered(lab, retry_failed=True)
        assert lab.codes().keys() == failed.keys()
        assert lab.accepted() >= jobs + attempts
        change_faults(lab)
        jobs = lab.accepted()
        await retried_well(lab)
        assert lab.accepted() <= jobs + len(failed)


async def test_a_job_that_answers_none_of_its_files_goes_out_again_as_one() -> None:
    """As many jobs as there were."""
    with laboratory(40, limits={"attempts": 1}, faults={"null_result": 1.0}) as lab:
        await fails_unanswered(lab)
        change_faults(lab)
        await retried_well(lab)
        assert lab.accepted() == 8
        assert {line["attempt"] for line in lab.lines(Log.RESULTS)} == {2}


@pytest.mark.parametrize("is_gone", [False, True])
async def test_a_job_in_which_several_chunks_were_found_is_read_again_for_each(is_gone: bool) -> None:
    """Somebody else's job of files of two chunks left one of each unanswered, while two creates got no answer: a retry
    watches it for both, whether it is still there or was deleted."""
    with laboratory(8, files_per_job=4, limits={"attempts": 1}) as lab:
        table, job, given = lab.app.job_table, lab.settings.job, lab.app.options
        request = CreateRequest(tuple(lab.file_ids), JobConfig(job.rules, job.parsing_configuration), job.mode)
        ending = JobEnding(JobStatus.PARTIAL_SUCCESS, null=(1, 5))
        lost: list[str] = []

        async def lose_two(sent: httpx.Request) -> httpx.Response | None:
            if not is_create(sent) or len(lost) == 2:
                return None
            if lost:
                drafted = table.draft_job(request, given.project_id, lab.clock.wall_s(), by_other=True)
                table.add_job(replace(drafted, ending=ending))
            lost.append("before it arrived")
            raise httpx.ReadError("lost", request=sent)

        lab.wire.before = lose_two
        await fails_unanswered(lab)
        (job_id,) = {line["job_id"] for line in lab.lines(Log.FAILURES)}
        assert lab.codes().keys() == {"file-1", "file-5"}
        if is_gone:
            change_options(lab, jobs=[each for each in table if each.job_id != job_id])
            await fails_unanswered(lab, retry_failed=True)
            assert lab.codes().keys() == {"file-1", "file-5"}
        else:
            await retried_well(lab)


async def test_a_job_that_is_read_again_answers_no_file_that_nobody_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    """Its other files have their outcomes by now: no warning says that they are ignored."""
    with laboratory(20, limits={"attempts": 1}, faults={"null_result": 0.2}, seed=3) as lab:
        await fails_unanswered(lab)
        change_faults(lab)
        await retried_well(lab)
    assert [each.getMessage() for each in caplog.records if "not asked for" in each.getMessage()] == []


async def test_a_result_that_came_late_on_v2_is_taken() -> None:
    """And its bill is counted once."""
    with laboratory(20, version="v2", limits={"attempts": 1}) as lab:

        async def late(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            body = response.json()
            return httpx.Response(200, json=without_result(body)) if request.method == "GET" else response

        lab.wire.after = late
        await fails_unanswered(lab)
        assert manifest(lab)["credits"] == {"reserved": 20, "billed": 20}
        lab.wire.after = as_it_is
        await retried_well(lab)
        assert lab.accepted() == 20
        assert manifest(lab)["credits"] == {"reserved": 20, "billed": 20}


def without_result(body: dict[str, Any]) -> dict[str, Any]:
    if "items" in body:
        return body | {"items": [without_result(item) for item in body["items"]]}
    return body | {"result": None}


@pytest.mark.parametrize("gone", ["the job", "its results"])
async def test_an_old_job_that_is_gone_is_no_reason_to_pay_again(gone: str) -> None:
    """Nobody knows whether it was paid: its files fail again, the others go on, and when it is back it is read."""
    with laboratory(20, limits={"job_timeout_s": 100.0}) as lab:
        lab.wire.before, lab.wire.after = withhold, first_answers_only(7)
        await fails_unanswered(lab)
        lost = next(iter(lab.app.job_table)).job_id

        async def forget(request: httpx.Request) -> httpx.Response | None:
            hit = lost in request.url.path and (gone == "the job" or is_results(request))
            return answer(404, {"detail": "Classify job not found"}) if hit else None

        async def leave_out(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if gone != "the job" or not request.url.path.endswith("/jobs"):
                return response
            body = response.json()
            return httpx.Response(200, json=body | {"items": [job for job in body["items"] if job["id"] != lost]})

        lab.wire.before, lab.wire.after = forget, leave_out
        await fails_unanswered(lab, retry_failed=True)
        assert {line["job_id"] for line in lab.lines(Log.FAILURES)} == {lost}
        assert all("any more" in line["message"] for line in lab.lines(Log.FAILURES))
        lab.wire.before, lab.wire.after = nothing, as_it_is
        await retried_well(lab)
        assert lab.accepted() == 2


# --- Credits ---------------------------------------------------------------------------------------------------------


def manifest(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.store.files["manifest.json"])
    return found


def read_sums(lab: Lab) -> dict[str, float]:
    """What `status` reads."""
    data = lab.store.files["journal.jsonl"]
    return dict(read_totals(lambda start, end: data[start:end], len(data), "journal.jsonl").sums)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("cut_s", [None, 0.05, 0.5, 4.0])
async def test_an_overdue_job_that_failed_gives_its_credits_back(version: str, cut_s: float | None) -> None:
    """It is looked at again, and was free: what was set aside for it pays for the next one."""
    limits = {"max_credits": 50, "jobs_in_flight": 0, "job_timeout_s": 10.0}
    options: dict[str, Any] = {"job_duration_s": 100.0, "job_duration_sigma": 0, "commit_s": 0.01, "latency_s": 0.1}
    with laboratory(10, version=version, files_per_job=5, limits=limits, **options) as lab:
        assert (await lab.run()).state == "complete"
        assert manifest(lab)["credits"] == {"reserved": 50, "billed": None}
        await anyio.sleep(100)
        change_options(
            lab, [replace(job, ending=JobEnding(JobStatus.ERROR)) for job in lab.app.job_table], job_duration_s=2.0
        )
        if cut_s is not None:
            await lab.run_until_power_cut(cut_s, max, retry_failed=True)
        await lab.run()
        await retried_well(lab)
        billed = None if version == "v1" else 10
        assert manifest(lab)["credits"] == {"reserved": billed or 50, "billed": billed}
        assert read_sums(lab).get("unbilled", 0) == 0


@pytest.mark.parametrize("seed", range(6))
async def test_retries_never_go_over_whatever_happens(seed: int) -> None:
    """Overdue, failed and unanswered jobs of v2, retried through power cuts; the bills add up to the credit."""
    random = Random(seed)
    limits = {"max_credits": 90, "jobs_in_flight": 8, "job_timeout_s": 10.0, "attempts": 2}
    faults = {"error": 0.3, "null_result": 0.3}
    options: dict[str, Any] = {"job_duration_s": 9.0, "job_duration_sigma": 0.5, "commit_s": 0.01, "latency_s": 0.1}
    with laboratory(40, version="v2", seed=seed, limits=limits, faults=faults, **options) as lab:
        await lab.run()
        for _ in range(6):
            await lab.run_until_power_cut(random.expovariate(1 / 10), random.randint, retry_failed=True)
            assert lab.app.job_table.credits_spent <= 90
            assert lab.paid_twice() == []
            assert (await lab.verify()).errors == []
        await lab.run()
        sums = read_sums(lab)
        assert sums["credits"] == sums["billed"] + 5 * sums.get("unbilled", 0) == manifest(lab)["credits"]["reserved"]
        assert sums["billed"] <= lab.app.job_table.credits_spent <= sums["credits"] <= 90
        assert lab.paid_twice() == []


# --- A stop while the failures are read ------------------------------------------------------------------------------


class Watched(MemoryStore):
    """A store that asks for a stop at its `stop_at`-th read of what a retry reads, and counts the reads after it."""

    def __init__(self, files: dict[str, bytes], lab: Lab, stop_at: int, block: int = 400) -> None:
        super().__init__(files, commit_s=0.01)
        self.reads = 0
        self._lab, self._stop_at, self._block = lab, stop_at, block
        self.since = False

    def _note(self) -> None:
        self.reads += self.since
        if self.reads == self._stop_at:
            self._lab.stopping.request_stop(Stop("interrupted by SIGTERM"))

    async def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        self._note()
        return await super().read(name, start, end)

    async def stream(self, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        self.since = self.since or name == Log.FAILURES
        data = await self.read(name, start, end)
        for at in range(0, len(data), self._block):
            self._note()
            yield data[at : at + self._block]


async def interrupted_early(lab: Lab) -> ExitStatus | None:
    """None: it was; else how the retry ended."""
    try:
        return (await lab.run(retry_failed=True)).exit_status
    except ExceptionGroup as group:
        if not isinstance(the_cause(group), InterruptedEarlyError):
            raise
        return None


async def test_a_stop_is_heard_while_the_failures_are_read() -> None:
    """At every read: the run is left as it was, at once, and the same command begins again."""
    options: dict[str, Any] = {"files_per_job": 2, "limits": {"attempts": 1}, "commit_s": 0.01}
    with laboratory(12, faults={"null_result": 1.0}, **options) as lab:
        await fails_unanswered(lab)
        files, early = lab.store.files, 0
        for stop_at in range(1, 1000):
            store = lab.store = Watched(files, lab, stop_at)
            if (status := await interrupted_early(lab)) is not None:
                assert status == ExitStatus.INCOMPLETE
                break
            early += 1
            assert store.reads <= stop_at + 2
            assert {name: data for name, data in lab.store.files.items() if name != "failures.1.jsonl"} == files
            assert lab.store.files.get("failures.1.jsonl", files[Log.FAILURES]) == files[Log.FAILURES]
            found = await lab.verify()
            assert (found.errors, found.notes, found.complete) == ([], [], True)
        assert early > 20
        assert lab.wire.count("POST") == 6
        change_faults(lab)
        assert (await lab.run()).state == "complete"
        await retried_well(lab)
