"""What every request must pass: a number of lanes, a smooth rate, and one shared cool-down after a 429.

The rate is even (one request every 1/rate seconds, never a burst), and finds what the API allows by itself. When
several answers in a row failed, a breaker lets one request through at a time, after waits that grow, until one is
answered. Of those that wait, results go first (what they bring was paid), then looks (they free slots), then creates;
but none of these lets more than three others go first.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import IntEnum
from types import TracebackType
from typing import NamedTuple, Self

import anyio
from anyio.abc import TaskGroup

from classify_batch.limits.rate import Rate

COOL_DOWN_S_MIN = 0.5
COOL_DOWN_S_MAX = 60.0
RETRY_AFTER_S_MAX = 300.0
"""A server that asks for more is asked again after this long."""

BREAK_AFTER = 5
"""So many failures in a row are no accident of one connection."""

PROBE_WAIT_S_FIRST = 0.5
PROBE_WAIT_S_MAX = 30.0

OTHERS_MAX = 3
"""So many others in a row may go before a look or a create that waits: without looks nothing more would be known to be
finished, and without creates no slot would be filled."""

_SLACK_S = 0.05
"""A request that was called this late doesn't delay the next one: an event loop has other work, too. The pace sees to
it that no window gets too many by that."""


class Priority(IntEnum):
    """Who goes first among those that wait."""

    RESULTS = 0
    LOOK = 1
    CREATE = 2


class Headroom(NamedTuple):
    """What the rate leaves.

    Attributes:
        interval_s: between two requests; where creates wait for a rate of their own, between two of these.
        backlog_s: how long the requests that wait already will take.
    """

    interval_s: float
    backlog_s: float


class _Waiter:
    """One that waits."""

    __slots__ = ("called", "left")

    def __init__(self) -> None:
        self.called = anyio.Event()
        self.left = False


class RequestGate:
    """Open it with `async with`: its one task calls the waiting requests.

    Args:
        creates_per_s: a lower rate for creates, where the API has one.
    """

    def __init__(self, *, requests_in_flight: int, requests_per_s: float, creates_per_s: float | None = None) -> None:
        self._lanes = self._free_lanes = requests_in_flight
        self._pace = Rate(requests_per_s)
        self._create_pace = None if creates_per_s is None else Rate(creates_per_s)
        self._waiting: dict[Priority, deque[_Waiter]] = {turn: deque() for turn in Priority}
        self._passed_by = dict.fromkeys((Priority.LOOK, Priority.CREATE), 0)
        self._due_s = 0.0
        self._create_due_s = 0.0
        self._cool_until_s = 0.0
        self._cool_down_s = 0.0
        self._failures = 0
        self._failing_since_s = 0.0
        self.ever_served = False
        self._paused = False
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

    @property
    def room(self) -> Headroom:
        now = anyio.current_time()
        waiting = sum(map(len, self._waiting.values()))
        interval_s = self._pace.interval_s
        if self._create_pace is not None and self._waiting[Priority.CREATE] and self._create_due_s > now:
            interval_s = max(interval_s, self._create_pace.interval_s)
        due_s = max(self._due_s - now, 0.0) if waiting else 0.0
        return Headroom(interval_s, due_s + waiting * interval_s)

    @property
    def found_per_s(self) -> float | None:
        """Requests a second that the API was found to allow, where that is less than was told."""
        return self._pace.found_per_s

    @property
    def found_creates_per_s(self) -> float | None:
        """The same of creates, where they have a rate of their own."""
        return None if self._create_pace is None else self._create_pace.found_per_s

    def remember(self, found_per_s: float | None, found_creates_per_s: float | None = None) -> None:
        """Begins with the rates that an earlier process found."""
        if found_per_s is not None:
            self._pace.remember(found_per_s)
        if found_creates_per_s is not None and self._create_pace is not None:
            self._create_pace.remember(found_creates_per_s)

    def tell(self, requests_per_s: float | None = None, creates_per_s: float | None = None) -> None:
        """Other rates are told. What waits for its moment by the old ones waits no longer than by these."""
        now = anyio.current_time()
        if requests_per_s is not None:
            self._pace.tell(requests_per_s)
            self._due_s = min(self._due_s, now + self._pace.interval_s)
        if creates_per_s is not None:
            if self._create_pace is None:
                self._create_pace = Rate(creates_per_s)
            self._create_pace.tell(creates_per_s)
            self._create_due_s = min(self._create_due_s, now + self._create_pace.interval_s)
        self._changed.set()

    @property
    def paused(self) -> bool:
        """Whether creates wait until further notice, and everything else goes on."""
        return self._paused

    def pause(self, paused: bool) -> None:
        self._paused = paused
        self._changed.set()

    @asynccontextmanager
    async def turn(self, turn: Priority) -> AsyncIterator[float]:
        """Waits for a lane and for its moment, and gives that moment; the lane is held until the block ends."""
        now = anyio.current_time()
        if any(self._waiting.values()) or not self._has_lane() or now < self._moment(turn):
            await self._wait(turn)
        else:
            self._pass(turn, now)
        try:
            yield anyio.current_time()
        finally:
            self._free_lanes += 1
            self._changed.set()

    async def _wait(self, turn: Priority) -> None:
        waiter = _Waiter()
        self._waiting[turn].append(waiter)
        self._changed.set()
        try:
            await waiter.called.wait()
        except BaseException:
            if waiter.called.is_set():
                self._free_lanes += 1
            waiter.left = True
            self._changed.set()
            raise

    def too_fast(self, retry_after_s: float | None, left_s: float, turn: Priority = Priority.LOOK) -> None:
        """A 429 to a request that left at `left_s`: nobody passes until the server may want us again. Repeated, it
        waits longer each time."""
        now = anyio.current_time()
        creates = self._create_pace if turn is Priority.CREATE else None
        new = (creates or self._pace).too_fast(left_s, now)
        if not new and retry_after_s is None:
            return  # an answer to a request that left before the cool-down began
        self._cool_down_s = min(COOL_DOWN_S_MAX, max(COOL_DOWN_S_MIN, 2 * self._cool_down_s))
        wait_s = self._cool_down_s if retry_after_s is None else retry_after_s
        self._cool_until_s = max(self._cool_until_s, now + min(wait_s, RETRY_AFTER_S_MAX))

    def served(self, turn: Priority = Priority.LOOK) -> None:
        """The API answered, and not with a 429: the next cool-down begins small again."""
        self.ever_served, self._failures = True, 0
        now = anyio.current_time()
        self._pace.accepted(now)
        if turn is Priority.CREATE and self._create_pace is not None:
            self._create_pace.accepted(now)
        if now >= self._cool_until_s:
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

    # --- Who is next ------------------------------------------------------------------------------------------------

    def _moment(self, turn: Priority) -> float:
        """From when on one may pass."""
        moment = max(self._due_s, self._cool_until_s, self._pace.window_ends_s)
        if turn is Priority.CREATE and self._paused:
            return math.inf
        if turn is Priority.CREATE and self._create_pace is not None:
            moment = max(moment, self._create_due_s, self._create_pace.window_ends_s)
        return moment

    def _has_lane(self) -> bool:
        return self._free_lanes >= (self._lanes if self.broken else 1)

    def _pass(self, turn: Priority, now: float, waited_until: float = 0.0) -> None:
        self._free_lanes -= 1
        self._pace.passed(now, limited=waited_until in (self._due_s, self._pace.window_ends_s))
        if turn is Priority.CREATE and self._create_pace is not None:
            limits = (self._create_due_s, self._create_pace.window_ends_s)
            self._create_pace.passed(now, limited=waited_until in limits)
            self._create_due_s = max(self._create_due_s, now - _SLACK_S) + self._create_pace.interval_s
        self._due_s = max(self._due_s, now - _SLACK_S) + self._pace.interval_s
        for other in self._passed_by:
            self._passed_by[other] = 0 if other is turn else self._passed_by[other] + 1

    def _next(self, now: float) -> Priority | None:
        """Whose turn it is, of those that wait."""
        for waiters in self._waiting.values():
            while waiters and waiters[0].left:
                waiters.popleft()
        for turn, others in self._passed_by.items():
            held_back = turn is Priority.CREATE and (self._paused or now < self._create_due_s)
            if others >= OTHERS_MAX and self._waiting[turn] and not held_back:
                return turn
        passing = (turn for turn, waiters in self._waiting.items() if waiters)
        return next((turn for turn in passing if not (self._paused and turn is Priority.CREATE)), None)

    async def _call(self) -> None:
        waited_until = 0.0
        while True:
            now = anyio.current_time()
            turn = self._next(now)
            if turn is None or not self._has_lane():
                self._changed = anyio.Event()
                await self._changed.wait()
                waited_until = 0.0
            elif (moment := self._moment(turn)) > now:
                waited_until = moment
                self._changed = anyio.Event()
                with anyio.CancelScope(deadline=moment):
                    await self._changed.wait()  # one may come who need not wait as long
            else:
                self._pass(turn, now, waited_until)
                self._waiting[turn].popleft().called.set()
                waited_until = 0.0
