"""v2, called in process: the list, the ends of jobs, faults, and both versions side by side."""

from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from classify_batch.clock import from_iso
from classify_batch.sandbox import AnswerLost, Faults, read_billed
from tests.support import sandbox_client_v2 as v2
from tests.support.sandbox_client import RULES, stats_of, where_of

# --- The list -------------------------------------------------------------------------------------------------------


def test_the_list_is_paged() -> None:
    """The list comes in pages of the size asked for, newest first, each job once, with the total."""

    async def script(client: httpx.AsyncClient) -> Any:
        for each in "abcdefg":
            await v2.make(client, each)
        pages: list[Any] = []
        token = None
        while not pages or token:
            params = {"page_size": "3"} | ({"page_token": token} if token else {})
            pages.append((await client.get(v2.JOBS, params=params)).json())
            token = pages[-1]["next_page_token"]
        return pages

    pages = v2.run_script(script)
    assert ["".join(job["file_input"] for job in page["items"]) for page in pages] == ["gfe", "dcb", "a"]
    assert {page["total_size"] for page in pages} == {7}


def test_the_list_is_filtered() -> None:
    """By IDs, status and time, together and through pages, which keep their order and count what is shown."""

    async def script(client: httpx.AsyncClient) -> Any:
        jobs = {}
        for each in "abcd":
            jobs[each] = await v2.make(client, each)
            await anyio.sleep(3.0004)  # what is shown of a time is cut off at milliseconds
        at = {each: job["created_at"] for each, job in jobs.items()}
        ids = [jobs[each]["id"] for each in "dab"]
        page = (await client.get(v2.JOBS, params={"job_ids": ids, "page_size": 2})).json()
        rest = await v2.listed(client, job_ids=ids, page_size=2, page_token=page["next_page_token"])
        return [
            [page["total_size"], *(job["file_input"] for job in page["items"]), *rest],
            *[await v2.listed(client, status=word) for word in ("PENDING", "RUNNING", "COMPLETED", "FAILED")],
            await v2.listed(client, created_at_on_or_after=at["c"]),
            await v2.listed(client, created_at_on_or_before=at["b"]),
            await v2.listed(client, created_at_on_or_after=at["b"], created_at_on_or_before=at["c"], status="RUNNING"),
            await v2.listed(client, job_ids=[ids[1], "nope"], status="RUNNING"),
        ]

    assert v2.run_script(script) == [
        [3, "d", "b", "a"],
        *([["d"], ["c", "b"], ["a"], []]),
        ["d", "c"],
        ["b", "a"],
        ["c", "b"],
        [],
    ]


@pytest.mark.parametrize(
    "query",
    [
        *("page_size=0", "page_size=101", "page_token=abc", "status=SUCCESS", "created_at_on_or_after=soon"),
        "created_at_on_or_before=",
    ],
)
def test_a_malformed_list_query_is_422(query: str) -> None:
    """A page size out of range, a made-up token, a word or time that is none: refused with its place in the query,
    however large v1's pages may be."""

    async def script(client: httpx.AsyncClient) -> Any:
        return await client.get(f"{v2.JOBS}?{query}")

    assert where_of(v2.run_script(script, list_page_size_max=1000)) == [["query", query.partition("=")[0]]]


def test_a_page_too_large_can_be_cut_down_instead() -> None:
    """With `list_page_size_clamp` a larger page is answered with the largest."""

    async def script(client: httpx.AsyncClient) -> Any:
        for each in "abc":
            await v2.make(client, each)
        return await v2.listed(client, page_size=1000)

    assert v2.run_script(script, list_page_size_max=2, list_page_size_clamp=True) == ["c", "b"]


def test_the_versions_do_not_show_each_others_jobs() -> None:
    """Neither lists nor gives a job of the other; tokens are good for one of them only."""

    async def script(client: httpx.AsyncClient) -> Any:
        old = {"file_ids": ["a"], "rules": RULES}
        job_ids = [(await client.post(v2.V1_JOBS, json=old)).json()["id"] for _ in range(2)]
        new = (await v2.make(client, "b"))["id"]
        page = (await client.get(v2.V1_JOBS, params={"page_size": 1})).json()
        gets = [f"{v2.JOBS}/{job_ids[0]}", f"{v2.V1_JOBS}/{new}", f"{v2.V1_JOBS}/{new}/results"]
        gets.append(f"{v2.JOBS}?page_token={page['next_page_token']}")
        return page["total_size"], await v2.listed(client), [(await client.get(path)).status_code for path in gets]

    assert v2.run_script(script) == (2, ["b"], [404, 404, 404, 422])


# --- Ending jobs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("faults", [Faults(), Faults(stuck=1)])
def test_an_unfinished_job_can_be_cancelled(faults: Faults) -> None:
    """It is CANCELLED from that moment, its place and its credits are free, and nothing is billed; once only."""

    async def script(client: httpx.AsyncClient) -> Any:
        job = await v2.make(client, "a")
        refused = await client.post(v2.JOBS, json=v2.create_body("b"))
        await anyio.sleep(7)
        cancelled = await client.post(f"{v2.JOBS}/{job['id']}/cancel")
        again = await client.post(f"{v2.JOBS}/{job['id']}/cancel")
        await v2.make(client, "b")
        await anyio.sleep(100)
        assert await v2.get(client, job) == cancelled.json()
        assert await v2.listed(client, status="CANCELLED") == ["a"]
        return refused, cancelled.json(), again, await stats_of(client)

    told = faults.model_copy(update={"credits": 1})
    refused, cancelled, again, stats = v2.run_script(script, jobs_at_once=1, faults=told)
    assert refused.status_code in (402, 429)
    assert (cancelled["status"], cancelled["result"], cancelled["error_message"]) == ("CANCELLED", None, None)
    assert from_iso(cancelled["updated_at"]) == pytest.approx(1_700_000_007)
    assert (again.status_code, again.json()["detail"][:27]) == (400, "Classify job is CANCELLED a")
    assert stats["files_billed"] == (0 if faults.stuck else 1)
    assert stats["requests"]["cancel"] == {"200": 1, "400": 1}


def test_only_a_finished_job_can_be_deleted() -> None:
    """Deleted, it is gone from lists and gets for good, and stays paid; deleting names what was deleted."""

    async def script(client: httpx.AsyncClient) -> Any:
        job = await v2.make(client, "a")
        await v2.make(client, "b")
        path = f"{v2.JOBS}/{job['id']}"
        early = await client.delete(path)
        await anyio.sleep(10)
        done = await client.delete(path)
        late = [await client.delete(path), await client.get(path), await client.post(f"{path}/cancel")]
        found = await v2.listed(client, job_ids=[job["id"]])
        return job, early, done, late, await v2.listed(client), found, await stats_of(client)

    job, early, done, late, shown, found, stats = v2.run_script(script)
    assert (early.status_code, done.status_code) == (400, 200)
    assert done.json() == {"id": job["id"], "project_id": job["project_id"]}
    assert [answer.status_code for answer in late] == [404] * 3
    assert (shown, found) == (["b"], [])
    assert (stats["files_billed"], stats["requests"]["delete"]) == (2, {"200": 1, "400": 1, "404": 1})


def test_cancelled_and_deleted_jobs_survive_a_restart(tmp_path: Path) -> None:
    """Cancelled jobs, deleted ones and transactions are the same for the next sandbox on the same ledger."""
    ledger = tmp_path / "jobs.jsonl"

    async def before(client: httpx.AsyncClient) -> Any:
        jobs = [await v2.make(client, each, transaction_id=each) for each in "abc"]
        await client.post(f"{v2.JOBS}/{jobs[0]['id']}/cancel")
        await anyio.sleep(10)
        await client.delete(f"{v2.JOBS}/{jobs[1]['id']}")
        return jobs, (await client.get(v2.JOBS)).json(), await stats_of(client)

    async def after(client: httpx.AsyncClient) -> Any:
        await anyio.sleep(10)
        again = await v2.make(client, "x", transaction_id="c")
        gone = await client.get(f"{v2.JOBS}/{jobs[1]['id']}")
        return again["id"], gone.status_code, (await client.get(v2.JOBS)).json(), await stats_of(client)

    jobs, page, told = v2.run_script(before, ledger=ledger)
    again, gone, same_page, same = v2.run_script(after, ledger=ledger, seed=2)
    assert (again, gone) == (jobs[2]["id"], 404)
    assert same_page == page
    assert [job["status"] for job in page["items"]] == ["COMPLETED", "CANCELLED"]
    assert read_billed(ledger) == {"b": 1, "c": 1}
    assert {key: same[key] for key in ("creates_accepted", "files_billed")} == {
        "creates_accepted": 3,
        "files_billed": 2,
    }
    assert told["files_billed"] == 2


# --- Faults ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status", "accepted"),
    [
        *(("create_503_before", 503, 0), ("create_503_after", 503, 1), ("rate_429", 429, 0)),
        *(("lost_create_answer", 0, 1), ("create.before.plan_full", 429, 0), ("create.after.cut", 0, 1)),
        *(("create.after.502", 502, 1), ("create.after.garbage", 200, 1), ("create.after.400", 400, 1)),
    ],
)
def test_a_create_fault_accepts_the_job_or_not_as_named(fault: str, status: int, accepted: int) -> None:
    """Each fault answers as on v1, and the job is accepted or not as its name says."""

    async def script(client: httpx.AsyncClient) -> Any:
        try:
            got = (await client.post(v2.JOBS, json=v2.create_body())).status_code
        except AnswerLost:
            got = 0
        return got, (await stats_of(client))["creates_accepted"]

    assert v2.run_script(script, faults=Faults.from_values({fault: 1}, "here")) == (status, accepted)


@pytest.mark.parametrize(
    ("fault", "statuses"),
    [
        ("read_503", [200, 503, 503, 200, 200]),
        ("list.before.500", [200, 500, 200, 200, 200]),
        ("get.after.404", [200, 200, 404, 200, 200]),
        ("cancel.after.502", [200, 200, 200, 502, 200]),
        ("cancel.before.502", [200, 200, 200, 502, 400]),
        ("delete.before.429", [200, 200, 200, 200, 429]),
        ("results.before.500", [200] * 5),
        ("create.before.500", [500]),
    ],
)
def test_a_fault_affects_the_calls_that_it_names(fault: str, statuses: list[int]) -> None:
    """create, list, get, cancel and delete, before the work or after it; `read` means list and get."""

    async def script(client: httpx.AsyncClient) -> Any:
        made = await client.post(v2.JOBS, json=v2.create_body())
        if made.status_code != 200:
            return [made.status_code]
        path = f"{v2.JOBS}/{made.json()['id']}"
        answers = [made, await client.get(v2.JOBS), await client.get(path)]
        answers += [await client.post(f"{path}/cancel"), await client.delete(path)]
        return [answer.status_code for answer in answers]

    assert v2.run_script(script, faults=Faults.from_values({fault: 1}, "here")) == statuses


def test_a_422_names_the_file_by_its_own_field() -> None:
    """As a fault, too, it names the field that holds the file in this version's body."""

    async def script(client: httpx.AsyncClient) -> Any:
        old = {"file_ids": ["a"], "rules": RULES}
        return await client.post(v2.JOBS, json=v2.create_body()), await client.post(v2.V1_JOBS, json=old)

    new, old = v2.run_script(script, faults=Faults.from_values({"create.before.422": 1}, "here"))
    assert (where_of(new), where_of(old)) == ([["body", "file_input"]], [["body", "file_ids"]])


def test_new_jobs_are_hidden_while_they_lag() -> None:
    """`list_lag_s` and `get_lag_s` hold on v2, with filters and without."""

    async def script(client: httpx.AsyncClient) -> Any:
        job = await v2.make(client)
        seen = []
        for _ in range(3):
            found = await client.get(f"{v2.JOBS}/{job['id']}")
            seen.append(
                (len(await v2.listed(client)), len(await v2.listed(client, job_ids=[job["id"]])), found.status_code)
            )
            await anyio.sleep(2)
        return seen

    assert v2.run_script(script, faults=Faults(list_lag_s=3, get_lag_s=1)) == [(0, 0, 404), (0, 0, 200), (1, 1, 200)]


def test_an_outage_affects_both_versions() -> None:
    """While it lasts every call fails."""

    async def script(client: httpx.AsyncClient) -> Any:
        paths = (v2.JOBS, v2.V1_JOBS)
        down = [(await client.get(path)).status_code for path in paths]
        await anyio.sleep(5)
        return down, [(await client.get(path)).status_code for path in paths]

    assert v2.run_script(script, faults=Faults(outage_for_s=5, outage_what="503")) == ([503, 503], [200, 200])


def test_a_wrong_key_is_401_on_every_call() -> None:
    """Every call asks for the key."""

    async def script(client: httpx.AsyncClient) -> Any:
        client.headers["Authorization"] = "Bearer wrong"
        answers = [
            await client.post(v2.JOBS, json=v2.create_body()),
            await client.get(v2.JOBS),
            await client.get(f"{v2.JOBS}/x"),
        ]
        answers += [await client.post(f"{v2.JOBS}/x/cancel"), await client.delete(f"{v2.JOBS}/x")]
        return {answer.status_code for answer in answers}

    assert v2.run_script(script) == {401}
