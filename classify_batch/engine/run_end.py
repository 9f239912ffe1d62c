"""When a run is over for this process: every file has its outcome, or it was stopped and waits for nothing more."""

from __future__ import annotations

import anyio

from classify_batch.engine.shutdown import Shutdown
from classify_batch.limits import Gate
from classify_batch.rundir.journal.replay import RunSnapshot

GRACE_S = 2.5
"""How long a stop waits for calls that are on the wire. With what is written after it, a process ends within 4 s."""


class RunEnd:
    """Knows when the stages may be ended."""

    def __init__(self, snapshot: RunSnapshot, shutdown: Shutdown, gate: Gate) -> None:
        self._snapshot, self._shutdown, self._gate = snapshot, shutdown, gate
        self._reached = anyio.Event()

    def set_if_reached(self) -> None:
        """To be called after each end of an attempt, and when all open ones are in somebody's hands."""
        own = len(self._snapshot.open_attempts) - self._snapshot.open_of_other_accounts
        drained = not self._shutdown.creating and own == len(self._shutdown.left_open)
        if self._snapshot.complete or self._snapshot.only_others_remain or drained:
            self._reached.set()

    async def wait_until_over(self) -> None:
        """Returns when the run is over, or was asked to leave and what is on the wire was given its time."""
        async with anyio.create_task_group() as tasks:

            async def leave_when_asked() -> None:
                await self._shutdown.leave_requested.wait()
                with anyio.move_on_after(GRACE_S):
                    await self._shutdown.wait_until_idle()
                tasks.cancel_scope.cancel()

            async def end_creating() -> None:
                await self._shutdown.creating_ended.wait()
                self._gate.pause(False)  # what waits for its turn is given back
                self.set_if_reached()

            async def count_what_is_left() -> None:
                while True:
                    self.set_if_reached()  # an attempt may have been left before this task began
                    await self._shutdown.wait_for_left_open()

            tasks.start_soon(leave_when_asked)
            tasks.start_soon(end_creating)
            tasks.start_soon(count_what_is_left)
            await self._reached.wait()
            tasks.cancel_scope.cancel()
