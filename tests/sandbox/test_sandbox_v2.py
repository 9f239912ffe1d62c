"""v2, called in process: a job's life, and what a create is answered."""

from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from classify_batch.clock import from_iso
from classify_batch.sandbox import Faults
from tests.support import sandbox_client_v2 as v2
from tests.support.sandbox_client import RULES, stats_of, where_of

# --- One job --------------------------------------------------------------------------------------------------------


def test_a_created_job_has_the_documented_fields() -> None:
    """The answer to a create is a PENDING job that names its file and repeats the configuration, without usage."""

    async def script(client: httpx.AsyncClient) -> Any:
        parsing = {"lang": "de", "max_pages": 3, "target_pages": "1,3-5"}
        return await v2.make(client, "a", transaction_id="t", mode="FAST", parsing_configuration=parsing), parsing

    job, parsing = v2.run_script(script)
    assert (job["status"], job["file_input"], job["transaction_id"]) == ("PENDING", "a", "t")
    assert job["configuration"] == {"rules": RULES, "mode": "FAST", "parsing_configuration": parsing}
    assert from_iso(job["created_at"]) == pytest.approx(1_700_000_000)
    assert set(job) == {
        *("id", "configuration", "configuration_id", "document_input_type", "file_input", "parse_job_id"),
        *("project_id", "status", "user_id", "created_at", "updated_at", "error_message", "result", "transaction_id"),
    }


def test_a_job_runs_and_ends_with_its_answer() -> None:
    """PENDING in the first half of its life, RUNNING in the second, then COMPLETED with type, confidence, reasoning."""

    async def script(client: httpx.AsyncClient) -> Any:
        jobs = [await v2.make(client)]
        for _ in range(3):
            await anyio.sleep(4)
            jobs.append(await v2.get(client, jobs[0]))
        return jobs, (await client.get(v2.JOBS)).json()["items"]

    jobs, page = v2.run_script(script)
    assert [job["status"] for job in jobs] == ["PENDING", "PENDING", "RUNNING", "COMPLETED"]
    assert [job["result"] for job in jobs[:3]] == [None] * 3
    assert set(jobs[3]["result"]) == {"type", "confidence", "reasoning"}
    since_s = [(from_iso(job["updated_at"]) or 0.0) - 1_700_000_000 for job in jobs]
    assert since_s == pytest.approx([0, 0, 5, 10])
    assert page == jobs[3:]


@pytest.mark.parametrize(
    ("fault", "status", "reason", "billed"),
    [
        ("error", "FAILED", "TIMEOUT", 0),
        ("poison_share", "FAILED", "PDF_IS_BROKEN", 0),
        ("cancelled", "CANCELLED", None, 0),
        ("null_result", "COMPLETED", None, 0),
        ("partial", "COMPLETED", None, 0),
        ("stuck", "RUNNING", None, None),
    ],
)
def test_a_failed_job_has_no_result_and_no_bill(
    fault: str, status: str, reason: str | None, billed: float | None
) -> None:
    """A job that failed shows it in v2's words: no result, a reason where there is one, and nothing billed."""

    async def script(client: httpx.AsyncClient) -> Any:
        job = await v2.make(client)
        await anyio.sleep(100)
        return await v2.get(client, job, "?expand=usage"), await stats_of(client)

    job, stats = v2.run_script(script, faults=Faults.model_validate({fault: 1}))
    assert (job["status"], job["error_message"], job["result"]) == (status, reason, None)
    assert job["usage"] == {"credits": billed, "parse_credits": billed}
    assert (stats["files_accepted"], stats["files_billed"]) == (1, 0)


def test_an_unfinished_job_can_show_unknown_statuses() -> None:
    """A job can show a word that no document has, and what it has become at last."""

    async def script(client: httpx.AsyncClient) -> Any:
        job = await v2.make(client)
        await anyio.sleep(10)
        return job["status"], (await v2.get(client, job))["status"]

    assert v2.run_script(script, faults=Faults(unknown_status=1)) == ("QUEUED", "COMPLETED")


def test_both_versions_give_a_file_the_same_answer() -> None:
    """The same file and rules have the same answer on v1 and v2."""

    async def script(client: httpx.AsyncClient) -> Any:
        jobs = [await v2.make(client, file_id) for file_id in "abcdefgh"]
        told = {"file_ids": list("abcdefgh"), "rules": RULES}
        old = (await client.post(v2.V1_JOBS, json=told)).json()
        await anyio.sleep(10)
        items = (await client.get(f"{v2.V1_JOBS}/{old['id']}/results")).json()["items"]
        return [(await v2.get(client, job))["result"] for job in jobs], [item["result"] for item in items]

    new, old = v2.run_script(script)
    assert new == old
    assert len({result["type"] for result in new}) > 1


def test_without_a_limit_every_page_is_read(tmp_path: Path) -> None:
    """What only the sixth page says decides on v2, unless `max_pages` or `target_pages` leave it out."""
    (tmp_path / "long.txt").write_text("walk " * 3_000 + "a salutation and a signature")
    (tmp_path / "other.txt").write_text("line items and a total")
    parsings = [None, {"max_pages": 5}, {"max_pages": 6}, {"target_pages": "6"}, {"target_pages": "1-5"}]

    async def script(client: httpx.AsyncClient) -> Any:
        file_id = (await client.get("/api/v1/beta/files?file_name=long.txt")).json()["items"][0]["id"]
        jobs = [await v2.make(client, file_id, parsing_configuration=parsing) for parsing in parsings]
        await anyio.sleep(10)
        return [(await v2.get(client, job))["result"]["type"] for job in jobs]

    assert v2.run_script(script, documents=tmp_path) == ["letter", None, "letter", "letter", None]


# --- Creating -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "where"),
    [
        ({"file_input": None}, ["file_input"]),
        ({"configuration": None}, ["configuration"]),
        ({"configuration": {"rules": []}}, ["configuration", "rules"]),
        ({"configuration": {"rules": RULES + RULES[:1]}}, ["configuration", "rules"]),
        ({"configuration": {"rules": [{"type": "a", "description": "short"}]}},
         ["configuration", "rules", 0, "description"]),
        ({"configuration": {"rules": RULES, "mode": "MULTIMODAL"}}, ["configuration", "mode"]),
        ({"configuration": {"rules": RULES, "parsing_configuration": {"target_pages": [0, 2]}}},
         ["configuration", "parsing_configuration", "target_pages"]),
        ({"configuration": {"rules": RULES, "parsing_configuration": {"target_pages": "0-2"}}},
         ["configuration", "parsing_configuration", "target_pages"]),
    ],
)  # fmt: skip
def test_a_wrong_create_is_422_and_makes_no_job(told: dict[str, Any], where: list[Any]) -> None:
    """What the API doesn't allow is refused with its place in the body, and nothing is accepted."""

    async def script(client: httpx.AsyncClient) -> Any:
        response = await client.post(v2.JOBS, json={**v2.create_body(), **told})
        assert (await stats_of(client))["creates_accepted"] == 0
        return response

    assert where_of(v2.run_script(script)) == [["body", *where]]


def test_a_file_of_another_project_is_refused() -> None:
    """400 with the file's name, or 422 with the place of the only file there is."""

    async def script(client: httpx.AsyncClient) -> Any:
        return await client.post(v2.JOBS, json=v2.create_body("x"), params={"project_id": "mine"})

    named = v2.run_script(script, faults=Faults(foreign=frozenset("x")))
    assert (named.status_code, named.json()) == (400, {"detail": "File ID x is not in Project ID mine"})
    placed = v2.run_script(script, faults=Faults(foreign=frozenset("x"), foreign_says="index"))
    assert where_of(placed) == [["body", "file_input"]]


def test_a_repeated_transaction_gives_the_first_job() -> None:
    """Reused, it makes and bills nothing: the first job comes back as it is now, whatever the new body says."""

    async def script(client: httpx.AsyncClient) -> Any:
        first = await v2.make(client, "a", transaction_id="t")
        await anyio.sleep(10)
        again = await v2.make(client, "foreign", transaction_id="t", parsing_configuration={"max_pages": 1})
        return first, again, await v2.get(client, first), await stats_of(client)

    limits = {"jobs_at_once": 1, "faults": Faults(credits=1, foreign=frozenset({"foreign"}))}
    first, again, now, stats = v2.run_script(script, **limits)
    assert again == now
    assert (now["id"], now["file_input"], now["status"]) == (first["id"], "a", "COMPLETED")
    assert (stats["creates_accepted"], stats["files_billed_more_than_once"]) == (1, [])


def test_a_transaction_is_known_before_its_job_shows() -> None:
    """A lost answer can be asked for again at once, however late lists and gets are."""

    async def script(client: httpx.AsyncClient) -> Any:
        first, again = [await v2.make(client, transaction_id="t") for _ in range(2)]
        return first == again, await v2.listed(client)

    assert v2.run_script(script, faults=Faults(list_lag_s=5, get_lag_s=5)) == (True, [])


def test_transactions_are_the_projects_own() -> None:
    """Another project, another transaction and none at all make jobs of their own; a deleted job frees its key."""

    async def script(client: httpx.AsyncClient) -> Any:
        made = [await v2.make(client, transaction_id=key) for key in ("t", "u", None, None)]
        other = await client.post(v2.JOBS, json=v2.create_body(transaction_id="t"), params={"project_id": "other"})
        await anyio.sleep(10)
        await client.delete(f"{v2.JOBS}/{made[0]['id']}")
        made += [other.json(), await v2.make(client, transaction_id="t"), await v2.make(client, transaction_id="t")]
        return [job["id"] for job in made]

    job_ids = v2.run_script(script)
    assert len(set(job_ids)) == 6
    assert job_ids[-1] == job_ids[-2]


def test_a_transaction_is_forgotten_in_time(tmp_path: Path) -> None:
    """Used again after that, it makes and bills a second job of the file; the next sandbox on the ledger agrees."""
    ledger = tmp_path / "jobs.jsonl"

    async def script(client: httpx.AsyncClient) -> Any:
        made = []
        for wait_s in (0, 29, 2, 10):
            await anyio.sleep(wait_s)
            made.append((await v2.make(client, "a", transaction_id="t"))["id"])
        return made, await stats_of(client)

    async def again(client: httpx.AsyncClient) -> Any:
        await anyio.sleep(45)
        return (await v2.make(client, "a", transaction_id="t"))["id"]

    made, stats = v2.run_script(script, forget_transactions_after_s=30, ledger=ledger)
    assert made[0] == made[1] != made[2] == made[3]
    assert (stats["creates_accepted"], stats["files_billed_more_than_once"]) == (2, ["a"])
    assert v2.run_script(again, forget_transactions_after_s=30, ledger=ledger) == made[2]


def test_creates_a_second_are_limited() -> None:
    """Beyond the limit in any second v2's creates are 429; v1's and reads are not, and a refused one takes nothing."""

    async def script(client: httpx.AsyncClient) -> Any:
        statuses = []
        for _ in range(30):  # 0.0, 0.1, … 2.9
            statuses.append((await client.post(v2.JOBS, json=v2.create_body())).status_code)
            await anyio.sleep(0.1)
        old = {"file_ids": ["a"], "rules": RULES}
        others = [(await client.post(v2.V1_JOBS, json=old)).status_code for _ in range(10)]
        return statuses, [*others, (await client.get(v2.JOBS)).status_code]

    statuses, others = v2.run_script(script, creates_per_s=4)
    assert statuses == ([200] * 4 + [429] * 6) * 3
    assert set(others) == {200}


def test_the_limits_count_both_versions() -> None:
    """Jobs at once, credits and the stats count the jobs of both versions together."""

    async def script(client: httpx.AsyncClient) -> Any:
        old = {"file_ids": ["a", "b"], "rules": RULES}
        answers = [await client.post(v2.V1_JOBS, json=old), await client.post(v2.JOBS, json=v2.create_body("a"))]
        answers.append(await client.post(v2.JOBS, json=v2.create_body("c")))
        await anyio.sleep(10)
        answers.append(await client.post(v2.JOBS, json=v2.create_body("c")))
        return [answer.status_code for answer in answers], await stats_of(client)

    statuses, stats = v2.run_script(script, jobs_at_once=2, faults=Faults(credits=3))
    assert statuses == [200, 200, 402, 402]
    assert (stats["files_accepted"], stats["files_billed"], stats["files_billed_more_than_once"]) == (3, 2, ["a"])
    assert stats["requests"] == {"create": {"200": 2, "402": 2}}
    assert v2.run_script(script, jobs_at_once=2)[0] == [200, 200, 429, 200]
