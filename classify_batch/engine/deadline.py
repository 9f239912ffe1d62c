"""When a run stops creating jobs: at a time of day, after a span, or at whichever comes first."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import anyio

from classify_batch.engine.shutdown import Shutdown, Stop
from classify_batch.ports import Clock

READ_CLOCK_EVERY_S = 1.0
"""The wall clock may be set, and the machine may sleep: so it is read again and again."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The earlier of two times; each is infinite where it isn't set.

    Attributes:
        wall_s: a time of day, in seconds since the epoch: it follows the wall clock wherever somebody sets it.
        loop_s: the end of a span, by the event loop's clock, which nobody sets.
    """

    wall_s: float = math.inf
    loop_s: float = math.inf

    def remaining_s(self, clock: Clock) -> float:
        """Seconds until the first of the two."""
        # Each by its own clock: they may run apart when somebody sets the time.
        return min(self.wall_s - clock.wall_s(), self.loop_s - anyio.current_time())

    async def stop_run_when_reached(self, shutdown: Shutdown, clock: Clock, drain_s: float) -> None:
        """Ends creating at the deadline, and collecting `drain_s` later. Returns at once where there is none."""
        if self == NO_DEADLINE:
            return
        while (remaining_s := self.remaining_s(clock)) > 0:  # noqa: ASYNC110 - a clock sets no event
            await anyio.sleep(min(remaining_s, READ_CLOCK_EVERY_S))
        over = Stop("the time that was given is over", collects=True)
        shutdown.request_stop(over)
        await anyio.sleep(drain_s)
        shutdown.request_stop(replace(shutdown.stop or over, collects=False))


NO_DEADLINE = Deadline()
