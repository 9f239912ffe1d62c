"""Reads that don't show what is: results that lag, a list that loses jobs, ends that aren't the last, other clocks."""

from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from classify_batch.clock import from_iso
from classify_batch.sandbox import Faults
from tests.support import sandbox_client_v2 as v2
from tests.support.sandbox_client import RULES, stats_of

START_S = 1_700_000_000
ENDS_S = 10  # each job takes so long
V1_BODY = {"file_ids": list("abcd"), "rules": RULES}
BODIES = {v2.V1_JOBS: V1_BODY, v2.JOBS: v2.create_body("a")}

# --- Results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"partial": 1}])
@pytest.mark.parametrize("shows", ["nothing", "null", "half"])
def test_results_lag_behind_the_end_of_their_job(shows: str, more: dict[str, float]) -> None:
    """For that time they are not whole, although the job shows that it was answered; then they are."""

    async def script(client: httpx.AsyncClient) -> Any:
        job_path = f"{v2.V1_JOBS}/{(await client.post(v2.V1_JOBS, json=V1_BODY)).json()['id']}"
        seen = []
        for wait_s in (ENDS_S, 4.9, 0.2):
            await anyio.sleep(wait_s)
            page = (await client.get(f"{job_path}/results")).json()
            found = {item["file_id"]: item["result"] is not None for item in page["items"]}
            assert page["total_size"] == len(found)
            seen.append(((await client.get(job_path)).json()["status"], found))
        return seen

    faults = Faults.from_values({"results_lag_s": 5, "results_lag_shows": shows, **more}, "here")
    at_once, still, whole = v2.run_script(script, faults=faults)
    status, answered = whole
    assert status == ("PARTIAL_SUCCESS" if more else "SUCCESS")
    assert answered.keys() <= set("abcd")
    assert sum(answered.values()) == (3 if more else 4)
    expected: dict[str, dict[str, bool]] = {
        "nothing": {},
        "null": dict.fromkeys(answered, False),
        "half": {each: answered[each] for each in list(answered)[: len(answered) // 2]},
    }
    assert at_once == still == (status, expected[shows])


@pytest.mark.parametrize("shows", ["nothing", "null", "half"])
def test_an_answer_of_v2_lags_behind_the_end_of_its_job(shows: str) -> None:
    """COMPLETED with `result: null` in list, get and a repeated create for that time; billed all the same."""

    async def script(client: httpx.AsyncClient) -> Any:
        body = v2.create_body("a", transaction_id="t")
        job_path = f"{v2.JOBS}/{(await client.post(v2.JOBS, json=body)).json()['id']}"
        seen = []
        for wait_s in (ENDS_S, 4.9, 0.2):
            await anyio.sleep(wait_s)
            got = (await client.get(f"{job_path}?expand=usage")).json()
            usage = got.pop("usage")
            assert [got] == (await client.get(v2.JOBS)).json()["items"]
            assert got == (await client.post(v2.JOBS, json=body)).json()
            seen.append((got["status"], got["result"] is not None, usage["credits"]))
        return seen

    faults = Faults.from_values({"results_lag_s": 5, "results_lag_shows": shows}, "here")
    assert v2.run_script(script, faults=faults) == [*[("COMPLETED", False, 1)] * 2, ("COMPLETED", True, 1)]


# --- The list ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [v2.V1_JOBS, v2.JOBS])
def test_the_list_can_hide_a_job_for_a_time(path: str) -> None:
    """It shows at first, is hidden for a time, also where it is asked for by ID, and shows again; a get has it."""

    async def script(client: httpx.AsyncClient) -> Any:
        job_id = (await client.post(path, json=BODIES[path])).json()["id"]
        queries: list[dict[str, str]] = [{}] if path == v2.V1_JOBS else [{}, {"job_ids": job_id}]
        seen = []
        for _ in range(4):
            found = [(await client.get(path, params=query)).json()["total_size"] for query in queries]
            seen.append((set(found), (await client.get(f"{path}/{job_id}")).status_code))
            await anyio.sleep(4)
        return seen

    faults = Faults(list_hides_after_s=4, list_hides_for_s=8)
    assert v2.run_script(script, faults=faults) == [({1}, 200), ({0}, 200), ({0}, 200), ({1}, 200)]


@pytest.mark.parametrize("path", [v2.V1_JOBS, v2.JOBS])
def test_the_list_can_be_sorted_by_last_change(path: str) -> None:
    """Newest first by `updated_at`; a job that ends between two pages is missed, and no token is refused."""

    async def script(client: httpx.AsyncClient) -> Any:
        made = []
        for _ in range(4):
            made.append((await client.post(path, json=BODIES[path])).json()["id"])
            await anyio.sleep(1)
        await anyio.sleep(5.9)  # the first ends in 0.1 s
        first = (await client.get(path, params={"page_size": 2})).json()
        await anyio.sleep(0.2)
        rest = (await client.get(path, params={"page_size": 2, "page_token": first["next_page_token"]})).json()
        whole = (await client.get(path)).json()
        return made, [[job["id"] for job in page["items"]] for page in (first, rest)], whole["items"]

    made, seen, whole = v2.run_script(script, list_order="changed")
    assert seen == [[made[3], made[2]], [made[2], made[1]]]
    assert [job["id"] for job in whole] == [made[0], *made[:0:-1]]
    changed = [job["updated_at"] for job in whole]
    assert changed == sorted(changed, reverse=True)


# --- Ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("more", "status"), [({}, "SUCCESS"), ({"null_result": 0.5}, "PARTIAL_SUCCESS")])
def test_a_job_shows_error_before_it_is_answered(more: dict[str, float], status: str) -> None:
    """For that time it is as a job that failed: a reason and no results; then it has them all, and is paid."""

    async def script(client: httpx.AsyncClient) -> Any:
        job_path = f"{v2.V1_JOBS}/{(await client.post(v2.V1_JOBS, json=V1_BODY)).json()['id']}"
        seen = []
        for wait_s in (ENDS_S, 4.9, 0.2):
            await anyio.sleep(wait_s)
            job = (await client.get(job_path)).json()
            assert [job] == (await client.get(v2.V1_JOBS)).json()["items"]
            items = (await client.get(f"{job_path}/results")).json()["items"]
            assert {item["created_at"] for item in items} <= {job["updated_at"]}
            since_s = (from_iso(job["updated_at"]) or 0.0) - START_S
            seen.append((job["status"], job["error_message"], since_s, [item["file_id"] for item in items]))
        return seen, await stats_of(client)

    seen, stats = v2.run_script(script, faults=Faults.from_values({"error_first": 1, **more}, "here"))
    assert seen == [*[("ERROR", "TIMEOUT", 10, [])] * 2, (status, None, 15, list("abcd"))]
    assert (stats["files_billed"] == 4) == (not more)


def test_a_job_of_v2_shows_failed_before_it_is_completed() -> None:
    """FAILED with a reason, without a result and billed nothing; then COMPLETED; its transaction is its own still."""

    async def script(client: httpx.AsyncClient) -> Any:
        body = v2.create_body("a", transaction_id="t")
        job_path = f"{v2.JOBS}/{(await client.post(v2.JOBS, json=body)).json()['id']}"
        seen = []
        for wait_s in (ENDS_S, 4.9, 0.2):
            await anyio.sleep(wait_s)
            job = (await client.get(f"{job_path}?expand=usage")).json()
            usage = job.pop("usage")
            assert [job] == (await client.get(v2.JOBS, params={"status": job["status"]})).json()["items"]
            assert job == (await client.post(v2.JOBS, json=body)).json()
            seen.append((job["status"], job["error_message"], job["result"] is not None, usage["credits"]))
        return seen

    shown = v2.run_script(script, faults=Faults(error_first=1))
    assert shown == [*[("FAILED", "TIMEOUT", False, 0)] * 2, ("COMPLETED", None, True, 1)]


def test_results_lag_counts_from_the_real_end() -> None:
    """An ERROR that passes and results that lag come one after the other."""

    async def script(client: httpx.AsyncClient) -> Any:
        job_path = f"{v2.V1_JOBS}/{(await client.post(v2.V1_JOBS, json=V1_BODY)).json()['id']}"
        seen = []
        for wait_s in (ENDS_S, 5, 3):
            await anyio.sleep(wait_s)
            items = (await client.get(f"{job_path}/results")).json()["items"]
            seen.append(((await client.get(job_path)).json()["status"], len(items)))
        return seen

    faults = Faults(error_first=1, results_lag_s=3, results_lag_shows="half")
    assert v2.run_script(script, faults=faults) == [("ERROR", 0), ("SUCCESS", 2), ("SUCCESS", 4)]


# --- Clocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [v2.V1_JOBS, v2.JOBS])
def test_jobs_can_be_stamped_by_several_clocks(path: str, tmp_path: Path) -> None:
    """Each job's times are shifted by the same amount in each of its bodies, also by the next sandbox on the ledger;
    when it ends and shows is by the true time."""
    ledger = tmp_path / "jobs.jsonl"

    async def script(client: httpx.AsyncClient) -> Any:
        made = [(await client.post(path, json=BODIES[path])).json() for _ in range(20)]
        found = {at_s: await times(client, path, wait_s) for at_s, wait_s in ((9.9, 9.9), (10, 0.1))}
        first = min(made, key=lambda job: str(job["created_at"]))["created_at"]
        query = {"created_at_on_or_before": first}
        earliest = (await client.get(path, params=query)).json()["total_size"] if path == v2.JOBS else 1
        return {job["id"]: from_iso(job["created_at"]) for job in made}, found, earliest

    async def again(client: httpx.AsyncClient) -> Any:
        return await times(client, path, 10)

    created, found, earliest = v2.run_script(script, ledger=ledger, faults=Faults(created_at_jitter_s=60, list_lag_s=5))
    shifts = {job_id: at_s - START_S for job_id, at_s in created.items()}
    assert min(shifts.values()) < -20 < 20 < max(shifts.values())
    changed_s = 5 if path == v2.JOBS else 0
    for at_s, ended, elapsed_s in ((9.9, False, changed_s), (10, True, 10)):
        for job_id, (is_ended, created_at_s, updated_at_s) in found[at_s].items():
            assert (is_ended, created_at_s) == (ended, created[job_id])
            assert updated_at_s - START_S - shifts[job_id] == pytest.approx(elapsed_s, abs=0.002)
    assert earliest == 1
    assert v2.run_script(again, ledger=ledger) == found[10]


async def times(client: httpx.AsyncClient, path: str, wait_s: float) -> dict[str, tuple[bool, float, float]]:
    """What the list says of each job: whether it has ended, and its times."""
    await anyio.sleep(wait_s)
    return {
        job["id"]: (
            job["status"] in {"SUCCESS", "COMPLETED"},
            from_iso(job["created_at"]) or 0.0,
            from_iso(job["updated_at"]) or 0.0,
        )
        for job in (await client.get(path)).json()["items"]
    }
