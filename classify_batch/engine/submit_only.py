"""Submit now, collect later: creates as many jobs as may be in flight at once, and leaves them to a later process.

An ambiguous create holds a slot, and may have made a job. Which job often shows only in that job's results, hours
later. So this process doesn't wait for it: a later one finds the create in the journal, and reconciles it.
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

CHECK_EVERY_S = 0.05

LAST_CREATES_S = 5.0
"""What is on its way when no more jobs are made has so long to become one, or to be given back."""

AMBIGUOUS_S = 2.0
"""How long ambiguous creates are waited for when all others have made their jobs: some are reconciled at once, and sent
again."""


COLLECT_LATER = "`classify-batch resume DIR` collects, any hour later"
"""The hint of a run that made all the jobs that it may: whoever stopped it earlier has another one."""


class SubmitOnly:
    """Stands in the poller's place."""

    def __init__(
        self,
        snapshot: RunSnapshot,
        slots: JobSlots,
        budget: CreditBudget,
        work_queue: WorkQueue,
        shutdown: Shutdown,
        reconciler: Reconciler,
    ) -> None:
        self._snapshot = snapshot
        self._slots = slots
        self._budget = budget
        self._work_queue = work_queue
        self._shutdown = shutdown
        self._reconciler = reconciler

    async def take_jobs_until_none_follow(
        self, submitted: ObjectReceiveStream[Job], finished: ObjectSendStream[Job]
    ) -> None:
        """Takes jobs, and stops the run when there can be no more for now."""
        async with submitted, finished, anyio.create_task_group() as tasks:
            tasks.start_soon(self._stop_when_submitted)
            async for _ in submitted:
                pass

    async def _stop_when_submitted(self) -> None:
        while self._shutdown.creating and not self._all_submitted():  # noqa: ASYNC110 - these set no event together
            await anyio.sleep(CHECK_EVERY_S)
        with anyio.move_on_after(AMBIGUOUS_S):
            while self._shutdown.creating and not (self._all_submitted() and not self._reconciler.ambiguous_attempts):  # noqa: ASYNC110
                await anyio.sleep(CHECK_EVERY_S)
        stop = self._shutdown.stop  # somebody else's reason counts
        self._shutdown.request_stop(self._stop_reason)  # what waits for room is given back
        with anyio.move_on_after(LAST_CREATES_S):
            while self._jobs_being_created > 0:  # noqa: ASYNC110 - likewise
                await anyio.sleep(CHECK_EVERY_S)
        self._shutdown.request_stop(replace(stop or self._stop_reason, collects=False))

    @property
    def _stop_reason(self) -> Stop:
        words = f"{self._snapshot.jobs_in_flight:,} jobs are in flight, and are left to a later process"
        if ambiguous := self._reconciler.ambiguous_attempts:
            words += f"; of {ambiguous:,} more creates it is unknown whether they were accepted: that process finds out"
        return Stop(words, hint=COLLECT_LATER, collects=True)

    @property
    def _jobs_being_created(self) -> int:
        """Attempts on their way to a job; without those that wait for credits, and without ambiguous ones: this process
        doesn't wait for either."""
        return (
            self._slots.taken
            - self._snapshot.jobs_in_flight
            - self._reconciler.ambiguous_attempts
            - self._budget.waiting
        )

    def _all_submitted(self) -> bool:
        """Whether no more jobs can be made for now. Where the plan allows no more, the rest waits for room in vain."""
        if self._snapshot.jobs_in_flight + self._reconciler.ambiguous_attempts >= self._slots.total:
            return self._jobs_being_created <= 0 or self._slots.discovered is not None
        return self._jobs_being_created <= 0 and (self._work_queue.exhausted or self._budget.waiting)
