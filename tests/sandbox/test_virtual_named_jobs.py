"""Servers whose results name the job in another way than by its ID: whole runs in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import httpx
import pytest

from tests.support.simulated_run import is_create, laboratory

pytestmark = pytest.mark.anyio


def name_each_file(job_id: str, file_id: str) -> str:
    return f"{job_id}/{file_id}"


def name_otherwise(job_id: str, file_id: str) -> str:
    return f"classify-{job_id}"


@pytest.mark.parametrize("lost", [0.0, 0.3])
@pytest.mark.parametrize("name", [name_each_file, name_otherwise])
async def test_a_server_that_names_jobs_otherwise_is_not_taken_for_one_that_mixes_them_up(
    name: Callable[[str, str], str], lost: float
) -> None:
    """Files without an answer are sent again, and lost creates found, as where the names are the IDs. They failed
    at once, and lost creates were looked for until jobs are overdue."""
    with laboratory(200, faults={"null_result": 0.1}) as lab:
        random = Random(5)

        async def rename_jobs(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            if is_create(request) and random.random() < lost:
                raise httpx.ReadError("lost")
            if not request.url.path.endswith("/results"):
                return response
            body = response.json()
            for item in body["items"]:
                item["classify_job_id"] = name(item["classify_job_id"], item["file_id"])
            return httpx.Response(response.status_code, json=body)

        lab.wire.after = rename_jobs
        ending = await lab.run()
        assert (ending.state, ending.reason) == ("complete", None)
        assert await lab.judge() == {}
        assert lab.codes() == {}
