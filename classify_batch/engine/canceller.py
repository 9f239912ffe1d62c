"""Cancels a run: no more jobs are created, and those in flight are cancelled where the API can.

A job that has ended can't be cancelled: it is collected like any other. So each job is looked at first, and what a
cancel is refused for decides nothing until the job was looked at once more. Only jobs that the journal names as this
run's are cancelled. An ambiguous create is reconciled as ever; if its job is found, that is cancelled, too.

Nothing is written about single calls. Whoever takes the run over sees in the journal that it was cancelled and which
attempts were open then, and asks the API what became of their jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import anyio

from classify_batch.engine.context import EngineContext
from classify_batch.engine.shutdown import Stop
from classify_batch.errors import ApiError, ExitStatus, Verdict
from classify_batch.limits.retry import retry_transient
from classify_batch.model import JobView
from classify_batch.protocol.sanitize import printable_line
from classify_batch.rundir.journal.replay import RunSnapshot
from classify_batch.vocabulary import Kind, State

CALLS_AT_ONCE = 8
BATCH_JOBS = 100
"""Jobs that one request shows."""

CALLS_MAX = 12
"""Some minutes of waits: a brief outage passes meanwhile."""

REFUSALS_MAX = 2
"""A job that can't be cancelled for a moment (it begins just now) can be in the next."""

RESUME_HINT = "`classify-batch resume DIR` goes on with the files that have no outcome"

_ENDS_THE_RUN = frozenset({Verdict.KEY_REFUSED, Verdict.BLOCKED, Verdict.DOWN})

ReportView = Callable[[JobView], None]
"""Is given what a call has shown of a job."""


class Canceller:
    """Waits until the run is cancelled, and carries it out.

    Attributes:
        jobs_are_polled: False in a process that leaves all its jobs to a later one.
    """

    def __init__(self, context: EngineContext, snapshot: RunSnapshot) -> None:
        settings = context.settings
        self._context = context
        self._api = context.api
        self._snapshot = snapshot
        self._version = settings.api.version
        self._can_cancel = settings.api.capabilities.can_cancel
        self._drain_s = settings.limits.drain_s
        self._settle_s = settings.limits.settle_s
        self._calls = anyio.CapacityLimiter(min(CALLS_AT_ONCE, settings.limits.requests_in_flight))
        self._requested = anyio.Event()
        self._new_jobs = anyio.Event()
        self._all_asked = anyio.Event()
        self._asked: set[str] = set()
        self._missing: set[str] = set()
        self._refused = False
        self.jobs_are_polled = True

    def request_cancel(self) -> None:
        """Cancels the run. The caller makes the journal durable."""
        if self._requested.is_set():
            return
        # In this order, and nothing is awaited in between: an intent is either in the journal before the cancel, or is
        # not written any more.
        self._context.shutdown.request_stop(Stop("cancelled", ExitStatus.PERSON, collects=True, cancels=True))
        self._context.journal.record_about_run(Kind.TUNED, {"limits": {}, "cancel": True})
        self._requested.set()
        jobs = self._snapshot.jobs_in_flight
        if jobs and not self._can_cancel:
            self._context.notify_warning(
                f"{self._version} of the API can't cancel a job: those in flight ({jobs:,}) are collected, for at most "
                f"limits.drain_s ({self._drain_s:g} s); no more are created"
            )

    @property
    def finished(self) -> bool:
        """Whether the run was cancelled, and nothing is left that a further process should do for it at once."""
        if not self._requested.is_set() or (self._snapshot.jobs_in_flight and not self.jobs_are_polled):
            return False
        return not (self._can_cancel and any(self._jobs_to_cancel()))

    def notice_job(self) -> None:
        """A create has made a job, or one was found, or old ones of failed files are in flight again."""
        self._new_jobs.set()

    async def cancel_when_requested(self, report_view: ReportView) -> None:
        """Carries a cancel out once there is one, until it is cancelled itself. Then leaves `limits.drain_s` for what
        is still in flight."""
        await self._requested.wait()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end_collecting)
            while True:
                self._new_jobs = anyio.Event()
                if self._can_cancel:
                    await self._cancel_jobs(report_view)
                    if any(self._jobs_to_cancel()):  # a job that was made a moment ago may be 404
                        await anyio.sleep(self._settle_s)
                        await self._cancel_jobs(report_view)
                self._all_asked.set()
                await self._new_jobs.wait()

    async def _end_collecting(self) -> None:
        await self._all_asked.wait()
        await anyio.sleep(self._drain_s)
        shutdown = self._context.shutdown
        if shutdown.stop is not None:
            shutdown.request_stop(replace(shutdown.stop, collects=False))

    # --- The calls --------------------------------------------------------------------------------------------------

    def _jobs_to_cancel(self) -> Iterator[str]:
        """The jobs that are in flight, as far as is known, and weren't asked to end by this process."""
        for attempt in self._snapshot.open_attempts.values():
            in_flight = attempt.state is State.SUBMITTED and self._snapshot.is_own(attempt)
            if in_flight and attempt.job_id is not None and attempt.job_id not in self._asked:
                yield attempt.job_id

    async def _cancel_jobs(self, report_view: ReportView) -> None:
        waiting = list(self._jobs_to_cancel())
        for start in range(0, len(waiting), BATCH_JOBS):
            job_ids = waiting[start : start + BATCH_JOBS]
            try:
                shown = await self._read_jobs(job_ids)
                async with anyio.create_task_group() as tasks:
                    for job_id in job_ids:
                        tasks.start_soon(self._cancel_job, job_id, shown.get(job_id), report_view)
            except ApiError as error:
                self._context.shutdown.request_stop(Stop.from_error(error))
                return

    async def _read_jobs(self, job_ids: Sequence[str]) -> dict[str, JobView]:
        """Those of the jobs that the list shows. Where it can't be read, each is looked at by itself."""
        try:
            page = await self._api.list_page(page_size=BATCH_JOBS, job_ids=job_ids)
        except ApiError as error:
            if error.verdict in _ENDS_THE_RUN:
                raise
            return {}
        return {view.job_id: view for view in page.jobs}

    async def _cancel_job(self, job_id: str, shown: JobView | None, report_view: ReportView) -> None:
        async with self._calls:
            try:
                view = await self._get_job_with_retries(job_id) if shown is None else shown
                if not view.finished:
                    view = await self._call_cancel(job_id)
            except ApiError as error:
                if error.verdict in _ENDS_THE_RUN:
                    self._context.shutdown.request_stop(Stop.from_error(error))
                    return
                # Once a job may be missing: it may have been made a moment ago. It isn't marked as asked, so the next
                # round tries again.
                if error.verdict is Verdict.MISSING and job_id not in self._missing:
                    self._missing.add(job_id)
                    return
                self._warn_of_refusal(job_id, error)
            else:
                report_view(view)
            self._asked.add(job_id)  # also where it was refused: it is collected like any other then

    async def _get_job_with_retries(self, job_id: str) -> JobView:
        return await retry_transient(lambda: self._api.get(job_id), calls_max=CALLS_MAX)

    async def _call_cancel(self, job_id: str) -> JobView:
        """The job after its cancel. Where that is refused, the job itself says why: it may have ended, by an earlier
        call whose answer was lost, or with an answer."""
        refusals = 0
        while True:
            try:
                return await retry_transient(lambda: self._api.cancel(job_id), calls_max=CALLS_MAX)
            except ApiError as error:
                refusals += 1
                if error.verdict in _ENDS_THE_RUN:
                    raise
                view = await self._get_job_with_retries(job_id)
                if view.finished:
                    return view
                if refusals == REFUSALS_MAX:
                    raise

    def _warn_of_refusal(self, job_id: str, error: ApiError) -> None:
        """Once: the job stays in flight, and is collected like any other."""
        if not self._refused:
            self._context.notify_warning(
                f"job {printable_line(job_id)} can't be cancelled ({error}): what stays in flight is collected, for at "
                f"most limits.drain_s ({self._drain_s:g} s)"
            )
        self._refused = True


def describe_cancelled(snapshot: RunSnapshot) -> tuple[str, str]:
    """Why a cancelled run is incomplete, and a hint what to do."""
    jobs, elsewhere = snapshot.jobs_in_flight, snapshot.open_of_other_accounts
    creates = len(snapshot.open_attempts) - jobs - elsewhere
    reason = "cancelled"
    if jobs:
        reason += f"; {jobs:,} jobs are not known to have ended"
    if creates:
        reason += f"; of {creates:,} creates no job was found"
    if elsewhere:
        reason += f"; {elsewhere:,} jobs are other accounts', and were left alone"
    return reason, RESUME_HINT
