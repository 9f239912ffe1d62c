"""How many credits may be spent.

The most that a job can cost is reserved before its create, and what it didn't cost comes back when it has ended.
"""

from __future__ import annotations

from typing import NamedTuple

import anyio

ROUNDING_CREDITS = 1e-6
"""Rates may be fractions, whose sums are never quite what they should be."""


class Credits(NamedTuple):
    """What may still be spent, at one point in time.

    Attributes:
        reserved, waiting: as in `CreditBudget`.
        bound: credits that may be spent in all; None: any number.
    """

    reserved: float = 0.0
    bound: float | None = None
    waiting: bool = False


class CreditBudget:
    """What may still be spent.

    Attributes:
        reserved: credits: what was billed, as far as the API says it, and the most that everything else can have cost,
            including the jobs in flight.
        waiting: whether somebody waits for credits that may come back.
    """

    def __init__(self, max_credits: float | None) -> None:
        self._run_max = max_credits
        self._account: tuple[str, float] | None = None
        self._in_flight = 0
        self._changed = anyio.Event()
        self.reserved = 0.0
        self.waiting = False

    def restore(self, reserved: float, in_flight: int) -> None:
        """Begins with what the journal says: the credits reserved so far, and the attempts that are open."""
        self.reserved, self._in_flight = reserved, in_flight

    def resume_reserved(self, attempts: int) -> None:
        """So many attempts are in flight again for which credits are reserved."""
        self._in_flight += attempts

    def bound_by_account(self, account: str, max_credits: float) -> None:
        """An account allows so many in all, beside what the run allows."""
        self._account = account, max_credits

    @property
    def _lower_bound(self) -> float | None:
        """The lower of the two bounds."""
        if self._account is None:
            return self._run_max
        return self._account[1] if self._run_max is None else min(self._run_max, self._account[1])

    @property
    def account(self) -> str | None:
        """Whose bound the lower one is; None: the run's."""
        if self._account is None or (self._run_max is not None and self._run_max <= self._account[1]):
            return None
        return self._account[0]

    @property
    def as_credits(self) -> Credits:
        return Credits(self.reserved, self._lower_bound, self.waiting)

    async def reserve_when_free(self, credits: float) -> bool:
        """Reserves credits; waits while a job in flight may cost less than was reserved for it. False: there aren't
        enough, and none will come back."""
        while self._lower_bound is not None and self.reserved + credits > self._lower_bound + ROUNDING_CREDITS:
            if not self._in_flight:
                return False
            self.waiting = True  # `status` and `--submit-only` tell this wait from one for a slot
            await self._changed.wait()
            self.waiting = False
        self.reserved += credits
        self._in_flight += 1
        return True

    def set_limit(self, max_credits: float) -> None:
        """From now on the run may spend so many credits."""
        self._run_max = max_credits
        self._wake_waiting()

    def release_unspent(self, change: float) -> None:
        """An attempt has ended, and changed what is reserved by `change`: what it didn't cost comes back."""
        self.reserved += change
        self._in_flight -= 1
        self._wake_waiting()

    def _wake_waiting(self) -> None:
        # Who waits has the old event; the new one is for the next change.
        self._changed.set()
        self._changed = anyio.Event()
