"""Observers get events in their order, and neither their slowness nor their errors reach the run."""

from __future__ import annotations

import logging

import anyio
import pytest

from classify_batch.engine import event_queue as module
from classify_batch.engine.event_queue import EventQueue, LogObserver, event_of, events_of_limits
from classify_batch.events import (
    CreateAmbiguous,
    Event,
    FilesCommitted,
    JobFinished,
    JobSubmitted,
    LimitDiscovered,
    RateLimited,
    Warned,
)
from classify_batch.lifecycle import Adopted, Ended, Finished, Submitted, Submitting, Tally
from classify_batch.model import AttemptKey, Part
from classify_batch.vocabulary import Kind

pytestmark = pytest.mark.anyio

KEY = AttemptKey(7, 2)


class Kept:
    """Keeps what it is given, `delay_s` for each."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.events: list[Event] = []

    async def observe(self, event: Event) -> None:
        await anyio.sleep(self.delay_s)
        self.events.append(event)


class Failing:
    """Fails at its first event."""

    calls = 0

    async def observe(self, event: Event) -> None:
        self.calls += 1
        raise RuntimeError(f"can't take {event}")


def warned(count: int) -> list[Event]:
    return [Warned(str(number)) for number in range(count)]


async def tell_all(queue: EventQueue, events: list[Event]) -> float:
    """Tells all at once, with the queue's task beside; returns the seconds that it took."""
    began_s = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.deliver_until_cancelled)
        for event in events:
            queue.notify(event)
        took_s = anyio.current_time() - began_s
        await anyio.sleep(60)
        tasks.cancel_scope.cancel()
    return took_s


async def test_every_observer_gets_every_event_in_its_order() -> None:
    """And who tells them waits for none of it."""
    slow, quick = Kept(delay_s=1.0), Kept()
    assert await tell_all(EventQueue([slow, quick]), warned(20)) == 0.0
    assert slow.events == quick.events == warned(20)


async def test_an_observer_that_fails_is_called_no_more(caplog: pytest.LogCaptureFixture) -> None:
    """The others are, and its error is written down."""
    failing, kept = Failing(), Kept()
    await tell_all(EventQueue([failing, kept]), warned(3))
    assert (failing.calls, kept.events) == (1, warned(3))
    assert "an observer failed" in caplog.text
    assert "can't take Warned(message='0')" in caplog.text


async def test_an_observer_that_falls_back_too_far_misses_events(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """How many, is said at the end."""
    monkeypatch.setattr(module, "EVENTS_MAX", 5)
    kept = Kept()
    queue = EventQueue([kept])
    for event in warned(8):
        queue.notify(event)
    await queue.deliver_remaining()
    assert (kept.events, queue.dropped_events) == (warned(5), 3)
    assert "3 events were dropped" in caplog.text


async def test_a_slow_observer_keeps_no_other_one_waiting() -> None:
    """Warnings reach the log at once, whatever somebody else does with an event: also at the end."""
    hanging, kept = Kept(delay_s=1e9), Kept()
    queue = EventQueue([hanging, kept])
    await tell_all(queue, warned(3))
    assert kept.events == warned(3)
    queue.notify(Warned("last"))
    await queue.deliver_remaining()
    assert kept.events == [*warned(3), Warned("last")]


async def test_who_keeps_up_misses_nothing_that_another_one_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each observer has a queue of its own."""
    monkeypatch.setattr(module, "EVENTS_MAX", 5)
    hanging, kept = Kept(delay_s=1e9), Kept()
    queue = EventQueue([hanging, kept])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.deliver_until_cancelled)
        for event in warned(9):
            queue.notify(event)
            await anyio.sleep(0.1)
        tasks.cancel_scope.cancel()
    assert kept.events == warned(9)


async def test_the_end_waits_for_an_observer_only_so_long() -> None:
    """One that hangs doesn't keep the run from ending."""
    hanging = Kept(delay_s=1e9)
    queue = EventQueue([hanging])
    queue.notify(Warned("a"))
    began_s = anyio.current_time()
    await queue.deliver_remaining()
    assert anyio.current_time() - began_s == module.DRAIN_S


async def test_what_was_cut_off_is_handed_on_at_the_end() -> None:
    """The task that hands on is cancelled before the last events are handed on."""
    kept = Kept(delay_s=0.3)
    queue = EventQueue([kept])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.deliver_until_cancelled)
        for event in warned(3):
            queue.notify(event)
        await anyio.sleep(0.4)
        tasks.cancel_scope.cancel()
    await queue.deliver_remaining()
    assert kept.events == warned(3)


async def test_warnings_are_logged_and_nothing_else_is(caplog: pytest.LogCaptureFixture) -> None:
    """In the words of the warning."""
    queue = EventQueue([LogObserver()])
    queue.notify(Warned("100 % of it"))
    queue.notify(CreateAmbiguous(1, 1, "lost"))
    await queue.deliver_remaining()
    assert [(each.levelno, each.getMessage()) for each in caplog.records] == [(logging.WARNING, "100 % of it")]


def test_facts_of_the_journal_are_events() -> None:
    """An intent is none yet."""
    assert event_of(Submitting(KEY, Part(7), 1.0)) is None
    assert event_of(Submitted(KEY, "j", 1.0)) == JobSubmitted("j", 7, 2)
    assert event_of(Adopted(KEY, "j", 1.0)) == JobSubmitted("j", 7, 2, found=True)
    assert event_of(Finished(KEY, "SUCCESS", 3.0)) == JobFinished(7, 2, "SUCCESS", 3.0)
    ended = Ended(KEY, Kind.COLLECTED, tally=Tally({"classified": 4}))
    assert event_of(ended) == FilesCommitted(7, 2, {"classified": 4})


def test_what_429s_come_of_is_an_event() -> None:
    """A limit, noise, both; and their end. What didn't change is no news."""
    limited, both = {"requests_per_s": 30.0, "creates_per_s": 18.0}, {"creates_per_s": 18.0, "noise_share": 0.02}
    assert list(events_of_limits({}, limited)) == [
        LimitDiscovered("requests_per_s", 30.0),
        LimitDiscovered("creates_per_s", 18.0),
        RateLimited(18.0, None),
    ]
    assert list(events_of_limits(limited, both)) == [RateLimited(18.0, 0.02)]
    assert list(events_of_limits(both, {"noise_share": 0.02})) == [RateLimited(None, 0.02)]
    assert list(events_of_limits(both, {})) == [RateLimited(None, None)]
    assert list(events_of_limits(both, both)) == []
    assert list(events_of_limits({}, {"jobs_in_flight": 5})) == [LimitDiscovered("jobs_in_flight", 5)]
