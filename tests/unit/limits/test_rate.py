"""The rate that is found, against servers that allow less than we were given: in virtual time, without a network."""

from __future__ import annotations

from random import Random

import anyio
import pytest

from classify_batch.limits import Priority, RequestGate
from classify_batch.limits.rate import Rate
from classify_batch.limits.rate_constants import FLOOR_SHARE
from tests.support.rate_limited_server import Server, SlidingWindow, TokenBucket, keep_busy

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("burst_s", [None, 1.0])
@pytest.mark.parametrize("per_s", [2.0, 20.0, 200.0])
async def test_a_known_limit_is_used_and_never_passed(per_s: float, burst_s: float | None) -> None:
    """Given the truth, nearly all of it is used, without one refusal."""
    server = Server(SlidingWindow(per_s) if burst_s is None else TokenBucket(per_s, burst_s))
    until_s = max(15.0, 120 / per_s)
    async with RequestGate(requests_in_flight=100, requests_per_s=per_s) as gate:
        await keep_busy(gate, server, until_s)
        assert gate.discovered_per_s is None
    assert server.own_share(0, until_s) == 0
    assert server.used(0, until_s, per_s) >= 0.98


@pytest.mark.parametrize("burst_s", [None, 1.0])
@pytest.mark.parametrize("per_s", [2.0])
async def test_an_unknown_limit_is_found(per_s: float, burst_s: float | None) -> None:
    """Given ten times too much: within 30 s (or 150 requests) the rate is found, used well, and hardly ever passed."""
    server = Server(SlidingWindow(per_s) if burst_s is None else TokenBucket(per_s, burst_s))
    from_s, until_s = max(30.0, 150 / per_s), max(130.0, 1500 / per_s)
    async with RequestGate(requests_in_flight=100, requests_per_s=10 * per_s) as gate:
        await keep_busy(gate, server, until_s)
        assert gate.discovered_per_s == pytest.approx(per_s, rel=0.12)
        assert gate.noise_share is None or gate.noise_share < 0.01
    assert server.used(from_s, until_s, 10 * per_s) >= 0.93
    assert server.own_share(from_s, until_s) <= (0.01 if burst_s is None else 0.02)


async def test_a_limit_that_rises_is_found_too() -> None:
    """An hour later the API allows four times as much: it is used two minutes later."""
    limit = SlidingWindow(20.0, share=lambda now_s: 0.25 if now_s < 300 else 1.0)
    server = Server(limit)
    async with RequestGate(requests_in_flight=40, requests_per_s=50.0) as gate:
        await keep_busy(gate, server, 460.0)
    assert server.used(420, 460, 50.0) >= 0.93


async def test_a_limit_by_the_minute_is_borne() -> None:
    """Where windows are long, the wait after refusals grows until the window is over, and the rate comes down."""
    server = Server(SlidingWindow(20 / 60, window_s=60.0))
    async with RequestGate(requests_in_flight=16, requests_per_s=20.0, random=Random(1)) as gate:
        await keep_busy(gate, server, 1800.0)
    assert server.used(600, 1800, 20.0) >= 0.7
    assert server.own_share(600, 1800) < 0.1


async def test_noise_slows_nobody_who_is_slower_than_the_rate() -> None:
    """A server that refuses one request of fifty, at any rate, and five that ask as fast as they get answers."""
    random = Random(1)
    record_answered: list[float] = []
    async with RequestGate(requests_in_flight=16, requests_per_s=1000.0) as gate:

        async def ask() -> None:
            while anyio.current_time() < 100:
                async with gate.turn(Priority.POLL) as passage:
                    sent_s = await passage.wait_and_mark_sent()
                    await anyio.sleep(0.05)
                if random.random() < 0.02:
                    gate.record_rate_limited(None, sent_s)
                else:
                    gate.record_answered(Priority.POLL, sent_s)
                    record_answered.append(anyio.current_time())
                await anyio.sleep(0.1)

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(ask)
        assert gate.discovered_per_s is None
    assert len(record_answered) / 100 > 0.92 * 5 / 0.15


def test_no_traffic_teaches_nothing() -> None:
    """Requests that don't wait for the rate are no proof that more is allowed."""
    rate = Rate(100.0)
    rate.restore(20.0)
    for second in range(1000):
        rate.record_passed(2.0 + second, waited=False)
        rate.record_accepted(2.0 + second, 2.1 + second)
    assert (rate.per_s, rate.discovered_per_s) == (20.0, 20.0)


def test_answers_count_for_the_rate_at_which_their_requests_left() -> None:
    """What left before the rate was lowered says nothing about the lower one."""
    rate = Rate(100.0)
    number = 0
    while rate.per_s == 100.0:
        number += 1
        rate.record_refused(number / 100, number / 100) if number % 3 == 0 else rate.record_accepted(
            number / 100, number / 100
        )
    slower_per_s, now_s = rate.per_s, number / 100
    assert slower_per_s < 75
    for _ in range(1000):
        rate.record_refused(now_s - 0.01, now_s + 0.1)
    assert rate.per_s == slower_per_s


def test_the_rate_has_a_floor() -> None:
    """However often the API refuses, something is asked."""
    for given_per_s in (100.0, 0.3):
        rate = Rate(given_per_s)
        for second in range(1000):
            rate.record_passed(second, waited=False)
            rate.record_refused(second, second + 0.2)
        assert rate.per_s == FLOOR_SHARE * given_per_s


def test_a_discovered_rate_is_restored() -> None:
    """A later process begins with it, within what it is given itself, and tries more within a minute."""
    for given_per_s, discovered_per_s, begins_per_s in ((100.0, 20.0, 20.0), (10.0, 20.0, 10.0), (100.0, 0.0, 1.0)):
        rate = Rate(given_per_s)
        rate.restore(discovered_per_s)
        assert rate.per_s == begins_per_s
        now_s = 0.0
        while now_s < 60:
            rate.record_passed(now_s, waited=True)
            rate.record_accepted(now_s, now_s)
            now_s += rate.interval_s
        assert rate.per_s > begins_per_s or begins_per_s == given_per_s


def test_a_changed_rate_holds_at_once() -> None:
    """Up or down at once; what was shown to be allowed holds where it is less, and can be climbed from."""
    rate = Rate(10.0)
    rate.set_limit(40.0, 0.0)
    assert (rate.per_s, rate.discovered_per_s) == (40.0, None)
    rate.restore(5.0)
    rate.set_limit(100.0, 0.0)
    assert (rate.per_s, rate.discovered_per_s) == (5.0, 5.0)
    rate.set_limit(3.0, 0.0)
    assert (rate.per_s, rate.discovered_per_s) == (3.0, None)
