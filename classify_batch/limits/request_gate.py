"""What every request must pass: a bound on those in flight, a smooth rate, and the waits that the server asks for.

The rate is even (one request every 1/rate seconds, never a burst), and finds what the API allows by itself: a 429 is
the beginning of an experiment (`rate_control`), and silences nobody by itself. Where creates have a rate of their own,
the other requests have one, too, that answers to creates don't change. When several answers in a row failed, a breaker
lets one request through at a time, after waits that grow, until one is answered. Of those that wait, results go first
(what they bring was paid), then polls (they free slots), then creates; but none of these lets more than three others go
first.
"""

from __future__ import annotations

import math
from collections import deque
from random import Random
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup

from classify_batch.limits.gate import WAITS_KEPT, Headroom, Priority
from classify_batch.limits.lead import Lead
from classify_batch.limits.rate import Departure, Rate
from classify_batch.limits.retry import Backoff

COOL_DOWN_S_MIN = 0.5
COOL_DOWN_S_MAX = 60.0
RETRY_AFTER_S_MAX = 300.0
"""A server that asks for more is asked again after this long."""

BREAK_AFTER = 5
"""So many failures in a row are no accident of one connection."""

PROBE_WAIT_S_FIRST = 0.5
PROBE_WAIT_S_MAX = 30.0

NOISE_SHARE_MIN = 0.004
"""A smaller share of 429s costs nobody anything, and may come of looking for the limit."""

OTHERS_MAX = 3
"""So many others in a row may go before a poll or a create that waits: without polls nothing more would be known to be
finished, and without creates no slot would be filled."""


class GatePassage:
    """A request that passes when its block is entered, and is in flight until the block ends.

    Attributes:
        passed_s: when it passed, by the event loop's clock.
    """

    __slots__ = ("_departures", "_gate", "_priority", "passed_s")

    def __init__(self, gate: RequestGate, priority: Priority) -> None:
        self.passed_s = math.nan
        self._gate = gate
        self._priority = priority
        self._departures: list[Departure] = []

    async def __aenter__(self) -> Self:
        now = anyio.current_time()
        await self._gate.let_pass(self, self._priority, now)
        self._gate.waits_s.append(self.passed_s - now)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._gate.record_ended()

    def mark_passed(self, now: float, departures: list[Departure]) -> None:
        """It may go now."""
        self.passed_s, self._departures = now, departures

    async def wait_and_mark_sent(self) -> float:
        """Call it when the request is ready. Waits until it may be sent, and returns that time.

        A create is written down durably before it is sent, which takes one millisecond or fifty: what passed evenly
        would be sent in bursts, and be refused by a server that counts. So all, also those that are ready at once, wait
        for about as long as the slowest of the last ones took, as a jitter buffer makes them do; but only while the
        rate holds requests back.
        """
        lead_s, is_held_back = self._gate.measure_lead(self._priority, anyio.current_time() - self.passed_s)
        if is_held_back:
            await anyio.sleep_until(self.passed_s + lead_s)
        sent_s = anyio.current_time()
        self.mark_sent_at(sent_s - (lead_s if is_held_back else 0.0))
        return sent_s

    def mark_sent_at(self, at_s: float) -> None:
        """It was sent at that time, for the window of a second that counts what is sent."""
        for departure in self._departures:
            departure.postpone(at_s)


class _Waiter:
    """One that waits."""

    __slots__ = ("called", "cancelled", "passage")

    def __init__(self, passage: GatePassage) -> None:
        self.called = anyio.Event()
        self.cancelled = False
        self.passage = passage


class RequestGate:
    """Open it with `async with`: its one task calls the waiting requests.

    Args:
        creates_per_s: a lower rate for creates, where the API has one.

    Attributes:
        rate_limited: answers that were a 429 of the rate.
        waits_s: for how long each of the last requests waited for its turn.
    """

    def __init__(
        self,
        *,
        requests_in_flight: int,
        requests_per_s: float,
        creates_per_s: float | None = None,
        random: Random | None = None,
    ) -> None:
        self._in_flight_max = requests_in_flight
        self._in_flight = 0
        self._all = Rate(requests_per_s)
        self._creates: Rate | None = None
        self._reads = self._all
        if creates_per_s is not None:
            self._limit_apart(creates_per_s)
        self._waiting: dict[Priority, deque[_Waiter]] = {priority: deque() for priority in Priority}
        self._passed_by = dict.fromkeys((Priority.POLL, Priority.CREATE), 0)
        self._silent_until_s = self._creates_silent_until_s = 0.0
        self._refused_wait = Backoff(COOL_DOWN_S_MIN, COOL_DOWN_S_MAX, random)
        self._probe_wait = Backoff(PROBE_WAIT_S_FIRST, PROBE_WAIT_S_MAX, random)
        self._lead = Lead()
        self._failures = 0
        self._failing_since_s = 0.0
        self.ever_answered = False
        self.rate_limited = 0
        self.waits_s: deque[float] = deque(maxlen=WAITS_KEPT)
        self._paused = False
        self._changed = anyio.Event()
        self._tasks: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._pass_waiting_requests)
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
        return max(0.0, self._silent_until_s - anyio.current_time())

    @property
    def headroom(self) -> Headroom:
        """What the rate leaves to those that ask for little."""
        now = anyio.current_time()
        waiting = sum(map(len, self._waiting.values()))
        interval_s = max(self._all.interval_s, self._reads.interval_s)
        if self._creates is not None and self._waiting[Priority.CREATE] and self._creates.next_due_s > now:
            interval_s = max(interval_s, self._creates.interval_s)
        due_s = max(self._all.next_due_s - now, 0.0) if waiting else 0.0
        return Headroom(interval_s, due_s + waiting * interval_s)

    @property
    def creates_held_back(self) -> bool:
        """Whether creates wait for a rate."""
        return any(rate.holds_back for rate in self._rates_limiting(Priority.CREATE))

    @property
    def discovered_per_s(self) -> float | None:
        """Requests a second that the API was shown to allow, where that is less than was given: of all requests, or of
        those that create nothing where creates have a rate of their own."""
        return self._reads.discovered_per_s

    @property
    def discovered_creates_per_s(self) -> float | None:
        """The same of creates, where they have a rate of their own."""
        return None if self._creates is None else self._creates.discovered_per_s

    @property
    def limited_per_s(self) -> float | None:
        """The lower of these two."""
        rates = (self.discovered_per_s, self.discovered_creates_per_s)
        return min((per_s for per_s in rates if per_s is not None), default=None)

    @property
    def noise_share(self) -> float | None:
        """Of the requests, those that are answered 429 however slowly they are sent; None where there are hardly any,
        or none were seen."""
        shares = (rate.noise_share for rate in (self._reads, self._creates) if rate is not None)
        return max((share for share in shares if share is not None and share >= NOISE_SHARE_MIN), default=None)

    def restore(self, discovered_per_s: float | None, discovered_creates_per_s: float | None = None) -> None:
        """Begins with the rates that an earlier process discovered."""
        if discovered_per_s is not None:
            self._reads.restore(discovered_per_s)
        if discovered_creates_per_s is not None and self._creates is not None:
            self._creates.restore(discovered_creates_per_s)

    def set_limits(self, requests_per_s: float | None = None, creates_per_s: float | None = None) -> None:
        """Other rates are given. What waits by the old ones waits no longer than by these."""
        now = anyio.current_time()
        if requests_per_s is not None:
            for rate in {self._all, self._reads}:  # one and the same where creates have no rate of their own
                rate.set_limit(requests_per_s, now)
        if creates_per_s is not None:
            if self._creates is None:
                self._limit_apart(creates_per_s)
            else:
                self._creates.set_limit(creates_per_s, now)
        self._changed.set()

    def _limit_apart(self, creates_per_s: float) -> None:
        """Creates get a rate of their own, and a 429 to one of them says nothing about the others."""
        self._creates, self._all = Rate(creates_per_s), Rate(self._reads.limit_per_s)

    @property
    def paused(self) -> bool:
        """Whether creates wait until further notice, and everything else goes on."""
        return self._paused

    def pause(self, paused: bool) -> None:
        self._paused = paused
        self._changed.set()

    def turn(self, priority: Priority) -> GatePassage:
        """Waits until one more request may be in flight, and the rate lets it pass. The request is in flight until the
        block ends."""
        return GatePassage(self, priority)

    async def let_pass(self, passage: GatePassage, priority: Priority, now: float) -> None:
        """Waits until a request may pass, and marks it."""
        if any(self._waiting.values()) or not self._has_room() or now < self._earliest_s(priority):
            await self._wait_for_turn(passage, priority)
        else:
            self._pass_request(passage, priority, now)

    def record_ended(self) -> None:
        """A request is no longer in flight."""
        self._in_flight -= 1
        if any(self._waiting.values()):
            self._changed.set()

    def measure_lead(self, priority: Priority, took_s: float) -> tuple[float, bool]:
        """For how long what passed waits until it is sent, and whether a rate holds such requests back. `took_s`: how
        long it took to make one more ready."""
        rates = self._rates_limiting(priority)
        lead_s = self._lead.measure_lead_s(took_s, max(rate.interval_s for rate in rates))
        return lead_s, any(rate.holds_back for rate in rates)

    async def _wait_for_turn(self, passage: GatePassage, priority: Priority) -> None:
        waiter = _Waiter(passage)
        self._waiting[priority].append(waiter)
        self._changed.set()
        try:
            await waiter.called.wait()
        except BaseException:
            if waiter.called.is_set():  # called in the very turn in which it was cancelled: the place is free again
                self._in_flight -= 1
            waiter.cancelled = True
            self._changed.set()
            raise

    def record_rate_limited(
        self, retry_after_s: float | None, sent_s: float, priority: Priority = Priority.POLL
    ) -> None:
        """A 429 to a request that was sent at `sent_s`. Nobody passes until the server says so, where it says when, or
        for a while where it accepts nothing at all; otherwise the rate finds out whether it is to blame."""
        now = anyio.current_time()
        self.rate_limited += 1
        self._failing_since_s = now  # what counts requests isn't down
        rate = self._rate_judged(priority)
        wait_s = retry_after_s
        if rate.record_refused(sent_s, now):
            wait_s = self._refused_wait.wait_s(rate.silences) if wait_s is None else wait_s
            rate.silent_until(now + min(wait_s, RETRY_AFTER_S_MAX))
        if wait_s is not None:
            self._silent_until_s = max(self._silent_until_s, now + min(wait_s, RETRY_AFTER_S_MAX))

    def obey_retry_after(self, retry_after_s: float, *, creates_only: bool = False) -> None:
        """An answer that is no 429 of the rate carried a `Retry-After`: nobody passes until then, or no create, where
        the answer was about creates (a full plan): reads are what frees it."""
        until_s = anyio.current_time() + min(retry_after_s, RETRY_AFTER_S_MAX)
        self._creates_silent_until_s = max(self._creates_silent_until_s, until_s)
        if not creates_only:
            self._silent_until_s = max(self._silent_until_s, until_s)

    def record_answered(self, priority: Priority = Priority.POLL, sent_s: float | None = None) -> None:
        """The API answered a request that was sent at `sent_s`, and not with a 429."""
        self.ever_answered, self._failures = True, 0
        now = anyio.current_time()
        self._rate_judged(priority).record_accepted(now if sent_s is None else sent_s, now)

    def record_failure(self) -> None:
        """No answer, or one that says that the API is in trouble."""
        now = anyio.current_time()
        if not self._failures:
            self._failing_since_s = now
        if self.broken and now < self._silent_until_s:
            return  # an answer to a request that was sent before the breaker opened
        self._failures += 1
        if self.broken:
            wait_s = self._probe_wait.wait_s(self._failures - BREAK_AFTER + 1)
            self._silent_until_s = max(self._silent_until_s, now + wait_s)

    @property
    def broken(self) -> bool:
        """Whether one request at a time is let through."""
        return self._failures >= BREAK_AFTER

    @property
    def failing_s(self) -> float:
        """For how long nothing but failures came, without a 429 among them either."""
        return anyio.current_time() - self._failing_since_s if self._failures else 0.0

    # --- Who is next ------------------------------------------------------------------------------------------------

    def _rate_judged(self, priority: Priority) -> Rate:
        """The rate that an answer says something about."""
        return self._creates if priority is Priority.CREATE and self._creates is not None else self._reads

    def _rates_limiting(self, priority: Priority) -> tuple[Rate, ...]:
        judged = self._rate_judged(priority)
        return (judged,) if judged is self._all else (self._all, judged)

    def _earliest_s(self, priority: Priority) -> float:
        """From when on one may pass."""
        if priority is Priority.CREATE and self._paused:
            return math.inf
        cool_until_s = max(self._silent_until_s, self._creates_silent_until_s if priority is Priority.CREATE else 0.0)
        return max(cool_until_s, *(rate.next_due_s for rate in self._rates_limiting(priority)))

    def _has_room(self) -> bool:
        return self._in_flight < (1 if self.broken else self._in_flight_max)

    def _pass_request(self, passage: GatePassage, priority: Priority, now: float, waited_until: float = 0.0) -> None:
        self._in_flight += 1
        rates = self._rates_limiting(priority)
        passage.mark_passed(now, [rate.record_passed(now, waited=waited_until == rate.next_due_s) for rate in rates])
        for other in self._passed_by:
            self._passed_by[other] = 0 if other is priority else self._passed_by[other] + 1

    def _choose_next(self, now: float) -> Priority | None:
        """Whose turn it is, of those that wait: not one whose own rate holds it back while another could go."""
        for waiters in self._waiting.values():
            while waiters and waiters[0].cancelled:
                waiters.popleft()
        waiting = [priority for priority, waiters in self._waiting.items() if waiters]
        creates_wait = self._paused or (len(waiting) > 1 and now < self._creates_silent_until_s)
        if creates_wait and Priority.CREATE in waiting:
            waiting.remove(Priority.CREATE)
        ready = [
            priority
            for priority in waiting
            if all(rate.next_due_s <= now for rate in self._rates_limiting(priority)[1:])
        ]
        for priority, others in self._passed_by.items():
            if others >= OTHERS_MAX and priority in ready:
                return priority
        return ready[0] if ready else min(waiting, key=self._earliest_s, default=None)

    async def _pass_waiting_requests(self) -> None:
        waited_until = 0.0
        while True:
            now = anyio.current_time()
            priority = self._choose_next(now)
            if priority is None or not self._has_room():
                self._changed = anyio.Event()
                await self._changed.wait()
                waited_until = 0.0
            elif (earliest_s := self._earliest_s(priority)) > now:
                waited_until = earliest_s
                self._changed = anyio.Event()
                with anyio.CancelScope(deadline=earliest_s):
                    await self._changed.wait()  # one may come who need not wait as long
            else:
                waiter = self._waiting[priority].popleft()
                self._pass_request(waiter.passage, priority, now, waited_until)
                waiter.called.set()
                waited_until = 0.0
