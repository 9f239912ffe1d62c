"""Spans of 429s, outages and waits: what is reported of them, and when. In virtual time."""

from __future__ import annotations

import anyio
import pytest

from classify_batch.engine.event_queue import EventQueue
from classify_batch.engine.gate_spans import COOL_DOWN_S_MIN, QUIET_S, GateSpans
from classify_batch.events import (
    Event,
    OutageBegan,
    OutageEnded,
    ThrottlingBegan,
    ThrottlingEnded,
    WaitBegan,
    WaitEnded,
)
from classify_batch.limits import RequestGate
from classify_batch.limits.credit_budget import CreditBudget
from classify_batch.limits.request_gate import BREAK_AFTER

pytestmark = pytest.mark.anyio


class Heard(EventQueue):
    """Keeps what is reported to it."""

    def __init__(self) -> None:
        super().__init__([])
        self.events: list[Event] = []

    def notify(self, event: Event) -> None:
        self.events.append(event)


class Spans:
    """A gate, a budget, and what was reported of them."""

    def __init__(self) -> None:
        self.gate = RequestGate(requests_in_flight=10, requests_per_s=10.0)
        self.budget = CreditBudget(10.0)
        self.heard = Heard()
        self.spans = GateSpans(self.gate, self.budget, self.heard)

    async def pass_time(self, seconds: float) -> None:
        """Looks twice a second."""
        for _ in range(int(2 * seconds)):
            await anyio.sleep(0.5)
            self.spans.report_changes()

    def take(self) -> list[Event]:
        """What was reported since the last time."""
        told, self.heard.events = self.heard.events, []
        return told


@pytest.fixture
async def spans() -> Spans:
    return Spans()


def limit_rate(gate: RequestGate, retry_after_s: float | None = None) -> None:
    gate.record_rate_limited(retry_after_s, anyio.current_time())


async def test_429s_that_follow_each_other_are_one_span(spans: Spans) -> None:
    """It begins with the first, ends with the last, and has the number of all; a pause of ten seconds ends it."""
    await spans.pass_time(5)
    assert spans.take() == []
    limit_rate(spans.gate)
    await spans.pass_time(QUIET_S - 1)
    limit_rate(spans.gate)
    limit_rate(spans.gate)
    await spans.pass_time(QUIET_S - 1)
    assert spans.take() == [ThrottlingBegan()]
    await spans.pass_time(2)
    assert spans.take() == [ThrottlingEnded(QUIET_S - 1, 3)]
    limit_rate(spans.gate)
    await spans.pass_time(QUIET_S + 1)
    assert spans.take() == [ThrottlingBegan(), ThrottlingEnded(0.0, 1)]


async def test_an_outage_began_with_its_first_failure(spans: Spans) -> None:
    """It is reported when the breaker opens, counted from the first failure, and over with the first answer."""
    spans.gate.record_failure()
    await spans.pass_time(3)
    for _ in range(BREAK_AFTER - 1):
        assert spans.take() == [], "single failures are no outage"
        spans.gate.record_failure()
    await spans.pass_time(0.5)
    assert spans.take() == [OutageBegan(3.5)]
    await spans.pass_time(20)
    spans.gate.record_answered()
    await spans.pass_time(1)
    assert spans.take() == [OutageEnded(24.0)]


async def test_a_cool_down_is_a_wait_and_an_outage_is_none(spans: Spans) -> None:
    """What the API asks for, if it is longer than a second; the waits of a broken API belong to its outage."""
    limit_rate(spans.gate, COOL_DOWN_S_MIN / 2)
    await spans.pass_time(QUIET_S + 2)
    spans.take()
    spans.gate.obey_retry_after(30.0)
    await spans.pass_time(29)
    assert spans.take() == [WaitBegan("cool_down")]
    await spans.pass_time(5)
    assert spans.take() == [WaitEnded("cool_down", 29.5)]
    for _ in range(BREAK_AFTER + 3):
        spans.gate.record_failure()
        await anyio.sleep(31)
    spans.gate.record_failure()
    await spans.pass_time(5)
    assert [type(event) for event in spans.take()] == [OutageBegan]


async def test_a_pause_and_missing_credits_are_waits(spans: Spans) -> None:
    """Both at once, each with its own beginning and end."""
    spans.gate.pause(True)
    await spans.pass_time(2)
    assert await spans.budget.reserve_when_free(8.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(spans.budget.reserve_when_free, 8.0)
        await spans.pass_time(3)
        assert spans.take() == [WaitBegan("paused"), WaitBegan("credits")]
        spans.gate.pause(False)
        await spans.pass_time(1)
        spans.budget.release_unspent(-8.0)
    await spans.pass_time(1)
    assert spans.take() == [WaitEnded("paused", 5.0), WaitEnded("credits", 4.0)]
