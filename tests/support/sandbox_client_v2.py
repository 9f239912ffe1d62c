"""Talking v2 with a sandbox in process, in virtual time."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx
from trio.testing import MockClock

from classify_batch.sandbox import Options, opened
from tests.support.loop_clock import LoopClock

JOBS = "/api/v2/classify"
V1_JOBS = "/api/v1/classifier/jobs"
RULES = [
    {"type": "invoice", "description": "has line items and a total"},
    {"type": "letter", "description": "has a salutation and a signature"},
]
STEADY = {"job_duration_s": 10.0, "job_duration_sigma": 0.0}


def create_body(file_id: str = "f", *, transaction_id: str | None = None, **told: Any) -> dict[str, Any]:
    return {"file_input": file_id, "configuration": {"rules": RULES, **told}, "transaction_id": transaction_id}


def talk(script: Callable[[httpx.AsyncClient], Awaitable[Any]], **options: Any) -> Any:
    """Runs a script against a sandbox in trio's virtual time."""

    async def main() -> Any:
        clock = LoopClock()
        with opened(Options(**{"seed": 1, **STEADY, **options}), clock.wall_s) as app:
            headers = {"Authorization": "Bearer sandbox"}
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
                return await script(client)

    return anyio.run(main, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


async def make(client: httpx.AsyncClient, *given: Any, **told: Any) -> Any:
    response = await client.post(JOBS, json=create_body(*given, **told))
    assert response.status_code == 200, response.text
    return response.json()


async def get(client: httpx.AsyncClient, job: Any, query: str = "") -> Any:
    return (await client.get(f"{JOBS}/{job['id']}{query}")).json()


async def listed(client: httpx.AsyncClient, **query: Any) -> list[str]:
    """The files of the jobs on a page."""
    return [job["file_input"] for job in (await client.get(JOBS, params=query)).json()["items"]]


async def stats_of(client: httpx.AsyncClient) -> Any:
    return (await client.get("/sandbox/stats")).json()


def where_of(response: httpx.Response) -> list[list[Any]]:
    """Where a 422 says the faults are, once its shape is as documented."""
    assert response.status_code == 422
    detail = response.json()["detail"]
    assert all(set(fault) == {"loc", "msg", "type"} for fault in detail)
    return [fault["loc"] for fault in detail]
