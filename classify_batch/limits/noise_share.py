"""The share of 429s that doesn't depend on our rate, as far as it is known. Pure."""

from __future__ import annotations

import math

MEMORY_ANSWERS = 2000.0
"""What was seen before counts ever less."""

PRIOR_REFUSED = 0.5
PRIOR_ANSWERS = 100.0
PRIOR_ANSWERS_ANEW = 20.0
"""What is taken for seen before anything is."""


class NoiseShare:
    """The share of 429s that doesn't depend on the rate, from the last answers; a beta posterior's mean and spread."""

    def __init__(self) -> None:
        self._refused, self._answered = PRIOR_REFUSED, PRIOR_ANSWERS

    @property
    def mean(self) -> float:
        return self._refused / self._answered

    def upper_bound(self, deviations: float) -> float:
        """So many standard deviations above the mean: what isn't known well is given the benefit of the doubt."""
        return self.mean + deviations * math.sqrt(self.mean * (1 - self.mean) / self._answered)

    def add_answers(self, refused: float, answered: float) -> None:
        """Negative numbers take back what was added."""
        refused = max(PRIOR_REFUSED * self._answered / MEMORY_ANSWERS, self._refused + refused)
        answered = max(PRIOR_ANSWERS_ANEW, self._answered + answered)
        kept = min(1.0, MEMORY_ANSWERS / answered)  # both shrink alike, so that the mean stays
        self._refused, self._answered = kept * min(refused, 0.5 * answered), kept * answered

    def begin_anew(self, refused: int, answered: int) -> None:
        """Of all that was seen only this counts: a slower rate showed it."""
        self._refused, self._answered = PRIOR_REFUSED + refused, PRIOR_ANSWERS_ANEW + answered
