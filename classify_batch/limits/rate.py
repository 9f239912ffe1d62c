"""Which rate the API allows, as far as it is known: additive increase, multiplicative decrease. Pure, no clock.

The rate that we were told may be more than the API gives. A 429 takes the rate a little below what was accepted in the
second before it. What was taken away is won back evenly in `CLIMB_S`, and in no fewer than `CLIMB_REQUESTS`; from there
each such span wins twice as much as the one before, up to what was told. Only requests that waited for the rate count:
a rate that nobody uses can't be known to be allowed.
"""

from __future__ import annotations

from collections import deque

SPREAD = 1.015
"""Requests go out this much slower than told: what is sent evenly doesn't arrive evenly, and a server that counts by
the second must not see one too many."""

WINDOW_S = 1.005
"""In any such time no more requests go than the rate says of a second, whatever was late before."""

WINDOW_MAX = 4096
"""Requests whose moments are remembered for that; with a higher rate the window is as much shorter."""

CLIMB_S = 20.0
CLIMB_REQUESTS = 100
CUT = 0.96
EMPTY_MAX = 3
"""So many 429s in a row, with waits that grow between them and nothing accepted, say that a wait was too short; one
more says that the rate is far too high."""

CUT_MAX = 0.5
"""The most that one 429 takes: it may have been somebody else's requests that were too many."""

PROVEN_SHARE = 0.8
PROVEN_S = 60.0
"""Over such a time, what was accepted on the average is proven to be allowed: less than this share of it is never sent,
or refusals that have nothing to do with the rate would bring it down step by step."""

FLOOR_SHARE = 0.01
"""Some servers answer 429 whatever the rate: such a one must not bring a run to a halt."""


class Rate:
    """Seconds are the event loop's.

    Attributes:
        per_s: requests a second that are sent now.
    """

    def __init__(self, told_per_s: float) -> None:
        self._told_per_s = told_per_s
        self._floor_per_s = FLOOR_SHARE * told_per_s
        self._win_per_s = 0.0
        self._climbed = 0.0
        self._moments: deque[float] = deque(maxlen=WINDOW_MAX)
        self._accepted: deque[float] = deque(maxlen=WINDOW_MAX)
        self._empty = 0
        self._cut_at_s = float("-inf")
        self.per_s = told_per_s

    @property
    def interval_s(self) -> float:
        """Between two requests."""
        return SPREAD / self.per_s

    @property
    def window_ends_s(self) -> float:
        """From when on one more request doesn't make too many in a window."""
        most = max(1, min(WINDOW_MAX, int(self.per_s)))
        if len(self._moments) < most:
            return 0.0
        return self._moments[-most] + WINDOW_S * most / self.per_s

    @property
    def found_per_s(self) -> float | None:
        """What was found to be allowed, where that is less than was told."""
        return self.per_s if self.per_s < self._told_per_s else None

    def remember(self, found_per_s: float) -> None:
        """Begins with what an earlier process found."""
        self.per_s = max(self._floor_per_s, min(self._told_per_s, found_per_s))
        self._win_per_s = (1 - CUT) * self.per_s

    def tell(self, told_per_s: float) -> None:
        """Another rate is told. What was found to be allowed holds where it is less."""
        found_per_s = self.found_per_s
        self._told_per_s, self._floor_per_s = told_per_s, FLOOR_SHARE * told_per_s
        self.per_s = told_per_s if found_per_s is None else min(told_per_s, found_per_s)

    def passed(self, now_s: float, *, limited: bool) -> None:
        """A request left. `limited`: it had to wait for its moment."""
        self._moments.append(now_s)
        if limited and self.per_s < self._told_per_s:
            share = min(1 / CLIMB_REQUESTS, self.interval_s / CLIMB_S)
            won = self._win_per_s * share * 2.0 ** min(64, self._climbed // 1)
            self._climbed += share
            self.per_s = min(self._told_per_s, self.per_s + won)

    def accepted(self, now_s: float) -> None:
        """An answer came that is no 429."""
        self._accepted.append(now_s)

    def too_fast(self, left_s: float, now_s: float) -> bool:
        """A 429 to a request that left at `left_s`; False if that was before the last cut, and teaches nothing."""
        if left_s <= self._cut_at_s:
            return False
        accepted_since = self._accepted and self._accepted[-1] > self._cut_at_s
        self._empty = 0 if accepted_since else self._empty + 1
        if 0 < self._empty <= EMPTY_MAX:
            self._cut_at_s = now_s
            return True
        floor_per_s = max(self._floor_per_s, PROVEN_SHARE * self._proven_per_s(now_s))
        span_s = max(1.0, 10 * self.interval_s)
        recent = sum(1 for at_s in self._accepted if at_s > now_s - span_s)
        before_per_s = self.per_s
        allowed_per_s = recent / span_s
        cut_per_s = max(floor_per_s, CUT_MAX * before_per_s, min(CUT * before_per_s, allowed_per_s))
        self.per_s = min(before_per_s, cut_per_s)
        self._win_per_s = max((1 - CUT) * self.per_s, before_per_s - self.per_s)
        self._cut_at_s, self._climbed = now_s, 0.0
        return True

    def _proven_per_s(self, now_s: float) -> float:
        """What was accepted on the average of the last minute, or of as much of it as is known."""
        if not self._accepted:
            return 0.0
        span_s = min(PROVEN_S, max(1.0, now_s - self._accepted[0]))
        return sum(1 for at_s in self._accepted if at_s > now_s - span_s) / span_s
