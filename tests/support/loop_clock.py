"""A wall clock for tests in virtual time."""

from __future__ import annotations

import anyio


class LoopClock:
    """A wall clock that follows the event loop's time, for runs in virtual time."""

    def __init__(self, start_s: float = 1_700_000_000.0) -> None:
        self._start_s = start_s

    def wall_s(self) -> float:
        return self._start_s + anyio.current_time()
