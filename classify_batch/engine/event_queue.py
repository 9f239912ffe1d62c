"""Hands events to observers, each in a task of its own behind a bounded queue."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import anyio

from classify_batch.events import (
    Event,
    FilesCommitted,
    JobFinished,
    JobSubmitted,
    LimitDiscovered,
    RateLimited,
    Warned,
)
from classify_batch.lifecycle import Adopted, Ended, Fact, Finished, Submitted
from classify_batch.ports import Observer
from classify_batch.streams.cancellation import CallerExit, carrying_exits, refusing_stray_cancellation
from classify_batch.vocabulary import NOISE_SHARE

EVENTS_MAX = 10_000
"""An observer that falls back further misses events: commits never wait for it."""

TOGETHER_S = 0.05
"""For so long an event may wait for the next ones: to wake an observer's task for each takes longer than to tell it."""

DRAIN_S = 1.0
"""How long the end of a run waits for observers. A run that is asked to stop has to end within 4 s."""

log = logging.getLogger("classify_batch")


class EventQueue:
    """`notify` never waits, and no observer waits for another."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._deliveries = [_Delivery(observer) for observer in observers]

    def notify(self, event: Event) -> None:
        for delivery in self._deliveries:
            delivery.add_event(event)

    @property
    def dropped_events(self) -> int:
        """How many events observers missed, because they were too slow."""
        return sum(delivery.dropped for delivery in self._deliveries)

    async def deliver_until_cancelled(self) -> None:
        """Delivers events until it is cancelled."""
        async with anyio.create_task_group() as tasks:
            for delivery in self._deliveries:
                tasks.start_soon(delivery.deliver_until_cancelled)

    async def deliver_remaining(self) -> None:
        """Delivers what still waits, for at most `DRAIN_S`. After `work` was cancelled."""
        with anyio.move_on_after(DRAIN_S, shield=True):
            async with anyio.create_task_group() as tasks:
                for delivery in self._deliveries:
                    tasks.start_soon(delivery.deliver_waiting)
        if self.dropped_events:
            log.warning("%d events were dropped: an observer was too slow", self.dropped_events)


class _Delivery:
    """What waits for one observer."""

    def __init__(self, observer: Observer) -> None:
        self._observer: Observer | None = observer
        self._waiting: deque[Event] = deque()
        self._changed = anyio.Event()
        self.dropped = 0

    def add_event(self, event: Event) -> None:
        if self._observer is None:
            return
        if len(self._waiting) >= EVENTS_MAX:
            self.dropped += 1
            return
        self._waiting.append(event)
        self._changed.set()

    async def deliver_until_cancelled(self) -> None:
        while self._observer is not None:
            await self.deliver_waiting()
            self._changed = anyio.Event()
            await self._changed.wait()
            await anyio.sleep(TOGETHER_S)

    async def deliver_waiting(self) -> None:
        """An observer that fails is done without: a run doesn't end for it."""
        while self._observer is not None and self._waiting:
            try:
                with carrying_exits(), refusing_stray_cancellation("an observer"):
                    await self._observer.observe(self._waiting[0])
            except Exception:
                self._observer = None
                log.exception("an observer failed, and is not called any more")
            except CallerExit:
                self._observer = None  # the end of the run must not call it again
                raise
            else:
                # Only now: if it was cancelled meanwhile, `deliver_remaining` delivers the event again.
                self._waiting.popleft()


def event_of(fact: Fact) -> Event | None:
    """What a fact of the journal is to an observer; None for an intent, which has no outcome yet."""
    chunk, attempt = fact.key
    match fact:
        case Submitted():
            return JobSubmitted(fact.job_id, chunk, attempt)
        case Adopted():
            return JobSubmitted(fact.job_id, chunk, attempt, found=True)
        case Finished():
            return JobFinished(chunk, attempt, fact.status, fact.duration_s)
        case Ended():
            return FilesCommitted(chunk, attempt, dict(fact.tally.outcomes))
        case _:
            return None


def events_of_limits(before: Mapping[str, float], now: Mapping[str, float]) -> Iterator[Event]:
    """What is new of the limits that were found, in the journal's words (see rundir.journal.totals)."""
    for name, value in now.items():
        if name != NOISE_SHARE and value != before.get(name):
            yield LimitDiscovered(name, value)
    cause_before, cause = (
        RateLimited(
            min((found[name] for name in ("requests_per_s", "creates_per_s") if name in found), default=None),
            found.get(NOISE_SHARE),
        )
        for found in (before, now)
    )
    if cause != cause_before:
        yield cause


class LogObserver:
    """Writes warnings to the log `classify_batch`."""

    async def observe(self, event: Event) -> None:
        if isinstance(event, Warned):
            log.warning("%s", event.message)
