"""Submit now, collect later: makes as many jobs as may be out at once, and leaves them to a later process.

A create whose answer was lost holds a slot, and may be a job: which it is can often be told only when that job has
ended, hours later. So nobody waits for that here; a later process finds the doubt in the journal, and settles it.
"""

from __future__ import annotations

from dataclasses import replace

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream

from classify_batch.engine.reconciler import Reconciler
from classify_batch.engine.shutdown import Shutdown, Stop
from classify_batch.engine.work_queue import WorkQueue
from classify_batch.limits import JobSlots
from classify_batch.limits.credit_budget import CreditBudget
from classify_batch.model import Job
from classify_batch.rundir.journal.replay import RunSnapshot

EVERY_S = 0.05

PATIENCE_S = 5.0
"""What is on its way when no more jobs are made has so long to become one, or to be given back."""

DOUBTS_S = 2.0
"""So long creates in doubt are waited for when all else is out: some are settled at once, and may go out again."""


COLLECT_LATER = "`classify-batch resume DIR` collects, any hour later"
"""The hint of a run that made all the jobs that it may: whoever stopped it earlier has another one."""


class SubmitOnly:
    """Stands in the poller's place."""

    def __init__(
        self,
        standing: RunSnapshot,
        slots: JobSlots,
        budget: CreditBudget,
        feed: WorkQueue,
        shutdown: Shutdown,
        reconciler: Reconciler,
    ) -> None:
        self._standing = standing
        self._slots = slots
        self._budget = budget
        self._feed = feed
        self._shutdown = shutdown
        self._reconciler = reconciler

    async def work(self, submitted: ObjectReceiveStream[Job], finished: ObjectSendStream[Job]) -> None:
        """Takes jobs, and stops the run when there can be no more for now."""
        async with submitted, finished, anyio.create_task_group() as tasks:
            tasks.start_soon(self._stop_when_submitted)
            async for _ in submitted:
                pass

    async def _stop_when_submitted(self) -> None:
        while self._shutdown.creating and not self._all_submitted():  # noqa: ASYNC110 - these set no event together
            await anyio.sleep(EVERY_S)
        with anyio.move_on_after(DOUBTS_S):
            while self._shutdown.creating and not (self._all_submitted() and not self._reconciler.doubts):  # noqa: ASYNC110
                await anyio.sleep(EVERY_S)
        stop = self._shutdown.stop  # somebody else's reason counts
        self._shutdown.ask(self._stop_reason)  # what waits for room is given back
        with anyio.move_on_after(PATIENCE_S):
            while self._jobs_being_created > 0:  # noqa: ASYNC110 - likewise
                await anyio.sleep(EVERY_S)
        self._shutdown.ask(replace(stop or self._stop_reason, collects=False))

    @property
    def _stop_reason(self) -> Stop:
        words = f"{self._standing.jobs_out:,} jobs are out, and are left to a later process"
        if doubts := self._reconciler.doubts:
            words += f"; {doubts:,} more creates are in doubt, since their answers were lost: it finds out about them"
        return Stop(words, hint=COLLECT_LATER, collects=True)

    @property
    def _jobs_being_created(self) -> int:
        """Attempts on their way to a job; one that waits for credits is on no way, and one in doubt is on none of
        ours."""
        return self._slots.taken - self._standing.jobs_out - self._reconciler.doubts - self._budget.waiting

    def _all_submitted(self) -> bool:
        """Whether no more jobs can be made for now. Where the plan allows no more, the rest waits for room in vain."""
        if self._standing.jobs_out + self._reconciler.doubts >= self._slots.total:
            return self._jobs_being_created <= 0 or self._slots.discovered is not None
        return self._jobs_being_created <= 0 and (self._feed.exhausted or self._budget.waiting)
