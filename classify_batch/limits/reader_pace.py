"""How far a run may be ahead of who reads its outcomes while it is on."""

from __future__ import annotations

from collections.abc import Callable

import anyio


class ReaderPace:
    """No more jobs are created while too many committed outcomes are unread.

    What is unread is in the run directory, so a slow reader costs no memory; and jobs that are in flight are collected
    meanwhile, since they are paid.

    Args:
        ahead_max: so many outcomes may be unread when a job is created.

    Attributes:
        started: whether the run is open, so that its outcomes may be read.
    """

    def __init__(self, ahead_max: int) -> None:
        self._ahead_max = ahead_max
        self._read = 0
        self._changed = anyio.Event()
        self.started = anyio.Event()

    def add_read(self, outcomes: int) -> None:
        """So many more outcomes were read."""
        self._read += outcomes
        self._changed.set()

    async def wait_for_reader(self, committed: Callable[[], int]) -> None:
        """Returns when a further job may be created. `committed`: how many outcomes there are."""
        while committed() - self._read > self._ahead_max:
            self._changed = anyio.Event()
            await self._changed.wait()
