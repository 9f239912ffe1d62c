"""Creates that are accepted long after they arrived: in process, over a wire, and after their client's death."""

import asyncio
import subprocess
import sys
import time
from typing import Any

import anyio
import httpx
import pytest
from trio.testing import MockClock

from classify_batch.clock import from_iso
from classify_batch.sandbox import Faults, Options, open_sandbox, serve_in_loop
from tests.support import sandbox_client_v2 as v2
from tests.support.sandbox_client import AT_ONCE_S, RULES, hold_up_stops, stats_of
from tests.support.simulated_run import laboratory

START_S = 1_700_000_000
SLOW = Faults(create_slow=1, accept_after_s=50)
V1_BODY = {"file_ids": ["a", "b"], "rules": RULES}
BODIES = {v2.V1_JOBS: V1_BODY, v2.JOBS: v2.create_body("a")}
HEADERS = {"Authorization": "Bearer sandbox"}

CREATE_FOREVER = f"""
import httpx, sys
httpx.post(sys.argv[1] + {v2.V1_JOBS!r}, json={V1_BODY!r}, headers={HEADERS!r}, timeout=None)
"""


@pytest.mark.parametrize("path", [v2.V1_JOBS, v2.JOBS])
def test_a_slow_create_is_accepted_later_and_then_answered(path: str) -> None:
    """Until then there is no job; `created_at` is when it was accepted, and its life begins then."""

    async def script(client: httpx.AsyncClient) -> Any:
        seen = []

        async def look() -> None:
            await anyio.sleep(49)
            seen.extend([await stats_of(client), (await client.get(path)).json()["total_size"]])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            job = (await client.post(path, json=BODIES[path])).json()
        await anyio.sleep(9)
        early = (await client.get(f"{path}/{job['id']}")).json()["status"]
        await anyio.sleep(1)
        return *seen, job, early, (await client.get(f"{path}/{job['id']}")).json()["status"], await stats_of(client)

    before, listed, job, early, late, after = v2.run_script(script, faults=SLOW)
    assert (before["creates_accepted"], before["creates_waiting"], listed) == (0, 1, 0)
    assert (after["creates_accepted"], after["creates_waiting"]) == (1, 0)
    assert from_iso(job["created_at"]) == pytest.approx(START_S + 50)
    assert (early in {"PENDING", "RUNNING"}, late in {"SUCCESS", "COMPLETED"}) == (True, True)


def test_a_slow_create_can_be_refused_after_its_wait() -> None:
    """What it is refused for is looked at when it would be accepted; a body that is too large at once."""

    async def script(client: httpx.AsyncClient) -> Any:
        started_s = anyio.current_time()
        refused = await client.post(v2.V1_JOBS, json={"file_ids": ["x"], "rules": RULES})
        return refused.status_code, anyio.current_time() - started_s, await stats_of(client)

    status, took_s, stats = v2.run_script(script, faults=SLOW.model_copy(update={"foreign": frozenset("x")}))
    assert (status, took_s) == (400, pytest.approx(50))
    assert (stats["creates_accepted"], stats["creates_waiting"]) == (0, 0)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_slow_create_can_meet_another_fault(moment: str) -> None:
    """What happens before the work leaves no job and takes no time, what happens after it hides one."""

    async def script(client: httpx.AsyncClient) -> Any:
        status = (await client.post(v2.V1_JOBS, json=V1_BODY)).status_code
        return status, (await stats_of(client))["creates_accepted"], anyio.current_time()

    faults = Faults.from_values({"create_slow": 1, "accept_after_s": 50, f"create.{moment}.502": 1}, "here")
    status, accepted, took_s = v2.run_script(script, faults=faults)
    assert (status, accepted) == (502, 1 if moment == "after" else 0)
    assert took_s == pytest.approx(50 if moment == "after" else 0)


def test_slow_creates_come_with_their_probability() -> None:
    """As many as set; a read never is."""

    async def script(client: httpx.AsyncClient) -> Any:
        took_s = []
        for _ in range(100):
            started_s = anyio.current_time()
            await client.post(v2.V1_JOBS, json=V1_BODY)
            await client.get(v2.V1_JOBS)
            took_s.append(round(anyio.current_time() - started_s))
        return took_s

    took_s = v2.run_script(script, faults=Faults(create_slow=0.5))
    assert set(took_s) == {0, 10}
    assert 30 < took_s.count(10) < 70


@pytest.mark.parametrize("path", [v2.V1_JOBS, v2.JOBS])
def test_a_caller_that_is_cancelled_does_not_undo_a_slow_create(path: str) -> None:
    """Called in process without a wire, the application finishes what has arrived."""

    async def script(client: httpx.AsyncClient) -> Any:
        with anyio.move_on_after(10):
            await client.post(path, json=BODIES[path])
        return anyio.current_time(), await stats_of(client)

    at_s, stats = v2.run_script(script, faults=SLOW)
    assert (at_s, stats["creates_accepted"], stats["creates_waiting"]) == (pytest.approx(50), 1, 0)


# --- Clients that are gone --------------------------------------------------------------------------------------------


def in_virtual_time(script: Any) -> Any:
    return anyio.run(script, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_process_that_dies_leaves_its_create_behind(version: str) -> None:
    """In virtual time the next process doesn't wait for it, and it is accepted when its time has come."""

    async def script() -> Any:
        with laboratory(5, version=version, faults={"create_slow": 1, "accept_after_s": 50}) as lab:
            await lab.run_until_power_cut(10)
            found = [anyio.current_time(), lab.accepted(), lab.app.creates_waiting]
            await anyio.sleep(39)
            found.append(lab.accepted())
            await anyio.sleep(2)
            jobs = list(lab.app.job_table)
            return found, {round(job.created_at_s) - START_S for job in jobs}, len(jobs)

    count = 1 if version == "v1" else 5
    assert in_virtual_time(script) == ([10, 0, count, 0], {50}, count)


def test_a_client_that_gives_up_leaves_its_create_behind() -> None:
    """In virtual time a client that is out of patience hangs up, and its create is accepted all the same."""

    async def script() -> Any:
        with laboratory(5, faults={"create_slow": 1, "accept_after_s": 100}) as lab:
            await lab.run_until_power_cut(99)
            accepted = lab.accepted()
            await anyio.sleep(2)
            posted_s = next(at_s for at_s, method, _ in lab.wire.requests if method == "POST")
            reads = [round(at_s) for at_s, method, _ in lab.wire.requests if method == "GET" and at_s > posted_s]
            return reads[0], lab.settings.api.timeout_s, accepted, lab.accepted()

    looked_s, timeout_s, before, after = in_virtual_time(script)
    assert looked_s == timeout_s
    assert (before, after) == (0, 1)


def test_a_client_that_was_killed_leaves_its_create_behind() -> None:
    """Over HTTP: the client's process is killed while the server waits, and then the job is made."""

    async def main() -> Any:
        faults = Faults(create_slow=1, accept_after_s=2)
        async with asyncio.timeout(120):
            with open_sandbox(Options(seed=1, faults=faults)) as app:
                async with serve_in_loop(app) as base_url:
                    with subprocess.Popen([sys.executable, "-c", CREATE_FOREVER, base_url]) as process:
                        while not app.creates_waiting:
                            await anyio.sleep(0)
                        arrived_s = time.time()
                        process.kill()
                        process.wait()
                    before = len(list(app.job_table))
                    while app.creates_waiting:
                        await anyio.sleep(0)
                    return before, arrived_s, list(app.job_table)

    before, arrived_s, jobs = asyncio.run(main())
    assert (before, [job.file_ids for job in jobs]) == (0, [("a", "b")])
    assert jobs[0].created_at_s - arrived_s > 0.4  # it arrived earlier than that was seen


def test_the_server_stops_though_a_create_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """It isn't held up: the create is accepted at once, and answered to a client that is still there."""
    hold_up_stops(monkeypatch)

    async def main() -> Any:
        faults = Faults(create_slow=1, accept_after_s=3600)
        client = httpx.AsyncClient(headers=HEADERS, timeout=60)
        async with asyncio.timeout(120), client, asyncio.TaskGroup() as tasks:
            with open_sandbox(Options(seed=1, faults=faults)) as app:
                async with serve_in_loop(app) as base_url:
                    asked = tasks.create_task(client.post(base_url + v2.V1_JOBS, json=V1_BODY))
                    gone = tasks.create_task(client.post(base_url + v2.JOBS, json=v2.create_body("gone")))
                    while app.creates_waiting < 2:
                        await anyio.sleep(0)
                    gone.cancel()
                    stopping_s = time.monotonic()
                took_s = time.monotonic() - stopping_s
                return (await asked).status_code, sorted(len(job.file_ids) for job in app.job_table), took_s

    status, files, took_s = asyncio.run(main())
    assert (status, files) == (200, [1, 2])
    assert took_s < AT_ONCE_S
