"""How many credits may go out: the most that a job can cost is set aside before its create, and what it didn't cost
comes back when it has ended."""

from __future__ import annotations

import anyio

from classify_batch.journal.replay import Standing
from classify_batch.outcomes.ending import CREDITS
from classify_batch.states import Ended

DUST = 1e-6
"""Rates may be fractions, whose sums are never quite what they should be."""


class Purse:
    """Begins with what the journal says.

    Attributes:
        reserved: credits: what was billed, as far as the API says it, and the most that everything else can have cost,
            with what is out.
        waiting: whether somebody waits for credits that may come back.
    """

    def __init__(self, standing: Standing, max_credits: float | None) -> None:
        self._standing = standing
        self._max = max_credits
        self._out = 0
        self._changed = anyio.Event()
        self.reserved = 0.0
        self.waiting = False
        self.begin()

    def begin(self) -> None:
        """Takes over what the journal says."""
        self._out = len(self._standing.open)
        self.reserved = self._standing.sums[CREDITS]

    async def reserve(self, credits: float) -> bool:
        """Sets credits aside; waits while a job that is out may cost less than was set aside for it. False: there
        aren't enough, and none will come back."""
        while self._max is not None and self.reserved + credits > self._max + DUST:
            if not self._out:
                return False
            self.waiting = True
            await self._changed.wait()
            self.waiting = False
        self.reserved += credits
        self._out += 1
        return True

    def tell(self, max_credits: float) -> None:
        """Another bound is told."""
        self._max = max_credits
        self._changed.set()
        self._changed = anyio.Event()

    def ended(self, fact: Ended) -> None:
        """Takes back what an attempt didn't cost."""
        self.reserved += fact.tally.sums.get(CREDITS, 0.0)
        self._out -= 1
        self._changed.set()
        self._changed = anyio.Event()
