"""Hands events to observers, in a task of its own behind a bounded queue."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence

import anyio

from classify_batch.events import Event, FilesCommitted, JobFinished, JobSubmitted, Warned
from classify_batch.lifecycle import Adopted, Ended, Fact, Finished, Submitted
from classify_batch.ports import Observer

EVENTS_MAX = 10_000
"""An observer that falls back further misses events: commits never wait for it."""

DRAIN_S = 2.0
"""How long the end of a run waits for observers."""

log = logging.getLogger("classify_batch")


class EventQueue:
    """`notify` never waits.

    Attributes:
        dropped: how many events the observers missed, because they were too slow.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = list(observers)
        self._waiting: deque[tuple[Event, list[Observer]]] = deque()
        self._changed = anyio.Event()
        self.dropped = 0

    def notify(self, event: Event) -> None:
        if len(self._waiting) >= EVENTS_MAX:
            self.dropped += 1
            return
        self._waiting.append((event, list(self._observers)))
        self._changed.set()

    async def work(self) -> None:
        """Hands events on until it is cancelled."""
        while True:
            await self._deliver_waiting()
            self._changed = anyio.Event()
            await self._changed.wait()

    async def drain(self) -> None:
        """Hands on what still waits, for at most `DRAIN_S`. After `work` was cancelled."""
        with anyio.move_on_after(DRAIN_S, shield=True):
            await self._deliver_waiting()
        if self.dropped:
            log.warning("%d events were dropped: an observer was too slow", self.dropped)

    async def _deliver_waiting(self) -> None:
        while self._waiting:
            event, observers = self._waiting[0]
            while observers:
                await self._deliver_to(observers[0], event)
                del observers[0]  # whoever was cancelled meanwhile gets it once more, from `drain`
            self._waiting.popleft()

    async def _deliver_to(self, observer: Observer, event: Event) -> None:
        """An observer that fails is done without: a run doesn't end for it."""
        if observer not in self._observers:
            return
        try:
            await observer.observe(event)
        except Exception:
            self._observers.remove(observer)
            log.exception("an observer failed, and is not called any more")


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


class LogObserver:
    """Writes warnings to the log `classify_batch`."""

    async def observe(self, event: Event) -> None:
        if isinstance(event, Warned):
            log.warning("%s", event.message)
