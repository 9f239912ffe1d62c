"""A smooth rate: when the next request may be sent. Pure, no clock; which rate it is, `rate_control` finds out."""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import deque

from classify_batch.limits.rate_control import RateControl

SPREAD = 1.015
"""Requests are sent this much slower than given: what is sent evenly doesn't arrive evenly, and a server that counts by
the second must not see one too many."""

WINDOW_S = 1.005
"""In any such time no more requests go than the rate says of a second, whatever was late before."""

WINDOW_MAX = 4096
"""Requests whose times are remembered for that; with a higher rate the window is as much shorter."""

SLACK_S = 0.05
"""A request that was called this late doesn't delay the next one: an event loop has other work, too. The window sees
to it that no second gets too many by that."""

DEMAND_REQUESTS = 20
"""So many of the last requests tell whether the rate holds anybody back; where it doesn't, how many are sent."""


def _departed_at(departure: Departure) -> float:
    return departure.at_s


class Departure:
    """When a request was sent, as far as its rate knows: when it passed, until `postpone` says more."""

    __slots__ = ("_rate", "at_s")

    def __init__(self, rate: Rate, at_s: float) -> None:
        self._rate = rate
        self.at_s = at_s

    def postpone(self, at_s: float) -> None:
        """It was sent later than it passed: the window of a second counts what is sent."""
        if at_s > self.at_s:
            self._rate.move_departure(self, at_s)


class Rate:
    """Times in seconds of the event loop's clock, rates in requests a second."""

    def __init__(self, limit_per_s: float) -> None:
        self._control = RateControl(limit_per_s)
        self._next_s = 0.0
        self._sent: list[Departure] = []  # in the order in which they were sent
        self._waited: deque[bool] = deque(maxlen=DEMAND_REQUESTS)

    @property
    def per_s(self) -> float:
        """The rate now."""
        return self._control.per_s

    @property
    def interval_s(self) -> float:
        """Between two requests."""
        return SPREAD / self.per_s

    @property
    def next_due_s(self) -> float:
        """From when on the next request may be sent."""
        most = max(1, min(WINDOW_MAX, int(self.per_s)))  # below one a second, the window holds a single request
        if len(self._sent) < most:
            return self._next_s
        return max(self._next_s, self._sent[-most].at_s + WINDOW_S * most / self.per_s)

    @property
    def holds_back(self) -> bool:
        """Whether most of the last requests had to wait for it."""
        return 2 * sum(self._waited) >= len(self._waited)  # with none yet it does: no demand is known

    @property
    def discovered_per_s(self) -> float | None:
        """What an experiment showed to be allowed, where that is less than was given."""
        control = self._control
        return control.held_per_s if control.limited and control.held_per_s < control.limit_per_s else None

    @property
    def noise_share(self) -> float | None:
        """Of the requests, those that are answered 429 whatever the rate: at a slower one there were as many, or so
        many were left. None before any experiment."""
        control = self._control
        return control.noise.mean if control.noise_shown or control.limited else None

    @property
    def silences(self) -> int:
        """How often in a row nothing at all was accepted."""
        return self._control.silences

    def restore(self, discovered_per_s: float) -> None:
        """Begins with what an earlier process discovered."""
        self._control.restore(discovered_per_s)

    def set_limit(self, limit_per_s: float, now_s: float) -> None:
        """Another rate is given. What was discovered holds where it is less; what waits by the old rate
        waits no longer than by this one."""
        self._control.set_limit(limit_per_s)
        self._next_s = min(self._next_s, now_s + self.interval_s)

    @property
    def limit_per_s(self) -> float:
        """The rate that was given."""
        return self._control.limit_per_s

    def record_passed(self, now_s: float, *, waited: bool) -> Departure:
        """A request passed. `waited`: until the rate let it."""
        departure = Departure(self, now_s)
        insort(self._sent, departure, key=_departed_at)
        del self._sent[:-WINDOW_MAX]
        self._next_s = max(self._next_s, now_s - SLACK_S) + self.interval_s
        self._waited.append(waited)
        self._control.record_sent(waited=waited)
        if self.holds_back:
            self._control.demand_per_s = math.inf
        else:
            first_s = self._sent[-len(self._waited)].at_s
            # At least a millisecond: in virtual time, all of them may be sent at the same time.
            self._control.demand_per_s = len(self._waited) / max(now_s - first_s, 1e-3)
        return departure

    def move_departure(self, departure: Departure, at_s: float) -> None:
        """A request was sent so late that others may have been sent before it."""
        sent = self._sent
        if sent and sent[-1] is departure:  # nearly always
            departure.at_s = at_s
            return
        end = bisect_right(sent, departure.at_s, key=_departed_at)
        at = next((at for at in range(end - 1, -1, -1) if sent[at] is departure), None)
        departure.at_s = at_s
        if at is not None and end < len(sent):  # else it is forgotten, or still the last
            del sent[at]
            insort(sent, departure, key=_departed_at)

    def record_accepted(self, sent_s: float, now_s: float) -> None:
        """An answer that is no 429, to a request that was sent at `sent_s`."""
        self._control.record_answer(refused=False, sent_s=sent_s, now_s=now_s)

    def record_refused(self, sent_s: float, now_s: float) -> bool:
        """A 429 to a request that was sent at `sent_s`; whether nothing should be sent for a while."""
        return self._control.record_answer(refused=True, sent_s=sent_s, now_s=now_s)

    def silent_until(self, until_s: float) -> None:
        """Nothing is sent until then, and answers to what was sent before teach nothing."""
        self._control.silent_until(until_s)
