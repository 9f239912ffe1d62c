"""Tells observers when 429s, outages and waits begin and end, by reading gate and credits now and then."""

from __future__ import annotations

import anyio

from classify_batch.engine.event_queue import EventQueue
from classify_batch.events import OutageBegan, OutageEnded, ThrottlingBegan, ThrottlingEnded, WaitBegan, WaitEnded
from classify_batch.limits import Gate
from classify_batch.limits.credit_budget import CreditBudget
from classify_batch.vocabulary import WaitReason

QUIET_S = 10.0
"""429s that are less than this apart belong to one span."""

COOL_DOWN_S_MIN = 1.0
"""Shorter ones come at any rate limit, and nobody would ask for them."""


class GateSpans:
    """What gate and credits were like when observers were last notified."""

    def __init__(self, gate: Gate, budget: CreditBudget, events: EventQueue) -> None:
        self._gate = gate
        self._budget = budget
        self._waits: dict[WaitReason, float] = {}
        self._events = events
        self._down_since_s: float | None = None
        self._seen = self._before = gate.rate_limited
        self._throttled: tuple[float, float] | None = None

    def report_changes(self) -> None:
        """Notifies observers of what has changed."""
        now = anyio.current_time()
        self._report_outage(now)
        self._report_throttling(now)
        self._report_waits(now)

    def _report_outage(self, now: float) -> None:
        if self._gate.broken and self._down_since_s is None:
            failing_s = self._gate.failing_s
            self._down_since_s = now - failing_s  # the first of the failures that opened the breaker
            self._events.notify(OutageBegan(round(failing_s, 3)))
        elif not self._gate.broken and self._down_since_s is not None:
            self._events.notify(OutageEnded(round(now - self._down_since_s, 3)))
            self._down_since_s = None

    def _report_throttling(self, now: float) -> None:
        if self._gate.rate_limited > self._seen:
            if self._throttled is None:
                self._before = self._seen
                self._events.notify(ThrottlingBegan())
            self._throttled = (now if self._throttled is None else self._throttled[0], now)
            self._seen = self._gate.rate_limited
        elif self._throttled is not None and now - self._throttled[1] >= QUIET_S:
            began_s, last_s = self._throttled
            self._events.notify(ThrottlingEnded(round(last_s - began_s, 3), self._seen - self._before))
            self._throttled = None

    def _report_waits(self, now: float) -> None:
        for reason in WaitReason:
            waits = self._waits_for(reason)
            if waits and reason not in self._waits:
                self._waits[reason] = now
                self._events.notify(WaitBegan(reason.value))
            elif not waits and (began_s := self._waits.pop(reason, None)) is not None:
                self._events.notify(WaitEnded(reason.value, round(now - began_s, 3)))

    def _waits_for(self, reason: WaitReason) -> bool:
        match reason:
            case WaitReason.COOL_DOWN:
                shortest_s = 0.0 if reason in self._waits else COOL_DOWN_S_MIN
                return self._gate.waiting_s > shortest_s and not self._gate.broken
            case WaitReason.CREDITS:
                return self._budget.waiting
            case WaitReason.PAUSED:
                return self._gate.paused
