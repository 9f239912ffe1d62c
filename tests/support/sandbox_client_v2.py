"""Requests of v2 to a sandbox in this process, in virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from tests.support import sandbox_client
from tests.support.sandbox_client import RULES

JOBS = "/api/v2/classify"
V1_JOBS = "/api/v1/classifier/jobs"
STEADY = {"job_duration_s": 10.0, "job_duration_sigma": 0.0}


def create_body(file_id: str = "f", *, transaction_id: str | None = None, **configuration: Any) -> dict[str, Any]:
    return {"file_input": file_id, "configuration": {"rules": RULES, **configuration}, "transaction_id": transaction_id}


def run_script(script: Callable[[httpx.AsyncClient], Awaitable[Any]], **options: Any) -> Any:
    """`sandbox_client.run_script`, where each job takes 10 s unless the options say otherwise."""
    return sandbox_client.run_script(script, **{**STEADY, **options})


async def make(client: httpx.AsyncClient, *given: Any, **configuration: Any) -> Any:
    response = await client.post(JOBS, json=create_body(*given, **configuration))
    assert response.status_code == 200, response.text
    return response.json()


async def get(client: httpx.AsyncClient, job: Any, query: str = "") -> Any:
    return (await client.get(f"{JOBS}/{job['id']}{query}")).json()


async def listed(client: httpx.AsyncClient, **query: Any) -> list[str]:
    """The files of the jobs on a page."""
    return [job["file_input"] for job in (await client.get(JOBS, params=query)).json()["items"]]
