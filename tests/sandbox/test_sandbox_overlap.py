"""Jobs that are not what a client takes them for: somebody else's over the same files, and one of its own again."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from classify_batch.sandbox import Faults, read_billed
from tests.support import sandbox_client_v2 as v2
from tests.support.sandbox_client import RULES, stats_of

OURS = [f"file-{number}" for number in range(10)]
OVERLAP = Faults(overlap=1)


async def answered(client: httpx.AsyncClient, job: Any) -> set[str]:
    """The files that a job of v1 answers."""
    page = (await client.get(f"{v2.V1_JOBS}/{job['id']}/results")).json()
    return {item["file_id"] for item in page["items"] if item["result"]}


@pytest.mark.parametrize("mode", [None, "MULTIMODAL"])
def test_a_foreign_job_overlaps_the_clients_files(mode: str | None) -> None:
    """Right after ours it is in the list, looks like it but for a mode that is set, and answers some of our files."""

    async def script(client: httpx.AsyncClient) -> Any:
        made = (await client.post(v2.V1_JOBS, json={"file_ids": OURS, "rules": RULES})).json()
        other, ours = (await client.get(v2.V1_JOBS)).json()["items"]
        assert ours == made
        await anyio.sleep(10)
        return ours, other, await answered(client, ours), await answered(client, other), await stats_of(client)

    faults = Faults.model_validate({"overlap": 1, "overlap_mode": mode})
    ours, other, our_files, other_files, stats = v2.run_script(script, faults=faults)
    alike = ("rules", "parsing_configuration", "project_id", "created_at", "status")
    assert {name: other[name] for name in alike} == {name: ours[name] for name in alike}
    assert (ours["mode"], other["mode"], ours["id"] != other["id"]) == ("FAST", mode or "FAST", True)
    assert our_files == set(OURS)
    assert 4 <= len(other_files & our_files) <= 5
    assert 9 <= len(other_files) <= 10
    assert (stats["creates_accepted"], stats["files_accepted"], stats["files_billed"]) == (1, 10, 10)
    assert stats["files_billed_more_than_once"] == []


def test_on_v2_a_foreign_job_has_the_same_file() -> None:
    """Without the transaction, which still gives our job back."""

    async def script(client: httpx.AsyncClient) -> Any:
        made, again = [
            (await client.post(v2.JOBS, json=v2.create_body("a", transaction_id="t"))).json() for _ in range(2)
        ]
        assert made == again
        return made, (await client.get(v2.JOBS)).json()["items"], await stats_of(client)

    ours, (other, listed), stats = v2.run_script(script, faults=OVERLAP)
    assert listed == ours
    assert (other["file_input"], other["transaction_id"], other["configuration"]) == ("a", None, ours["configuration"])
    assert (stats["creates_accepted"], stats["files_billed"]) == (1, 1)


def test_foreign_jobs_come_with_their_probability() -> None:
    """As many as set; a create that is refused never is."""

    async def script(client: httpx.AsyncClient) -> Any:
        for number in range(100):
            await client.post(v2.V1_JOBS, json={"file_ids": [f"file-{number}"], "rules": RULES})
            await client.post(v2.V1_JOBS, json={"file_ids": ["foreign"], "rules": RULES})
        return (await client.get(v2.V1_JOBS)).json()["total_size"], await stats_of(client)

    total, stats = v2.run_script(script, faults=Faults(overlap=0.3, foreign=frozenset({"foreign"})))
    assert 115 < total < 145
    assert stats["creates_accepted"] == 100


def test_foreign_jobs_spend_no_credits() -> None:
    """The client's credits are its own."""

    async def script(client: httpx.AsyncClient) -> Any:
        bodies = [{"file_ids": [each], "rules": RULES} for each in "abcd"]
        return [(await client.post(v2.V1_JOBS, json=body)).status_code for body in bodies]

    assert v2.run_script(script, faults=OVERLAP.model_copy(update={"credits": 3})) == [200, 200, 200, 402]


def test_foreign_jobs_stay_foreign_after_a_restart(tmp_path: Path) -> None:
    """The next sandbox on the ledger shows their jobs as before, and the ledger doesn't bill the client for them."""
    ledger = tmp_path / "jobs.jsonl"

    async def before(client: httpx.AsyncClient) -> Any:
        for _ in range(3):
            await client.post(v2.V1_JOBS, json={"file_ids": OURS, "rules": RULES})
        await anyio.sleep(10)
        return (await client.get(v2.V1_JOBS)).json(), await stats_of(client)

    async def after(client: httpx.AsyncClient) -> Any:
        await anyio.sleep(10)
        return (await client.get(v2.V1_JOBS)).json(), await stats_of(client)

    (page, stats), (same_page, same) = (
        v2.run_script(before, faults=OVERLAP, ledger=ledger),
        v2.run_script(after, seed=2, ledger=ledger),
    )
    assert same_page == page
    assert page["total_size"] == 6
    sums = ("creates_accepted", "files_accepted", "files_billed", "files_billed_more_than_once")
    assert [same[name] for name in sums] == [stats[name] for name in sums] == [3, 30, 10, sorted(OURS)]
    assert read_billed(ledger) == dict.fromkeys(OURS, 3)


# --- The same job again -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [v2.V1_JOBS, v2.JOBS])
def test_a_create_can_be_answered_with_the_job_before_it(path: str) -> None:
    """As it is now, whatever was asked for; no job is made, but where there is none before it in the project."""

    async def script(client: httpx.AsyncClient) -> Any:
        made = []
        for file_id, project_id in (("a", "p"), ("b", "p"), ("c", "q"), ("d", "q")):
            told = v2.create_body(file_id) if path == v2.JOBS else {"file_ids": [file_id], "rules": RULES}
            made.append((await client.post(path, json=told, params={"project_id": project_id})).json())
            await anyio.sleep(10)
        shown = (await client.get(f"{path}/{made[0]['id']}", params={"project_id": "p"})).json()
        return made, shown, await stats_of(client)

    (first, again, other, other_again), shown, stats = v2.run_script(script, faults=Faults(same_job_id=1))
    assert again == shown
    assert again["status"] in {"SUCCESS", "COMPLETED"}
    assert [first["id"], other["id"]] == [again["id"], other_again["id"]]
    assert first["id"] != other["id"]
    assert (stats["creates_accepted"], stats["files_billed"]) == (2, 2)


def test_repeated_job_ids_come_with_their_probability() -> None:
    """As many as set; a create that is refused is refused, and a transaction still gives its own job back."""

    async def script(client: httpx.AsyncClient) -> Any:
        ids = []
        for number in range(100):
            body = v2.create_body(f"file-{number}", transaction_id=f"t-{number}")
            ids.append((await client.post(v2.JOBS, json=body)).json()["id"])
        refused = await client.post(v2.JOBS, json=v2.create_body("foreign"))
        again = await client.post(v2.JOBS, json=v2.create_body("x", transaction_id="t-0"))
        return ids, refused.status_code, again.json()["id"]

    ids, refused, again = v2.run_script(script, faults=Faults(same_job_id=0.3, foreign=frozenset({"foreign"})))
    assert 55 < len(set(ids)) < 85
    assert all(one == other or one not in ids[number + 2 :] for number, (one, other) in enumerate(pairwise(ids)))
    assert (refused, again) == (400, ids[0])


def test_a_foreign_job_is_never_the_job_before() -> None:
    """A client is given one of its own jobs again, also where others make jobs."""

    async def script(client: httpx.AsyncClient) -> Any:
        return {(await client.post(v2.JOBS, json=v2.create_body(each))).json()["id"] for each in "aaab"}

    assert len(v2.run_script(script, faults=Faults(overlap=1, same_job_id=1))) == 1
