"""The rate that is found, against servers that allow less than we were told: in virtual time, without a network."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random

import anyio
import pytest

from classify_batch.limits import Priority, RequestGate
from classify_batch.limits.rate import CUT, FLOOR_SHARE, Rate

pytestmark = pytest.mark.anyio


@dataclass
class Server:
    """Allows so many requests in any window (sliding), or from a bucket that fills evenly."""

    per_s: float
    window_s: float = 1.0
    bucket: bool = False
    allowed: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    recent: deque[float] = field(default_factory=deque)
    level: float = 0.0
    filled_s: float = 0.0

    def ask(self, now_s: float) -> bool:
        most = self.per_s * self.window_s
        if self.bucket:
            self.level = min(most, self.level + (now_s - self.filled_s) * self.per_s)
            self.filled_s = now_s
            allows = self.level >= 1
            self.level -= allows
        else:
            while self.recent and self.recent[0] <= now_s - self.window_s:
                self.recent.popleft()
            if allows := len(self.recent) < most:
                self.recent.append(now_s)
        (self.allowed if allows else self.refused).append(now_s)
        return allows

    def used(self, from_s: float, to_s: float) -> float:
        """The share of what it allows that was used."""
        return sum(from_s <= at < to_s for at in self.allowed) / (self.per_s * (to_s - from_s))

    def refused_share(self, from_s: float, to_s: float) -> float:
        refused = sum(from_s <= at < to_s for at in self.refused)
        return refused / (refused + sum(from_s <= at < to_s for at in self.allowed))


async def ask_for(server: Server, gate: RequestGate, until_s: float, latency_s: float = 0.05) -> None:
    """Keeps the gate busy: forty that ask again and again."""

    async def ask() -> None:
        while anyio.current_time() < until_s:
            async with gate.turn(Priority.CREATE) as left_s:
                await anyio.sleep(latency_s / 2)
                allowed = server.ask(anyio.current_time())
                await anyio.sleep(latency_s / 2)
            if allowed:
                gate.served()
            else:
                gate.too_fast(None, left_s)

    async with anyio.create_task_group() as tasks:
        for _ in range(40):
            tasks.start_soon(ask)


@pytest.mark.parametrize("bucket", [False, True])
@pytest.mark.parametrize("per_s", [2.0, 20.0, 200.0])
async def test_a_known_limit_is_used_and_never_passed(per_s: float, bucket: bool) -> None:
    """Told the truth, nearly all of it is used, without one refusal."""
    server = Server(per_s, bucket=bucket)
    server.level = per_s
    async with RequestGate(requests_in_flight=40, requests_per_s=per_s) as gate:
        await ask_for(server, gate, 60.0)
        assert gate.found_per_s is None
    assert not server.refused
    assert server.used(0, 60) >= 0.98


@pytest.mark.parametrize("bucket", [False, True])
@pytest.mark.parametrize("per_s", [2.0, 20.0, 200.0])
async def test_an_unknown_limit_is_found(per_s: float, bucket: bool) -> None:
    """Told ten times too much: within 30 s the rate is found, used well, and hardly ever passed."""
    server = Server(per_s, bucket=bucket)
    async with RequestGate(requests_in_flight=40, requests_per_s=10 * per_s) as gate:
        until_s = 330.0 if per_s < 100 else 90.0
        await ask_for(server, gate, until_s)
        assert gate.found_per_s == pytest.approx(per_s, rel=0.12)
    assert server.used(30, until_s) >= 0.92
    assert server.refused_share(30, until_s) < 0.02


async def test_a_limit_that_rises_is_found_too() -> None:
    """An hour later the API allows four times as much: it is used within minutes."""
    server = Server(5.0)
    async with RequestGate(requests_in_flight=40, requests_per_s=50.0) as gate:
        await ask_for(server, gate, 600.0)
        server.per_s = 20.0
        await ask_for(server, gate, 1200.0)
    assert server.used(900, 1200) >= 0.9


async def test_a_limit_by_the_minute_is_borne() -> None:
    """Where windows are long, the wait after a refusal grows until the window is over, and the rate comes down."""
    server = Server(20 / 60, window_s=60.0)
    async with RequestGate(requests_in_flight=16, requests_per_s=20.0) as gate:
        await ask_for(server, gate, 1800.0)
    assert server.used(600, 1800) >= 0.7
    assert server.refused_share(600, 1800) < 0.1


async def test_refusals_without_a_limit_are_no_halt() -> None:
    """A server that refuses one request of fifty, at any rate: slower, and never slower than it must be by far."""
    random = Random(1)
    served: list[float] = []
    async with RequestGate(requests_in_flight=16, requests_per_s=1000.0) as gate:

        async def ask() -> None:
            while anyio.current_time() < 300:
                async with gate.turn(Priority.LOOK) as left_s:
                    await anyio.sleep(0.05)
                if random.random() < 0.02:
                    gate.too_fast(None, left_s)
                else:
                    gate.served()
                    served.append(anyio.current_time())
                await anyio.sleep(0.1)

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(ask)
    assert len(served) / 300 > 8


async def test_no_traffic_teaches_nothing() -> None:
    """Requests that don't wait for the rate are no proof that more is allowed."""
    pace = Rate(100.0)
    pace.passed(0.0, limited=True)
    assert pace.too_fast(1.0, 1.0)
    found = pace.found_per_s
    for second in range(1000):
        pace.passed(2.0 + second, limited=False)
        pace.accepted(2.0 + second)
    assert pace.found_per_s == found


async def test_one_refusal_counts_once() -> None:
    """Refusals to requests that left before the cut say nothing new."""
    pace = Rate(100.0)
    pace.passed(0.0, limited=True)
    for number in range(100):
        pace.accepted(0.2 + number / 100)
    assert pace.too_fast(1.0, 1.1)
    once = pace.per_s
    assert not pace.too_fast(1.05, 1.2)
    assert pace.per_s == once == pytest.approx(100 * CUT, rel=0.1)


async def test_the_rate_has_a_floor() -> None:
    """However often the API refuses, something is asked."""
    for told in (100.0, 0.3):
        pace = Rate(told)
        for second in range(100):
            pace.passed(second, limited=False)
            pace.too_fast(second + 0.1, second + 0.2)
        assert pace.per_s == FLOOR_SHARE * told


async def test_a_found_rate_is_remembered() -> None:
    """A later process begins with it, within what it is told itself."""
    for told, found, begins in ((100.0, 20.0, 20.0), (10.0, 20.0, 10.0), (100.0, 0.0, 1.0)):
        pace = Rate(told)
        pace.remember(found)
        assert pace.per_s == begins
        for second in range(200):
            pace.passed(second, limited=True)
        assert pace.per_s > begins or begins == told


def test_another_rate_is_told() -> None:
    """Up or down at once; what was found to be allowed holds where it is less, and can be climbed from."""
    pace = Rate(10.0)
    pace.tell(40.0)
    assert (pace.per_s, pace.found_per_s) == (40.0, None)
    pace.remember(5.0)
    pace.tell(100.0)
    assert (pace.per_s, pace.found_per_s) == (5.0, 5.0)
    pace.tell(3.0)
    assert (pace.per_s, pace.found_per_s) == (3.0, None)
