"""How many answers it takes to know: sequential tests of a share of 429s. Pure.

`SequentialTest` is Wald's (1945): of two shares, which one fits what is seen? It asks for no number of observations in
advance, and needs about half as many as a test that does. `Cusum` is Page's control chart (1954): it notices that a
share has risen, soon after it has, and forgets whatever was before.
"""

from __future__ import annotations

import math
from enum import Enum, auto

SHARE_MIN = 0.001
SHARE_MAX = 0.98
"""Nothing is known better than to a thousandth; and one observation never decides for good."""


class Verdict(Enum):
    """Which of the two shares it is."""

    LOW = auto()
    HIGH = auto()


class _Evidence:
    """The weight of what is seen: the logarithm of how much likelier the higher share makes it than the lower one."""

    def __init__(self, low: float, high: float) -> None:
        # Two shares that are closer than a tenth would take answers without end to tell apart.
        self.low = min(max(low, SHARE_MIN), SHARE_MAX / 1.1)
        self.high = min(max(high, 1.1 * self.low), SHARE_MAX)
        self._if_refused = math.log(self.high / self.low)
        self._if_accepted = math.log((1 - self.high) / (1 - self.low))
        self.weight = 0.0
        self.refused = self.answered = 0

    @property
    def share(self) -> float:
        """Of the answers, those that were 429."""
        return self.refused / self.answered if self.answered else 0.0

    def add_answer(self, *, refused: bool) -> None:
        self.refused += refused
        self.answered += 1
        self.weight += self._if_refused if refused else self._if_accepted


class SequentialTest(_Evidence):
    """Decides between two shares.

    Args:
        odds: how much likelier one must be than the other.
        answers_max: after so many answers the likelier one is taken; `undecided`, where it is given.
        revisable: no more evidence for the lower share is kept than a verdict takes. Who doesn't act on one at once
            sees it revised when the share rises (a token bucket that runs empty).
    """

    def __init__(
        self,
        low: float,
        high: float,
        *,
        odds: float,
        answers_max: int,
        undecided: Verdict | None = None,
        revisable: bool = False,
    ) -> None:
        super().__init__(low, high)
        self._undecided = undecided
        self._decisive = math.log(odds)
        self._answers_max = answers_max
        self._revisable = revisable

    def add_answer(self, *, refused: bool) -> None:
        super().add_answer(refused=refused)
        if self._revisable:
            self.weight = max(-self._decisive, self.weight)

    @property
    def verdict(self) -> Verdict | None:
        """None: too early to tell."""
        if abs(self.weight) < self._decisive:
            if self.answered < self._answers_max:
                return None
            if self._undecided is not None:
                return self._undecided
        return Verdict.HIGH if self.weight > 0 else Verdict.LOW


class Cusum(_Evidence):
    """Notices that a share is no longer the lower but the higher one.

    `refused` and `answered` count since it last had no evidence at all: about since the share rose.
    """

    def __init__(self, low: float, high: float, *, decisive: float) -> None:
        super().__init__(low, high)
        self._decisive = decisive

    def add_answer(self, *, refused: bool) -> None:
        super().add_answer(refused=refused)
        if self.weight <= 0:
            self.weight, self.refused, self.answered = 0.0, 0, 0

    @property
    def has_alarm(self) -> bool:
        return self.weight >= self._decisive
