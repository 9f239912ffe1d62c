"""Requests to a sandbox in this process, in virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx
import pytest
from trio.testing import MockClock

from classify_batch.sandbox import Options, open_sandbox
from classify_batch.sandbox.server import serve
from tests.support.loop_clock import LoopClock

HELD_UP_S = 60
AT_ONCE_S = 20.0
"""A server that stops waits for no request that hangs. These seconds tell that on any machine, where one that did wait
would take a minute."""

RULES = [
    {"type": "invoice", "description": "has line items and a total"},
    {"type": "letter", "description": "has a salutation and a signature"},
]


def hold_up_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds up the end of a server that is embedded from now on does so for `HELD_UP_S`, instead of 3 s."""
    monkeypatch.setattr(serve, "_IN_FLIGHT_S", HELD_UP_S)


def run_script(
    script: Callable[[httpx.AsyncClient], Awaitable[Any]],
    key: str = "sandbox",
    *,
    real_time: bool = False,
    **options: Any,
) -> Any:
    """What a script returns that is given a client of a sandbox with these options."""

    async def main() -> Any:
        clock = LoopClock()
        with open_sandbox(Options(**{"seed": 1, **options}), clock.wall_s) as app:
            headers = {"Authorization": f"Bearer {key}"}
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
                return await script(client)

    if real_time:
        return anyio.run(main)
    return anyio.run(main, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


async def stats_of(client: httpx.AsyncClient) -> Any:
    return (await client.get("/sandbox/stats")).json()


def where_of(response: httpx.Response) -> list[list[Any]]:
    """Where a 422 says the faults are, once its shape is as documented."""
    assert response.status_code == 422
    detail = response.json()["detail"]
    assert all(set(fault) == {"loc", "msg", "type"} for fault in detail)
    return [fault["loc"] for fault in detail]
