"""Learns how long jobs take, and derives when to poll them. Pure.

When to poll a job next follows from the jobs before it: a poll is worth its request where it is likely to save enough
delay. With F the share of the known jobs that took longer than this one's age and ended within a gap g, the next poll
is due when F times g reaches a fixed share of the mean. Simulated against a fixed gap with as many requests, the delay
is the same for lognormal durations, a third less for heavy tails, and half for two kinds of jobs.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter, deque
from collections.abc import Iterable
from math import prod
from typing import NamedTuple

KEPT = 256
KNOWN_FROM = 16
"""From fewer durations the mean is known, but no distribution."""

POLL_PRICE = 0.044
"""What a poll costs, as a share of the mean duration: with more, there are fewer polls and longer delays."""

POLL_SHARE = 0.15
"""The gap as a share of what is expected, where no distribution is known."""

LATE_SHARE = 0.05
"""The gap as a share of the age of a job that takes longer than all that are known."""

FIRST_POLL_SHARE = 0.3
"""Hardly any job is finished before this share of the mean duration."""

AGE_SHARE_MAX = 0.5
"""No gap is longer than this share of the mean or of the job's age: the next duration may be a new one."""

LEARN_SHARE_MIN = 0.05
"""What the newest duration counts for once twenty have been seen: the mean follows a drift."""

UNKNOWN_S = 1.0
"""How long a job is expected to take until one has finished."""

EVEN_ODDS = 0.5
HALVINGS = 12
"""Of the longest time that may be left: a person doesn't see a smaller difference."""


class Age(NamedTuple):
    """How old a job is, in seconds.

    Attributes:
        seen_s: when it was last seen in flight; 0 for one that never was. It took longer than that for certain.
        now_s: now; it may have ended meanwhile.
    """

    seen_s: float
    now_s: float


class Durations:
    """The last durations of a run, in seconds."""

    def __init__(self, known_s: Iterable[float] = ()) -> None:
        self._order: deque[float] = deque()
        self._sorted: list[float] = []
        self._count = 0
        self.mean_s: float | None = None  # of more jobs than are kept: each counts ever less
        for duration_s in known_s:
            self.add_duration(duration_s)

    def add_duration(self, duration_s: float) -> None:
        self._count += 1
        weight = max(LEARN_SHARE_MIN, 1 / self._count)
        self.mean_s = duration_s if self.mean_s is None else self.mean_s + weight * (duration_s - self.mean_s)
        self._order.append(duration_s)
        insort(self._sorted, duration_s)
        if len(self._order) > KEPT:
            oldest_s = self._order.popleft()
            del self._sorted[bisect_right(self._sorted, oldest_s) - 1]  # equal ones are the same, whichever goes

    def is_longer(self, age: Age) -> bool:
        """Whether a job takes longer than all that are known."""
        return not self._sorted or age.seen_s > self._sorted[-1]

    def all_end_in_s(self, ages: Iterable[Age], new: int = 0) -> float | None:
        """In how many seconds jobs of these ages, and so many that begin now, have all ended, with even odds; None
        where one of them takes longer than all that are known.

        A job that was seen in flight at some age is taken to last as long as the known jobs that lasted longer.
        """
        if new and not self._sorted:
            return None
        jobs = Counter({0: new} if new else {})  # by the number of known jobs that are ruled out as too short
        youngest_s = dict.fromkeys(jobs, 0.0)
        for age in ages:
            if self.is_longer(age):
                return None
            ruled_out = bisect_left(self._sorted, age.seen_s)
            jobs[ruled_out] += 1
            youngest_s[ruled_out] = min(age.now_s, youngest_s.get(ruled_out, age.now_s))

        def odds(in_s: float) -> float:
            return prod(self.share_ended(youngest_s[each] + in_s, each) ** count for each, count in jobs.items())

        if odds(0.0) >= EVEN_ODDS:
            return 0.0
        too_soon_s, remaining_s = 0.0, self._sorted[-1] - min(youngest_s.values())
        for _ in range(HALVINGS):
            middle_s = (too_soon_s + remaining_s) / 2
            too_soon_s, remaining_s = (too_soon_s, middle_s) if odds(middle_s) >= EVEN_ODDS else (middle_s, remaining_s)
        return remaining_s

    def share_ended(self, age_s: float, ruled_out: int) -> float:
        """Which share of the known jobs, but for so many of the shortest ones, had ended at that age."""
        return max(0, bisect_right(self._sorted, age_s) - ruled_out) / (len(self._sorted) - ruled_out)

    def poll_gap_s(self, age_s: float) -> float:
        """How long to wait before the next poll of a job that is in flight for `age_s`."""
        if self.mean_s is None or len(self._order) < KNOWN_FROM:
            expected_s = max(UNKNOWN_S, age_s) if self.mean_s is None else self.mean_s
            return (POLL_SHARE if age_s else FIRST_POLL_SHARE) * expected_s
        price_s = POLL_PRICE * self.mean_s
        most_s = AGE_SHARE_MAX * max(self.mean_s, age_s)
        start = bisect_right(self._sorted, age_s)
        longer = len(self._sorted) - start
        for ended, duration_s in enumerate(self._sorted[start:], 1):
            gap_s = max(duration_s - age_s, price_s * longer / ended)
            following = start + ended
            # Up to the next known end, F stays what it is here: the first gap that lies before that end is the one.
            if following == len(self._sorted) or gap_s <= self._sorted[following] - age_s:
                return min(gap_s, most_s)
        return min(LATE_SHARE * age_s, most_s)
