"""Servers that spell one job's ID in two ways: whole runs in virtual time."""

from __future__ import annotations

import re
from random import Random

import anyio
import httpx
import pytest

from classify_batch.vocabulary import CANCEL_JSON
from tests.support.simulated_run import Lab, ends_well, laboratory

pytestmark = pytest.mark.anyio

_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
BOTH = pytest.mark.parametrize("version", ["v1", "v2"])
WHERE = pytest.mark.parametrize("where", ["create", "read"])


class SpelledInTwoWays:
    """A server to which all spellings of a UUID are one. It writes job IDs in upper case in its answers to creates, or
    in those to all other calls.

    Attributes:
        asked: the IDs in the paths of calls, as they came.
    """

    def __init__(self, lab: Lab, where: str, lost: float = 0.0) -> None:
        self._where, self._lost, self._random = where, lost, Random(1)
        self.asked = set[str]()
        lab.wire.before, lab.wire.after = self.before, self.after

    async def before(self, request: httpx.Request) -> httpx.Response | None:
        self.asked.update(_UUID.findall(request.url.path))
        request.url = httpx.URL(_UUID.sub(lambda found: found[0].lower(), str(request.url)))
        return None

    async def after(self, request: httpx.Request, response: httpx.Response) -> httpx.Response:
        create = request.method == "POST" and not request.url.path.endswith("/cancel")
        if create and self._random.random() < self._lost:
            raise httpx.ReadError("lost")
        if request.url.path.endswith("/results") or create != (self._where == "create"):
            return response
        body = response.json()
        for job in body.get("items", [body]):
            job["id"] = job["id"].upper()
        return httpx.Response(response.status_code, json=body)


@BOTH
@WHERE
async def test_a_job_is_one_in_any_spelling(version: str, where: str) -> None:
    """It is polled, collected and written down by the ID that the create gave it."""
    with laboratory(60, files_per_job=5, version=version, limits={"job_timeout_s": 600.0}) as lab:
        server = SpelledInTwoWays(lab, where)
        await ends_well(lab)
        jobs = {str(outcome["job_id"]) for outcome in lab.outcomes().values()}
        assert all(job_id == (job_id.upper() if where == "create" else job_id.lower()) for job_id in jobs)
        assert server.asked <= jobs
        assert lab.accepted() == len(jobs)


@BOTH
@WHERE
@pytest.mark.parametrize("seed", range(3))
async def test_a_lost_create_is_found_in_any_spelling(version: str, where: str, seed: int) -> None:
    """Also by a later process: the journal's jobs are no candidates, however the list spells them."""
    with laboratory(60, files_per_job=5, version=version, limits={"accept_s": 20.0, "settle_s": 5.0}) as lab:
        SpelledInTwoWays(lab, where, lost=0.3)
        await lab.run_until_power_cut(2.0 + 7 * seed)
        await ends_well(lab)


@WHERE
async def test_a_job_is_cancelled_in_any_spelling(where: str) -> None:
    """On v2, which says of each job that it was."""
    with laboratory(20, version="v2", job_duration_s=1000.0) as lab:
        SpelledInTwoWays(lab, where)
        async with anyio.create_task_group() as tasks:

            async def cancel() -> None:
                await anyio.sleep(10.0)
                await lab.store.create(CANCEL_JSON, b"{}")

            tasks.start_soon(cancel)
            ending = await lab.run()
        assert (ending.state, ending.reason) == ("incomplete", "cancelled")
