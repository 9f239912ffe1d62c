"""Parse jobs in the sandbox: on v2 they stand in the place of files, and are billed nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import anyio
import httpx

from tests.support import sandbox_client_v2 as v2
from tests.support.sandbox_client import RULES, stats_of

FILE = str(uuid5(NAMESPACE_URL, "a.txt"))


def documents(folder: Path) -> dict[str, Any]:
    (folder / "a.txt").write_text(RULES[0]["description"])
    return {"documents": folder}


async def ended(client: httpx.AsyncClient, file_input: str) -> Any:
    """A job over this, once it has ended."""
    job = await v2.make(client, file_input)
    await anyio.sleep(20)
    return await v2.get(client, job, "?expand=usage")


def test_a_parse_job_gets_its_files_answer_for_nothing(tmp_path: Path) -> None:
    """The job says what it was made of, answers as the file is answered, and is billed nothing."""

    async def script(client: httpx.AsyncClient) -> Any:
        jobs = [await ended(client, file_input) for file_input in (FILE, f"pjb-{FILE}")]
        return jobs, await stats_of(client)

    (file, parsed), stats = v2.run_script(script, **documents(tmp_path))
    assert parsed["result"] == file["result"]
    assert (parsed["file_input"], parsed["parse_job_id"]) == (f"pjb-{FILE}", f"pjb-{FILE}")
    assert (parsed["document_input_type"], file["document_input_type"]) == ("parse_job_id", "file_id")
    assert parsed["usage"] == {"credits": 0.0, "parse_credits": None}
    assert file["usage"] == {"credits": 1.0, "parse_credits": 1.0}
    assert stats["creates_accepted"] == 2


def test_a_fault_bills_parse_jobs_like_files(tmp_path: Path) -> None:
    """To try what happens when the vendor's word doesn't hold."""

    async def script(client: httpx.AsyncClient) -> Any:
        return await ended(client, f"pjb-{FILE}")

    assert v2.run_script(script, faults={"parse_jobs_billed": True}, **documents(tmp_path))["usage"]["credits"] == 1.0


def test_a_parse_job_of_no_file_is_unknown(tmp_path: Path) -> None:
    """As a file that the project doesn't have; it is named as it was given."""

    async def script(client: httpx.AsyncClient) -> Any:
        return await client.post(v2.JOBS, json=v2.create_body("pjb-nothing"))

    refused = v2.run_script(script, **documents(tmp_path))
    assert refused.status_code == 400
    assert "File ID pjb-nothing is not in Project ID" in refused.json()["detail"]


def test_v1_knows_no_parse_jobs() -> None:
    """Also where it knows every file ID."""

    async def script(client: httpx.AsyncClient) -> Any:
        return await client.post(v2.V1_JOBS, json={"file_ids": ["a", "pjb-a"], "rules": RULES})

    refused = v2.run_script(script)
    assert refused.status_code == 400
    assert "File ID pjb-a is not in Project ID" in refused.json()["detail"]


def test_a_parse_job_says_whose_it_is(tmp_path: Path) -> None:
    """By its own path, where there is such a file."""

    async def script(client: httpx.AsyncClient) -> Any:
        return [await client.get(f"/api/v2/parse/{job_id}") for job_id in (f"pjb-{FILE}", FILE, "pjb-nothing")]

    there, no_parse_job, nothing = v2.run_script(script, **documents(tmp_path))
    assert there.status_code == 200
    job = there.json()["job"]
    assert (job["id"], job["status"]) == (f"pjb-{FILE}", "COMPLETED")
    assert job["project_id"]
    assert (no_parse_job.status_code, nothing.status_code) == (404, 404)


def test_parse_jobs_use_no_credits_up() -> None:
    """Where only so many pages may be classified."""

    async def script(client: httpx.AsyncClient) -> Any:
        await v2.make(client, "a")
        parsed = await client.post(v2.JOBS, json=v2.create_body("pjb-a"))
        return parsed.status_code, (await client.post(v2.JOBS, json=v2.create_body("b"))).status_code

    assert v2.run_script(script, faults={"credits": 1}) == (200, 402)
