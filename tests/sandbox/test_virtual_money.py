"""Whole runs that may spend so much and no more, in virtual time."""

from __future__ import annotations

import json
from random import Random
from typing import Any, cast

import anyio
import httpx
import pytest

from classify_batch.cli.rendering.summary import format_run_summary
from classify_batch.errors import ExitStatus
from classify_batch.rundir.journal.totals import read_totals
from classify_batch.rundir.manifest_json import Manifest
from tests.support.simulated_run import Lab, is_create, laboratory

pytestmark = pytest.mark.anyio

A_JOB = 10 * 5
"""Credits: ten files of five pages, FAST."""


def manifest(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.store.files["manifest.json"])
    return found


def credits_of(lab: Lab) -> dict[str, Any]:
    """The manifest's credits."""
    found: dict[str, Any] = manifest(lab)["credits"]
    return found


def read_sums(lab: Lab) -> dict[str, float]:
    """What `status` reads."""
    data = lab.store.files["journal.jsonl"]
    return dict(read_totals(lambda start, end: data[start:end], len(data), "journal.jsonl").sums)


def may_have_cost(lab: Lab) -> int:
    """The most that the jobs which the sandbox accepted, and didn't fail, can have cost by the plan's reckoning."""
    bad = ("ERROR", "CANCELLED")
    return sum(5 * len(job.file_ids) for job in lab.app.job_table if job.ending.status not in bad)


async def test_a_run_stops_before_the_create_that_could_cost_too_much() -> None:
    """What is out is collected; a person must act; with more credits the same command goes on."""
    with laboratory(100, limits={"max_credits": 4 * A_JOB + 49, "jobs_in_flight": 3}) as lab:
        ending = await lab.run()
        assert (ending.state, ending.exit_status) == ("incomplete", ExitStatus.PERSON)
        assert "limits.max_credits" in (ending.reason or "")
        assert len(lab.outcomes()) == 40
        assert credits_of(lab) == {"reserved": 200, "billed": None}
        lab.settings = lab.settings.model_copy(
            update={"limits": lab.settings.limits.model_copy(update={"max_credits": 10.0 * A_JOB})}
        )
        assert (await lab.run()).state == "complete"
        assert credits_of(lab) == {"reserved": 500, "billed": None}
        assert await lab.judge() == {}


async def test_nothing_at_all_may_be_allowed() -> None:
    """0 credits: not a single create."""
    with laboratory(20, limits={"max_credits": 0}) as lab:
        assert (await lab.run()).exit_status == ExitStatus.PERSON
        assert lab.wire.count("POST") == 0


async def test_failed_jobs_cost_nothing() -> None:
    """Their credits come back, and pay for the next attempt: the run gets by with what its files cost."""
    with laboratory(100, limits={"max_credits": 10 * A_JOB, "attempts": 20}, faults={"error": 0.5}) as lab:
        ending = await lab.run()
        assert ending.state == "complete", ending
        assert len(list(lab.app.job_table)) > 10
        assert credits_of(lab)["reserved"] == may_have_cost(lab) <= 10 * A_JOB


def most_but_for_errors(lab: Lab) -> int:
    """The most that the accepted jobs can have cost, where only those that ended with ERROR are free for certain."""
    return sum(5 * len(job.file_ids) for job in lab.app.job_table if job.ending.status != "ERROR")


def ended(lab: Lab) -> set[str]:
    return {job.ending.status for job in lab.app.job_table}


BADLY: dict[str, object] = {"error": 0.3, "cancelled": 0.3}


async def test_a_cancelled_job_keeps_its_credits() -> None:
    """The vendor says that failed jobs are free, and nothing of cancelled ones: what was set aside for them counts."""
    with laboratory(100, limits={"attempts": 20}, faults=BADLY) as lab:
        assert (await lab.run()).state == "complete"
        assert ended(lab) == {"SUCCESS", "ERROR", "CANCELLED"}
        assert credits_of(lab) == {"reserved": most_but_for_errors(lab), "billed": None}
        assert read_sums(lab)["credits"] == most_but_for_errors(lab)


async def test_cancelled_jobs_may_use_a_bound_up() -> None:
    """Their files go out again for as long as that fits: the run never costs more, whatever they were billed."""
    with laboratory(100, limits={"max_credits": 10 * A_JOB, "attempts": 20}, faults=BADLY) as lab:
        ending = await lab.run()
        assert ending.exit_status == ExitStatus.PERSON
        assert credits_of(lab)["reserved"] == most_but_for_errors(lab) <= 10 * A_JOB


async def test_the_bill_of_a_cancelled_job_counts() -> None:
    """On v2 the API says that it cost nothing: its credits come back."""
    with laboratory(60, version="v2", limits={"attempts": 20}, faults=BADLY) as lab:
        assert (await lab.run()).state == "complete"
        assert ended(lab) == {"SUCCESS", "ERROR", "CANCELLED"}
        assert credits_of(lab) == {"reserved": 60, "billed": 60}


async def test_a_cancelled_job_without_a_bill_leaves_the_sum_unknown() -> None:
    """On v2, where the API tells no bill of such jobs: the most that it can be counts, and no sum of bills is shown."""
    with laboratory(60, version="v2", limits={"attempts": 20}, faults=BADLY) as lab:

        async def tell_none_of_cancelled_jobs(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            body = response.json()
            for job in body.get("items", [body]):
                if job.get("status") == "CANCELLED":
                    job.pop("usage", None)
            return httpx.Response(response.status_code, json=body)

        lab.wire.after = tell_none_of_cancelled_jobs
        assert (await lab.run()).state == "complete"
        cancelled = sum(job.ending.status == "CANCELLED" for job in lab.app.job_table)
        assert cancelled > 0
        assert credits_of(lab) == {"reserved": 60 + 5 * cancelled, "billed": None}


@pytest.mark.parametrize("bill", [-5, -1e308, 1e308, 10**400, 1.1e9, True, "1"])
async def test_what_is_no_bill_counts_as_none(bill: object) -> None:
    """A bill below nothing would give the run credits that it never had, and huge ones add up to what no sum can hold:
    the most that a job can cost counts, and the bound holds."""
    with laboratory(20, version="v2", limits={"max_credits": 50}) as lab:

        async def bill_oddly(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            body = response.json()
            for job in body.get("items", [body]):
                if job.get("usage"):
                    job["usage"]["credits"] = bill
            return httpx.Response(response.status_code, json=body)

        lab.wire.after = bill_oddly
        assert (await lab.run()).exit_status == ExitStatus.PERSON
        assert credits_of(lab) == {"reserved": 50, "billed": None}
        assert len(list(lab.app.job_table)) == 10


async def test_what_is_out_may_give_credits_back() -> None:
    """On v2 the bill is known, and less than was set aside: the run waits for it instead of giving up."""
    with laboratory(60, version="v2", limits={"max_credits": 100, "jobs_in_flight": 50}, job_duration_s=2.0) as lab:
        ending = await lab.run()
        assert ending.state == "complete", ending
        assert credits_of(lab) == {"reserved": 60, "billed": 60}


def is_list(request: httpx.Request) -> bool:
    return request.method == "GET" and request.url.path.endswith("/classify")


async def tell_no_bills(request: httpx.Request, response: httpx.Response) -> httpx.Response:
    """A list that ignores what it wasn't documented to expand."""
    if not is_list(request):
        return response
    body = response.json()
    for job in body["items"]:
        job.pop("usage", None)
    return httpx.Response(response.status_code, json=body)


def count_unknown_bills(lab: Lab) -> int:
    """How many jobs of a run of 60 files didn't report their bill of one credit: five are set aside for them."""
    assert credits_of(lab)["billed"] is None
    unknown, rest = divmod(credits_of(lab)["reserved"] - 60, 4)
    assert rest == 0
    return int(unknown)


@pytest.mark.parametrize(("limits", "asks"), [({}, True), ({"max_credits": 300}, False), ({"max_credits": 70}, False)])
async def test_a_list_that_tells_no_bills(limits: dict[str, object], asks: bool) -> None:
    """Where that was asked for, or credits are bounded, each job is asked for its bill: a request a file more."""
    with laboratory(60, version="v2", limits=limits, config={"price": {"ask_bill": asks}}) as lab:
        lab.wire.after = tell_no_bills
        ending = await lab.run()
        assert ending.state == "complete", ending
        assert credits_of(lab) == {"reserved": 60, "billed": 60}


async def test_a_sum_of_only_some_bills_is_not_shown() -> None:
    """Half of the jobs tell their bill; for the others the most that it can be counts, and the sum isn't known."""
    with laboratory(60, version="v2") as lab:

        async def tell_some(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            body = response.json()
            for job in body["items"] if is_list(request) else [body] if "file_input" in body else []:
                if int(job["file_input"].removeprefix("file-")) < 30:
                    job.pop("usage", None)
            return httpx.Response(response.status_code, json=body)

        lab.wire.after = tell_some
        assert (await lab.run()).state == "complete"
        assert count_unknown_bills(lab) == read_sums(lab)["unbilled"] == read_sums(lab)["billed"] == 30
        assert "(the bill is not known)" in "".join(format_run_summary(cast(Manifest, manifest(lab))))


async def test_a_bill_is_asked_for_and_the_answer_that_came_stays() -> None:
    """A single job that lags behind the list takes no answer away."""
    with laboratory(20, version="v2", limits={"max_credits": 100}) as lab:

        async def lag(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if is_list(request) or is_create(request):
                return await tell_no_bills(request, response)
            return httpx.Response(200, json=response.json() | {"status": "RUNNING", "result": None, "usage": None})

        lab.wire.after = lag
        assert (await lab.run()).state == "complete"
        assert (lab.wire.count("POST"), credits_of(lab)) == (20, {"reserved": 100, "billed": None})
        assert await lab.judge() == {}


async def test_a_list_that_refuses_to_tell_bills() -> None:
    """It is documented for single jobs only: asked for once, and then done without."""
    refused: list[httpx.Request] = []
    with laboratory(60, version="v2") as lab:

        async def refuse(request: httpx.Request) -> httpx.Response | None:
            if is_list(request) and "expand" in request.url.params:
                refused.append(request)
                return httpx.Response(422, json={"detail": [{"loc": ["query", "expand"], "msg": "no", "type": "x"}]})
            return None

        lab.wire.before = refuse
        assert (await lab.run()).state == "complete"
        assert len(refused) == 1
        assert count_unknown_bills(lab) > 50


async def test_what_was_out_when_the_plug_was_pulled_gives_credits_back_too() -> None:
    """Set aside by one process, billed for less when another collects."""
    with laboratory(60, version="v2", limits={"jobs_in_flight": 20}, job_duration_s=5.0, job_duration_sigma=0) as lab:
        assert await lab.run_until_power_cut(2.0, max) is None
        assert lab.wire.count("POST") == 20
        assert (await lab.run()).state == "complete"
        assert credits_of(lab) == {"reserved": 60, "billed": 60}


async def test_looks_of_a_retry_give_no_credits_that_were_not_set_aside() -> None:
    """Two jobs were overdue, and are only polled again; the next one doesn't fit: the run ends."""
    limits = {"max_credits": 125, "jobs_in_flight": 1, "job_timeout_s": 10.0}
    with laboratory(40, limits=limits, job_duration_s=100.0, job_duration_sigma=0) as lab:
        assert (await lab.run()).exit_status == ExitStatus.PERSON
        with anyio.fail_after(5000):
            assert (await lab.run(retry_failed=True)).exit_status == ExitStatus.PERSON
        assert credits_of(lab)["reserved"] <= 125


async def test_a_bill_counts_where_nothing_was_set_aside() -> None:
    """A price of 0 is what a person says; the bill is what the API says."""
    config = {"price": {"credits_per_page": {"FAST": 0}}}
    with laboratory(20, version="v2", config=config) as lab:
        assert (await lab.run()).state == "complete"
        assert credits_of(lab) == {"reserved": 20, "billed": 20}


async def test_rates_may_be_fractions() -> None:
    """Three times 0.1 is 0.3, whatever a machine says."""
    config = {"price": {"credits_per_page": {"FAST": 0.02}}}
    with laboratory(3, files_per_job=1, limits={"max_credits": 0.3}, config=config) as lab:
        assert (await lab.run()).state == "complete"
        assert credits_of(lab)["reserved"] == pytest.approx(0.3)


@pytest.mark.parametrize("seed", range(12))
async def test_a_killed_v2_process_forgets_no_job_that_it_paid(seed: int) -> None:
    """Where credits are bounded, an intent is on the disk before its create leaves."""
    with laboratory(
        60,
        version="v2",
        latency_s=0.02,
        commit_s=0.05,
        job_duration_s=0.3,
        seed=seed,
        limits={"max_credits": 30, "jobs_in_flight": 8, "requests_per_s": 20.0, "attempts": 5},
        faults={"error": 0.5},
        config={"price": {"credits_per_page": {"FAST": 0.2}}},
    ) as lab:
        await lab.run_through_power_cuts(Random(seed), 0.7, 12)
        assert lab.app.job_table.credits_spent <= 30
        assert lab.paid_twice() == []


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("seed", range(4))
async def test_never_over_whatever_happens(seed: int, version: str) -> None:
    """Kills, lost answers, bad jobs: what may have been spent never goes beyond what was allowed."""
    random = Random(seed)
    allowed = 300
    with laboratory(
        100,
        version=version,
        latency_s=0.05,
        commit_s=0.01,
        job_duration_s=1.0,
        seed=seed,
        limits={"max_credits": allowed, "jobs_in_flight": 8},
        faults={"error": 0.1},
    ) as lab:
        lab.wire.lose_create_answers(random, 0.2)
        await lab.run_through_power_cuts(Random(seed), 1.5, 8)
        assert (may_have_cost(lab) if version == "v1" else lab.app.job_table.credits_spent) <= allowed
        assert lab.paid_twice() == []
