"""How many jobs may be in flight at once."""

from __future__ import annotations

import anyio

PATIENCE_MAX = 64
"""Where the plan's limit doesn't move, one more job is tried after so many times as many jobs as it allows."""


class JobSlots:
    """Jobs take one each.

    A plan may allow fewer than the limit that was set: `record_plan_full()` takes it down to the jobs in flight. When
    as many jobs as are allowed have ended, one more is tried; after twice as many each time that this was refused.
    """

    def __init__(self, total: int) -> None:
        self._total_set = total
        self._patience = 1
        self._one_more_tried = False
        self._ended = 0
        self._changed = anyio.Event()
        self.total = total
        self.taken = 0

    @property
    def discovered(self) -> int | None:
        """How many jobs the plan was found to allow, where that is fewer than was set."""
        return self.total if self.total < self._total_set else None

    def set_limit(self, total: int) -> None:
        """Sets another limit. What the plan was found to allow holds where it is less."""
        discovered = self.discovered
        self._total_set = total
        self.total = total if discovered is None else min(total, discovered)
        self._changed.set()
        self._changed = anyio.Event()

    def restore(self, discovered: int) -> None:
        """Begins with what an earlier process discovered."""
        self.total = max(1, min(self._total_set, discovered))  # with none, nothing would ever show that there is room

    async def acquire(self) -> None:
        while self.taken >= self.total:
            await self._changed.wait()
        self.take_unconditionally()

    def take_unconditionally(self) -> None:
        """Takes a slot, whether or not there is one."""
        self.taken += 1

    def release(self) -> None:
        self.taken -= 1
        self._ended += 1
        if self._one_more_tried and self._ended >= self.total:
            self._patience, self._one_more_tried = 1, False  # the one that was tried was let in
        if self.total < self._total_set and self._ended >= self.total * self._patience:
            self.total, self._ended, self._one_more_tried = self.total + 1, 0, True
        self._changed.set()
        self._changed = anyio.Event()

    async def wait_for_change(self) -> None:
        """Returns when a slot was given back, or the limit was changed."""
        await self._changed.wait()

    def record_plan_full(self) -> None:
        """The plan allows no more jobs than are in flight now."""
        if self._one_more_tried:
            self._patience = min(PATIENCE_MAX, 2 * self._patience)
        # Less one: the attempt that was refused holds a slot itself.
        self.total, self._ended, self._one_more_tried = max(1, min(self.total, self.taken) - 1), 0, False
