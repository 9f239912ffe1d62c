"""Which rate the API allows, as far as it is known: additive increase, multiplicative decrease. Pure, no clock.

The rate that we were told may be more than the API gives. A 429 takes the rate a little below what was accepted since
the last one (or below what was sent, where the rate was not used up). What was taken away is won back evenly in
`CLIMB_S`, and in no fewer than `CLIMB_REQUESTS`; from there each such span wins twice as much as the one before, up to
what was told. Only requests that waited for the rate count: a rate that nobody uses can't be known to be allowed.
"""

from __future__ import annotations

SPREAD = 1.015
"""Requests go out this much slower than told: what is sent evenly doesn't arrive evenly, and a server that counts by
the second must not see one too many."""

CLIMB_S = 20.0
CLIMB_REQUESTS = 100
CUT = 0.95
CUT_MAX = 0.5
"""The most that one 429 takes: it may have been somebody else's requests that were too many."""

FLOOR_SHARE = 0.01
"""Some servers answer 429 whatever the rate: such a one must not bring a run to a halt."""


class Pace:
    """Seconds are the event loop's.

    Attributes:
        per_s: requests a second that are sent now.
    """

    def __init__(self, told_per_s: float) -> None:
        self._told_per_s = told_per_s
        self._floor_per_s = FLOOR_SHARE * told_per_s
        self._win_per_s = 0.0
        self._climbed = 0.0
        self._passed = self._limited = self._accepted = 0
        self._since_s: float | None = None
        self._cut_at_s = float("-inf")
        self.per_s = told_per_s

    @property
    def interval_s(self) -> float:
        """Between two requests."""
        return SPREAD / self.per_s

    @property
    def found_per_s(self) -> float | None:
        """What was found to be allowed, where that is less than was told."""
        return self.per_s if self.per_s < self._told_per_s else None

    def remember(self, found_per_s: float) -> None:
        """Begins with what an earlier process found."""
        self.per_s = max(self._floor_per_s, min(self._told_per_s, found_per_s))
        self._win_per_s = (1 - CUT) * self.per_s

    def passed(self, now_s: float, *, limited: bool) -> None:
        """A request left. `limited`: it had to wait for its moment."""
        if self._since_s is None:
            self._since_s = now_s
        self._passed += 1
        self._limited += limited
        if limited and self.per_s < self._told_per_s:
            share = min(1 / CLIMB_REQUESTS, self.interval_s / CLIMB_S)
            won = self._win_per_s * share * 2.0 ** min(64, self._climbed // 1)
            self._climbed += share
            self.per_s = min(self._told_per_s, self.per_s + won)

    def accepted(self) -> None:
        """An answer came that is no 429."""
        self._accepted += 1

    def too_fast(self, left_s: float, now_s: float) -> bool:
        """A 429 to a request that left at `left_s`; False if that was before the last cut, and teaches nothing."""
        if left_s <= self._cut_at_s:
            return False
        lasted_s = max(1.0, now_s - (now_s if self._since_s is None else self._since_s))
        used_up = 2 * self._limited >= self._passed
        allowed_per_s = (0.98 * self._accepted if used_up else CUT * self._passed) / lasted_s
        before_per_s = self.per_s
        self.per_s = max(self._floor_per_s, CUT_MAX * before_per_s, min(CUT * before_per_s, allowed_per_s))
        self._win_per_s = max((1 - CUT) * self.per_s, before_per_s - self.per_s)
        self._cut_at_s, self._since_s, self._climbed = now_s, None, 0.0
        self._passed = self._limited = self._accepted = 0
        return True
