"""How much at once and how fast: what every request and every job must pass.

Requests pass a `Gate`: a number of lanes, a smooth rate (one every 1/rate seconds, never a burst), and one shared
cool-down that all of them obey after a 429. When several answers in a row failed, a breaker lets one request through
at a time, after waits that grow, until one is answered. Of those that wait, results go first (they free slots), then
looks, then creates. Jobs take `Slots`.
"""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup

COOL_DOWN_S_MIN = 1.0
COOL_DOWN_S_MAX = 60.0
RETRY_AFTER_S_MAX = 300.0
"""A server that asks for more is asked again after this long."""

BREAK_AFTER = 5
"""So many failures in a row are no accident of one connection."""

PROBE_WAIT_S_FIRST = 0.5
PROBE_WAIT_S_MAX = 30.0

_SLACK_S = 0.005
"""A request that was served this late doesn't delay the next one: timers of an event loop are that coarse."""


class Turn(IntEnum):
    """Who goes first among those that wait."""

    RESULTS = 0
    LOOK = 1
    CREATE = 2


@dataclass(order=True, slots=True)
class _Ticket:
    turn: Turn
    number: int
    called: anyio.Event = field(compare=False)
    left: bool = field(default=False, compare=False)


class Gate:
    """Open it with `async with`: its one task calls the waiting requests."""

    def __init__(self, *, requests_in_flight: int, requests_per_s: float) -> None:
        self._lanes = requests_in_flight
        self._interval_s = 1 / requests_per_s
        self._free_lanes = requests_in_flight
        self._waiting: list[_Ticket] = []
        self._tickets = 0
        self._due_s = 0.0
        self._cool_until_s = 0.0
        self._cool_down_s = 0.0
        self._failures = 0
        self._failing_since_s = 0.0
        self.ever_served = False
        self._changed = anyio.Event()
        self._tasks: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._call)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if self._tasks is None:
            return None
        self._tasks.cancel_scope.cancel()
        return await self._tasks.__aexit__(kind, error, trace)

    @property
    def waiting_s(self) -> float:
        """Seconds for which nothing will pass."""
        return max(0.0, self._cool_until_s - anyio.current_time())

    @asynccontextmanager
    async def turn(self, turn: Turn) -> AsyncIterator[None]:
        """Waits for a lane and for its moment; the lane is held until the block ends."""
        ticket = _Ticket(turn, self._tickets, anyio.Event())
        self._tickets += 1
        heapq.heappush(self._waiting, ticket)
        self._wake()
        try:
            await ticket.called.wait()
            yield
        finally:
            if ticket.called.is_set():
                self._free_lanes += 1
                self._wake()
            else:
                ticket.left = True

    def too_fast(self, retry_after_s: float | None) -> None:
        """A 429: nobody passes until the server may want us again. Repeated, it waits longer each time."""
        now = anyio.current_time()
        if now < self._cool_until_s and retry_after_s is None:
            return  # an answer to a request that left before the cool-down began
        self._cool_down_s = min(COOL_DOWN_S_MAX, max(COOL_DOWN_S_MIN, 2 * self._cool_down_s))
        wait_s = self._cool_down_s if retry_after_s is None else retry_after_s
        self._cool_until_s = max(self._cool_until_s, now + min(wait_s, RETRY_AFTER_S_MAX))

    def served(self) -> None:
        """The API answered, and not with a 429: the next cool-down begins small again."""
        self.ever_served, self._failures = True, 0
        if anyio.current_time() >= self._cool_until_s:
            self._cool_down_s = 0.0

    def failed(self) -> None:
        """No answer, or one that says that the API is in trouble."""
        now = anyio.current_time()
        if not self._failures:
            self._failing_since_s = now
        if self.broken and now < self._cool_until_s:
            return  # an answer to a request that left before the breaker opened
        self._failures += 1
        if self.broken:
            wait_s = min(PROBE_WAIT_S_MAX, PROBE_WAIT_S_FIRST * 2.0 ** (self._failures - BREAK_AFTER))
            self._cool_until_s = max(self._cool_until_s, now + wait_s)

    @property
    def broken(self) -> bool:
        """Whether one request at a time is let through."""
        return self._failures >= BREAK_AFTER

    @property
    def failing_s(self) -> float:
        """For how long every answer has been a failure."""
        return anyio.current_time() - self._failing_since_s if self._failures else 0.0

    def _wake(self) -> None:
        self._changed.set()

    async def _call(self) -> None:
        while True:
            while self._waiting and self._waiting[0].left:
                heapq.heappop(self._waiting)
            now = anyio.current_time()
            moment = max(self._due_s, self._cool_until_s)
            full = self._free_lanes < (self._lanes if self.broken else 1)
            if not self._waiting or full:
                self._changed = anyio.Event()
                await self._changed.wait()
            elif moment > now:
                await anyio.sleep_until(moment)
            else:
                self._free_lanes -= 1
                self._due_s = max(self._due_s, now - _SLACK_S) + self._interval_s
                heapq.heappop(self._waiting).called.set()


class Slots:
    """How many jobs may be out at once.

    A plan may allow fewer than we were told: `full()` takes the limit down to what is out, and each time as many jobs
    as are allowed have ended, one more is tried.
    """

    def __init__(self, total: int) -> None:
        self._told = total
        self.total = total
        self.taken = 0
        self._ended = 0
        self._changed = anyio.Event()

    async def acquire(self) -> None:
        while self.taken >= self.total:
            await self._changed.wait()
        self.taken += 1

    def take(self) -> None:
        """Takes a slot without waiting: for jobs that are out already when a run goes on."""
        self.taken += 1

    def release(self) -> None:
        self.taken -= 1
        self._ended += 1
        if self._ended >= self.total < self._told:
            self.total, self._ended = self.total + 1, 0
        self._changed.set()
        self._changed = anyio.Event()

    async def one_ended(self) -> None:
        """Returns when a job has ended."""
        await self._changed.wait()

    def full(self) -> None:
        """The plan allows no more jobs than are out now."""
        self.total, self._ended = max(1, min(self.total, self.taken) - 1), 0
