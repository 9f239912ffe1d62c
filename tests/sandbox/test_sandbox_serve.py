"""The server on a real socket, embedded in a loop."""

import asyncio
import signal
import socket
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from classify_batch.errors import UsageError
from classify_batch.sandbox import Faults, Options, open_sandbox, read_billed, serve_in_loop
from classify_batch.sandbox.server.request_checks import BODY_BYTES_MAX
from tests.support.sandbox_client import AT_ONCE_S, hold_up_stops

JOBS = "/api/v1/classifier/jobs"
HEADERS = {"Authorization": "Bearer sandbox"}
BODY = {"file_ids": ["a", "b"], "rules": [{"type": "letter", "description": "has a salutation"}]}


def client_of(base_url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=base_url, headers=HEADERS)


def test_a_lost_answer_closes_the_connection_after_accepting() -> None:
    """The client sees a connection closed without a word, although the job is in the list; the next call works."""

    async def main() -> Any:
        with open_sandbox(Options(faults=Faults(lost_create_answer=1))) as app:
            async with serve_in_loop(app) as base_url, client_of(base_url) as client:
                with pytest.raises(httpx.RemoteProtocolError):
                    await client.post(JOBS, json=BODY)
                return (await client.get(JOBS)).json()["total_size"], app.request_stats()["requests"]

    assert asyncio.run(main()) == (1, {"create": {"no answer": 1}, "list": {"200": 1}})


def test_answers_carry_the_date() -> None:
    """A `Date` header lets clients measure how far the clocks are apart."""

    async def main() -> httpx.Response:
        with open_sandbox(Options()) as app:
            async with serve_in_loop(app) as base_url, client_of(base_url) as client:
                return await client.get(JOBS)

    assert "GMT" in asyncio.run(main()).headers["date"]


def test_answers_do_not_wait_for_acknowledgements() -> None:
    """Over one connection, a request takes well under the 40 ms that Nagle's algorithm would cost each."""

    async def main() -> list[float]:
        with open_sandbox(Options()) as app:
            async with serve_in_loop(app) as base_url, client_of(base_url) as client:
                moments_s = []
                for _ in range(51):
                    await client.get(JOBS)
                    moments_s.append(time.monotonic())
                return [later - earlier for earlier, later in pairwise(moments_s)]

    # Other work makes some slow, and Nagle's algorithm would make all slow but the first, which TCP acknowledges soon.
    assert min(asyncio.run(main())[25:]) < 0.035


def test_a_body_too_large_is_413() -> None:
    """More than the limit is refused without being parsed, and the next call works."""

    async def main() -> Any:
        with open_sandbox(Options()) as app:
            async with serve_in_loop(app) as base_url, client_of(base_url) as client:
                refused = await client.post(JOBS, content=b" " * (BODY_BYTES_MAX + 1))
                return refused.status_code, list(refused.json()), (await client.get(JOBS)).status_code

    assert asyncio.run(main()) == (413, ["detail"], 200)


def test_the_server_stops_at_once_with_connections_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle keep-alive connection doesn't hold the end up, and nothing listens afterwards."""
    hold_up_stops(monkeypatch)

    async def main() -> tuple[float, int]:
        with open_sandbox(Options()) as app:
            async with serve_in_loop(app) as base_url:
                client = client_of(base_url)
                await client.get(JOBS)
                silent = socket.create_connection(("127.0.0.1", httpx.URL(base_url).port or 0))
                started_s = time.monotonic()
            took_s = time.monotonic() - started_s
            silent.close()
            await client.aclose()
            with socket.socket() as probe:
                return took_s, probe.connect_ex(("127.0.0.1", httpx.URL(base_url).port))

    took_s, refused = asyncio.run(main())
    assert took_s < AT_ONCE_S
    assert refused != 0


def test_signal_handlers_of_the_host_are_untouched() -> None:
    """Serving inside a run touches no signal handler."""

    async def main() -> Any:
        with open_sandbox(Options()) as app:
            async with serve_in_loop(app):
                return [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]

    async def bare() -> Any:
        return [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]

    assert [type(each) for each in asyncio.run(main())] == [type(each) for each in asyncio.run(bare())]
    assert asyncio.run(main())[1] == signal.getsignal(signal.SIGTERM)


def test_an_exception_of_the_host_is_not_wrapped() -> None:
    """An exception in the block is not wrapped, and the server has stopped."""

    async def main() -> None:
        with open_sandbox(Options()) as app:
            async with serve_in_loop(app):
                raise KeyError("the host's")

    with pytest.raises(KeyError, match="the host's"):
        asyncio.run(main())


def test_a_cancelled_host_leaves_no_socket_open() -> None:
    """When the host is cancelled, the server ends before the cancellation goes on."""

    async def main() -> int:
        port = 0

        async def host() -> None:
            nonlocal port
            with open_sandbox(Options()) as app:
                async with serve_in_loop(app) as base_url:
                    port = httpx.URL(base_url).port or 0
                    ready.set()
                    await asyncio.Event().wait()

        ready = asyncio.Event()
        task = asyncio.create_task(host())
        await ready.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port))

    assert asyncio.run(main()) != 0


def test_a_port_in_use_is_refused() -> None:
    """A port that another holds is a UsageError with a hint."""

    async def main() -> None:
        with open_sandbox(Options()) as app, socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            async with serve_in_loop(app, other.getsockname()[1]):
                pass

    with pytest.raises(UsageError, match="can't be had") as caught:
        asyncio.run(main())
    assert "another port" in caught.value.hint


def test_jobs_survive_a_restart_in_the_ledger(tmp_path: Path) -> None:
    """A sandbox opened again on the same ledger knows its jobs, their ends and answers; numbers go on."""
    options = Options(ledger=tmp_path / "jobs.jsonl", job_duration_s=0, faults=Faults(null_result=0.5, seed=3))

    async def first() -> Any:
        with open_sandbox(options) as app:
            async with serve_in_loop(app) as base_url, client_of(base_url) as client:
                job = (await client.post(JOBS, json=BODY)).json()
                return job["id"], (await client.get(f"{JOBS}/{job['id']}/results")).json()

    async def second(job_id: str) -> Any:
        with open_sandbox(options) as app:
            async with serve_in_loop(app) as base_url, client_of(base_url) as client:
                results = (await client.get(f"{JOBS}/{job_id}/results")).json()
                await client.post(JOBS, json=BODY)
                return results, [job.number for job in app.job_table]

    job_id, results = asyncio.run(first())
    assert asyncio.run(second(job_id)) == (results, [1, 2])
    assert set(read_billed(options.ledger or "")) <= {"a", "b"}
