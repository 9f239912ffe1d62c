"""What the server says of jobs, by its options: less than documented, or spelled otherwise."""

import asyncio
import time
from email.utils import parsedate_to_datetime
from typing import Any

import anyio
import httpx
import pytest

from classify_batch.clock import from_iso
from classify_batch.sandbox import Faults, Options, open_sandbox, serve_in_loop
from classify_batch.sandbox.documents.project import JobConfig, OpenProject
from classify_batch.settings.job_spec import Rule
from tests.support import sandbox_client_v2 as v2
from tests.support.sandbox_client import RULES, stats_of

START_S = 1_700_000_000
V1_BODY = {"file_ids": ["a", "b"], "rules": RULES, "mode": "MULTIMODAL"}
BODIES = {v2.V1_JOBS: V1_BODY, v2.JOBS: v2.create_body("a", mode="FAST")}


async def job_bodies(client: httpx.AsyncClient, path: str) -> list[dict[str, Any]]:
    """A job as it is answered to its create, in the list, by its ID, and once it has ended."""
    made = (await client.post(path, json=BODIES[path])).json()
    bodies = [made, *(await client.get(path)).json()["items"]]
    for wait_s in (0, 10):
        await anyio.sleep(wait_s)
        bodies.append((await client.get(f"{path}/{made['id']}")).json())
    return bodies


@pytest.mark.parametrize("path", [v2.V1_JOBS, v2.JOBS])
def test_jobs_can_leave_out_their_mode(path: str) -> None:
    """Nothing else is missing; rules and parsing configuration are as they were."""

    async def script(client: httpx.AsyncClient) -> Any:
        return await job_bodies(client, path)

    for silent, full in zip(v2.run_script(script, silent_mode=True), v2.run_script(script), strict=True):
        if path == v2.JOBS:
            assert full["configuration"].pop("mode") == "FAST"
        else:
            assert full.pop("mode") == "MULTIMODAL"
        assert silent == full


@pytest.mark.parametrize("path", [v2.V1_JOBS, v2.JOBS])
def test_jobs_can_leave_out_created_at(path: str) -> None:
    """Nothing else is missing; v2 still filters by it."""

    async def script(client: httpx.AsyncClient) -> Any:
        bodies = await job_bodies(client, path)
        if path == v2.JOBS:
            query = {"created_at_on_or_after": "2023-11-14T22:13:20Z"}
            assert (await client.get(v2.JOBS, params=query)).json()["total_size"] == 1
            assert (await client.get(v2.JOBS, params={"created_at_on_or_after": "2030-01-01"})).json()[
                "total_size"
            ] == 0
        return bodies

    for silent, full in zip(v2.run_script(script, silent_created_at=True), v2.run_script(script), strict=True):
        assert full.pop("created_at")
        assert silent == full


@pytest.mark.parametrize(("options", "upper"), [({"upper_case_ids": True}, True), ({}, False)])
def test_results_can_spell_file_ids_in_upper_case(options: dict[str, bool], upper: bool) -> None:
    """Those that are UUIDs, and only as they are shown: answers and bills are the same."""
    file_id = "0f8fad5b-d9cb-469f-a165-70867728950e"
    odd = f"x-{file_id}"

    async def script(client: httpx.AsyncClient) -> Any:
        told = {"file_ids": [file_id, odd, "abc"], "rules": RULES}
        old = (await client.post(v2.V1_JOBS, json=told)).json()["id"]
        made = [(await client.post(v2.JOBS, json=v2.create_body(each))).json() for each in (file_id, odd)]
        await anyio.sleep(10)
        got = [(await client.get(f"{v2.JOBS}/{job['id']}")).json() for job in made]
        listed = (await client.get(v2.JOBS)).json()["items"][::-1]
        items = (await client.get(f"{v2.V1_JOBS}/{old}/results")).json()["items"]
        return [[job["file_input"] for job in jobs] for jobs in (made, got, listed)], items, await stats_of(client)

    inputs, items, stats = v2.run_script(script, **options)
    shown = file_id.upper() if upper else file_id
    assert inputs == [[shown, odd]] * 3
    assert [item["file_id"] for item in items] == [shown, odd, "abc"]
    assert stats["files_billed_more_than_once"] == sorted([file_id, odd])
    assert items[0]["result"] == OpenProject().make_classifier(JobConfig(tuple(map(Rule.model_validate, RULES))))(
        file_id
    )


def test_a_result_without_a_file_id_stays_so() -> None:
    """`file_id` null has no upper case."""

    async def script(client: httpx.AsyncClient) -> Any:
        job = (await client.post(v2.V1_JOBS, json=V1_BODY)).json()
        await anyio.sleep(10)
        items = (await client.get(f"{v2.V1_JOBS}/{job['id']}/results")).json()["items"]
        return [item["file_id"] for item in items]

    assert v2.run_script(script, upper_case_ids=True, faults=Faults(nameless=1)) == ["a", "b", None]


# --- The Date header --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead_s", [7200.0, 0.0, -90.0])
def test_the_date_can_be_ahead_of_the_clock_that_stamps_jobs(ahead_s: float) -> None:
    """In process too, with every answer: refused, unknown or broken in the middle."""

    async def script(client: httpx.AsyncClient) -> Any:
        await anyio.sleep(5)
        made = await client.post(v2.JOBS, json=v2.create_body("a"))
        await anyio.sleep(5)
        others = [
            await client.get(v2.JOBS),
            await client.get("/nowhere"),
            await client.put(v2.JOBS),
            await client.get(v2.V1_JOBS),
        ]
        return made.json()["created_at"], [sent_at_s(answer) for answer in (made, *others)], others

    created_at, sent_s, others = v2.run_script(
        script, date_ahead_s=ahead_s, faults=Faults.from_values({"list.before.502": 1}, "here")
    )
    assert [answer.status_code for answer in others] == [502, 404, 405, 502]
    assert from_iso(created_at) == START_S + 5
    assert sent_s == [START_S + 5 + ahead_s, *[START_S + 10 + ahead_s] * 4]


def test_in_process_there_is_no_date_unless_it_is_set() -> None:
    """As it always was: the wire of a test may set one."""

    async def script(client: httpx.AsyncClient) -> Any:
        return (await client.get(v2.JOBS)).headers

    assert "date" not in v2.run_script(script)


@pytest.mark.parametrize("ahead_s", [7200.0, None])
def test_a_server_sends_one_date(ahead_s: float | None) -> None:
    """On a socket it is the application's where that is set, and else the server's own."""

    async def main() -> Any:
        headers = {"Authorization": "Bearer sandbox"}
        with open_sandbox(Options(seed=1, date_ahead_s=ahead_s)) as app:
            async with serve_in_loop(app) as base_url, httpx.AsyncClient(base_url=base_url, headers=headers) as client:
                answer = await client.get(v2.JOBS)
                return answer.headers.get_list("date"), sent_at_s(answer)

    dates, sent_s = asyncio.run(main())
    assert len(dates) == 1
    assert abs(sent_s - time.time() - (ahead_s or 0.0)) < 60


def sent_at_s(answer: httpx.Response) -> float:
    return parsedate_to_datetime(answer.headers["date"]).timestamp()
