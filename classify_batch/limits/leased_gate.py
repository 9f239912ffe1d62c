"""The gate of a process that shares its rate with others: each turn is asked of the budget that hands them out.

Where nobody hands out turns (its process died, or can't be reached), the process sends by a share of the rate that was
agreed on beforehand, until there is a budget again.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup

from classify_batch.limits.gate import WAITS_KEPT, Headroom, Passage, Priority
from classify_batch.limits.lead import Lead
from classify_batch.limits.rate_budget import (
    SILENT_S_MAX,
    Answered,
    Budget,
    BudgetGoneError,
    BudgetState,
    Discovered,
    Done,
    Failed,
    Limits,
    RateLimited,
    Report,
    RetryAfter,
    Sent,
    Turn,
    state_of_gate,
)
from classify_batch.limits.request_gate import RequestGate

REPORTS_EVERY_S = 0.5
GATHERS_S = 0.01
"""Reports of this time travel together."""

log = logging.getLogger("classify_batch")

LATE_S_MAX = 1.0
"""A turn that arrives later than this is over: this process stood still, and others have sent since."""

LATE_TURNS_MAX = 3
"""So many late ones in a row come of a slow way: each request then goes by the process's own share, until one is in
time."""


class LeasedPassage:
    """A request that passed by a turn of the budget."""

    __slots__ = ("_gate", "_turn_id", "passed_s")

    def __init__(self, gate: LeasedGate, turn_id: int) -> None:
        self._gate = gate
        self._turn_id = turn_id
        self.passed_s = anyio.current_time()

    async def wait_and_mark_sent(self) -> float:
        """See `GatePassage.wait_and_mark_sent`. The lead delays all alike, so it is left out of what is
        reported."""
        now_s = anyio.current_time()
        lead_s, is_held_back = self._gate.measure_lead(now_s - self.passed_s)
        if is_held_back:
            await anyio.sleep_until(self.passed_s + lead_s)
        sent_s = anyio.current_time()
        self._gate.report_sent(self._turn_id, sent_s - (lead_s if is_held_back else 0.0))
        return sent_s


class LeasedGate:
    """Open it with `async with`: its one task reports to the budget.

    Args:
        holder: names this process among all that take turns.
        own_share: the gate where there is no budget; share: how much of the whole rate that is.
    """

    def __init__(self, budget: Budget, holder: str, own_share: RequestGate, share: float) -> None:
        self._budget = budget
        self._holder = holder
        self._own_share = own_share
        self._share = share
        self._turn_ids = count(1)
        self._asking: set[anyio.CancelScope] = set()
        self._unreported: list[tuple[float, Report]] = []  # each with the time of which it speaks
        self._has_reports = anyio.Event()
        self._state, self._state_at_s = state_of_gate(own_share), anyio.current_time()
        self._gone = False
        self._lead = Lead()
        self._paused = False
        self._resumed = anyio.Event()
        self._closing = AsyncExitStack()
        self._tasks: TaskGroup | None = None
        self._given: Limits | None = None
        self._late_turns = 0
        self.ever_answered = False
        self.rate_limited = 0
        self.waits_s: deque[float] = deque(maxlen=WAITS_KEPT)

    async def __aenter__(self) -> Self:
        await self._closing.enter_async_context(self._own_share)
        self._tasks = await self._closing.enter_async_context(anyio.create_task_group())
        self._tasks.start_soon(self._send_reports_repeatedly)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()
            with anyio.move_on_after(REPORTS_EVERY_S, shield=True):
                await self._send_reports()  # turns that are free needn't be taken back
        return await self._closing.__aexit__(kind, error, trace)

    # --- Turns ------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def turn(self, priority: Priority) -> AsyncIterator[Passage]:
        began_s = anyio.current_time()
        turn_id = await self._take_turn_unless_paused(priority)
        if turn_id is None:
            async with self._own_share.turn(priority) as own:
                self.waits_s.append(anyio.current_time() - began_s)
                yield own
            return
        self.waits_s.append(anyio.current_time() - began_s)
        try:
            yield LeasedPassage(self, turn_id)
        finally:
            self._queue_report(Done(turn_id))

    async def _take_turn_unless_paused(self, priority: Priority) -> int | None:
        """As `_take_turn`. A create whose turn comes while the process is paused gives it back."""
        while True:
            while priority is Priority.CREATE and self._paused:
                await self._resumed.wait()
            turn_id = await self._take_turn(priority)
            if not (priority is Priority.CREATE and self._paused):
                return turn_id
            if turn_id is not None:
                self._queue_report(Done(turn_id))

    async def _take_turn(self, priority: Priority) -> int | None:
        """The number of a turn that is ours now; None where nobody hands out turns."""
        while not self._gone:
            turn_id, asked_s = next(self._turn_ids), anyio.current_time()
            turn: Turn | None = None
            try:
                with anyio.CancelScope() as scope:  # ended also when the budget is found to be gone
                    self._asking.add(scope)
                    turn = await self._budget.take_turn(self._holder, turn_id, priority)
            except BudgetGoneError:
                self._fall_back_to_own_share()
            finally:
                self._asking.discard(scope)
                if turn is None:
                    self._queue_report(Done(turn_id))
            if turn is None:
                continue
            if anyio.current_time() - asked_s - turn.waited_s <= LATE_S_MAX:
                self._late_turns = 0
                self._take_state(turn.state)
                return turn_id
            self._queue_report(Done(turn_id))
            self._late_turns += 1
            if self._late_turns >= LATE_TURNS_MAX:
                if self._late_turns == LATE_TURNS_MAX:
                    log.warning("turns arrive more than %g s late: this process sends by its own share", LATE_S_MAX)
                return None
        return None

    def measure_lead(self, took_s: float) -> tuple[float, bool]:
        """See `RequestGate.measure_lead`."""
        return self._lead.measure_lead_s(took_s, self._state.headroom.interval_s), self._state.holds_back

    def report_sent(self, turn_id: int, at_s: float) -> None:
        """Reports when a request was really sent, which is later than its turn was granted: the budget counts what is
        sent in a second."""
        self._queue_report(Sent(turn_id, 0.0), at_s)

    # --- Reports ----------------------------------------------------------------------------------------------------

    def _queue_report(self, report: Report, at_s: float | None = None) -> None:
        self._unreported.append((anyio.current_time() if at_s is None else at_s, report))
        self._has_reports.set()

    async def _send_reports_repeatedly(self) -> None:
        while True:
            with anyio.move_on_after(REPORTS_EVERY_S):
                await self._has_reports.wait()
                await anyio.sleep(GATHERS_S)
            self._has_reports = anyio.Event()
            await self._send_reports()

    async def _send_reports(self) -> None:
        unreported, self._unreported = self._unreported, []
        now_s = anyio.current_time()
        reports = [_with_age(report, now_s - at_s) for at_s, report in unreported]
        try:
            with anyio.fail_after(SILENT_S_MAX):
                state = await self._budget.report(self._holder, reports)
        except (BudgetGoneError, TimeoutError):
            self._fall_back_to_own_share()
            return
        if self._gone:
            log.info("turns are handed out again: all processes share their rate")
            if self._given is not None:  # one that was begun anew has the limits of the beginning
                self._queue_report(self._given)
        self._gone = False
        self._take_state(state)

    def _take_state(self, state: BudgetState) -> None:
        self._state, self._state_at_s = state, anyio.current_time()
        self.ever_answered = self.ever_answered or state.ever_answered

    def _fall_back_to_own_share(self) -> None:
        if not self._gone:
            log.warning("nobody hands out turns at present: this process sends by its own share of the rate")
        self._gone = True
        for scope in self._asking:
            scope.cancel()

    # --- What answers say, and what a person or an earlier process says ---------------------------------------------

    def record_answered(self, priority: Priority = Priority.POLL, sent_s: float | None = None) -> None:
        self.ever_answered = True
        if self._gone:
            self._own_share.record_answered(priority, sent_s)
        else:
            self._queue_report(Answered(priority, None if sent_s is None else 0.0), sent_s)

    def record_rate_limited(
        self, retry_after_s: float | None, sent_s: float, priority: Priority = Priority.POLL
    ) -> None:
        self.rate_limited += 1
        if self._gone:
            self._own_share.record_rate_limited(retry_after_s, sent_s, priority)
        else:
            self._queue_report(RateLimited(priority, 0.0, retry_after_s), sent_s)

    def record_failure(self) -> None:
        if self._gone:
            self._own_share.record_failure()
        else:
            self._queue_report(Failed())

    def obey_retry_after(self, retry_after_s: float, *, creates_only: bool = False) -> None:
        if self._gone:
            self._own_share.obey_retry_after(retry_after_s, creates_only=creates_only)
        else:
            self._queue_report(RetryAfter(retry_after_s, creates_only))

    def restore(self, discovered_per_s: float | None, discovered_creates_per_s: float | None = None) -> None:
        if discovered_per_s is not None or discovered_creates_per_s is not None:
            self._queue_report(Discovered(discovered_per_s, discovered_creates_per_s))

    def set_limits(self, requests_per_s: float | None = None, creates_per_s: float | None = None) -> None:
        """They are for all processes together; of what each sends by itself without a budget, its share stays one."""
        before = self._given or Limits(None, None)
        self._given = Limits(requests_per_s or before.per_s, creates_per_s or before.creates_per_s)
        self._own_share.set_limits(
            None if requests_per_s is None else requests_per_s * self._share,
            None if creates_per_s is None else creates_per_s * self._share,
        )
        self._queue_report(self._given)

    def pause(self, paused: bool) -> None:
        """Of this process alone."""
        self._paused = paused
        self._resumed.set()
        self._resumed = anyio.Event()

    # --- How it stands ----------------------------------------------------------------------------------------------

    @property
    def _current_state(self) -> BudgetState:
        return state_of_gate(self._own_share) if self._gone else self._state

    @property
    def paused(self) -> bool:
        return self._paused

    @property
    def waiting_s(self) -> float:
        passed_s = 0.0 if self._gone else anyio.current_time() - self._state_at_s
        return max(0.0, self._current_state.waiting_s - passed_s)

    @property
    def headroom(self) -> Headroom:
        return self._current_state.headroom

    @property
    def discovered_per_s(self) -> float | None:
        return self._current_state.discovered_per_s

    @property
    def discovered_creates_per_s(self) -> float | None:
        return self._current_state.discovered_creates_per_s

    @property
    def limited_per_s(self) -> float | None:
        rates = (self.discovered_per_s, self.discovered_creates_per_s)
        return min((per_s for per_s in rates if per_s is not None), default=None)

    @property
    def noise_share(self) -> float | None:
        return self._current_state.noise_share

    @property
    def broken(self) -> bool:
        return self._current_state.broken

    @property
    def failing_s(self) -> float:
        return self._current_state.failing_s


def _with_age(report: Report, ago_s: float) -> Report:
    """A report that says how long ago happened what it speaks of."""
    match report:
        case Sent():
            return report._replace(ago_s=ago_s)
        case Answered(sent_ago_s=float()):
            return report._replace(sent_ago_s=ago_s)
        case RateLimited():
            return report._replace(sent_ago_s=ago_s)
    return report
