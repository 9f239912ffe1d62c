"""What the server says of jobs, by its options: less than documented, or spelled otherwise."""

from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

if TYPE_CHECKING:
    from tests.sandbox.talking_v2 import JOBS, RULES, V1_JOBS, create_body, talk
else:
    from talking_v2 import JOBS, RULES, V1_JOBS, create_body, talk

V1_BODY = {"file_ids": ["a", "b"], "rules": RULES, "mode": "MULTIMODAL"}
BODIES = {V1_JOBS: V1_BODY, JOBS: create_body("a", mode="FAST")}


async def job_bodies(client: httpx.AsyncClient, path: str) -> list[dict[str, Any]]:
    """A job as it is answered to its create, in the list, by its ID, and once it has ended."""
    made = (await client.post(path, json=BODIES[path])).json()
    bodies = [made, *(await client.get(path)).json()["items"]]
    for wait_s in (0, 10):
        await anyio.sleep(wait_s)
        bodies.append((await client.get(f"{path}/{made['id']}")).json())
    return bodies


@pytest.mark.parametrize("path", [V1_JOBS, JOBS])
def test_jobs_can_be_silent_about_their_mode(path: str) -> None:
    """Nothing else is missing; rules and parsing configuration are as they were."""

    async def script(client: httpx.AsyncClient) -> Any:
        return await job_bodies(client, path)

    for silent, full in zip(talk(script, silent_mode=True), talk(script), strict=True):
        if path == JOBS:
            assert full["configuration"].pop("mode") == "FAST"
        else:
            assert full.pop("mode") == "MULTIMODAL"
        assert silent == full


@pytest.mark.parametrize("path", [V1_JOBS, JOBS])
def test_jobs_can_be_silent_about_when_they_were_created(path: str) -> None:
    """Nothing else is missing; v2 still filters by it."""

    async def script(client: httpx.AsyncClient) -> Any:
        bodies = await job_bodies(client, path)
        if path == JOBS:
            query = {"created_at_on_or_after": "2023-11-14T22:13:20Z"}
            assert (await client.get(JOBS, params=query)).json()["total_size"] == 1
            assert (await client.get(JOBS, params={"created_at_on_or_after": "2030-01-01"})).json()["total_size"] == 0
        return bodies

    for silent, full in zip(talk(script, silent_created_at=True), talk(script), strict=True):
        assert full.pop("created_at")
        assert silent == full
