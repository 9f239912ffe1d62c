"""Polls jobs as the schedule decides, and sends finished ones to the collectors.

Sending waits where the collectors are behind: nothing is polled meanwhile, no slot gets free, and so no more is
submitted than can be collected.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import replace

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream

from classify_batch.engine.context import EngineContext
from classify_batch.engine.poller.watch import PollJobs, PollList, PollSchedule, Wait, Watched
from classify_batch.engine.server_clocks import compare_server_clocks
from classify_batch.engine.shutdown import Stop
from classify_batch.engine.stop_reasons import stop_for_vanished_job
from classify_batch.errors import ApiError, Verdict
from classify_batch.lifecycle import Finished
from classify_batch.limits import Gate
from classify_batch.limits.retry import retry_transient
from classify_batch.model import Job, JobPage, JobView
from classify_batch.protocol.sanitize import printable_line
from classify_batch.vocabulary import KNOWN_STATUSES, JobStatus

PAGE_SIZE = 100
PAGE_SIZE_MIN = 10
PAGE_JOBS = 3
"""Entries of the list that are asked for, for each job in flight: where the list is newest first, few jobs last long
enough to fall behind so many."""

INHERITED_POLLED_S_MIN = 60.0
"""How long a process polls another one's job before it may be overdue."""

JOB_POLLS_AT_ONCE = 8

JOB_CALLS_MAX = 3
"""Then the others are polled: all wait for a job that the API can't show."""

LIST_FAILURES_MAX = 4
"""After so many failures in a row, jobs are polled one by one for a while: those polls show whether the API is down.
Retrying the list instead would leave every job unpolled meanwhile. Where one answer of ten is bad, two in a row come
often, and each time all jobs would be polled by their IDs for seconds: 2.5 polls a job instead of 0.9."""

UNKNOWN_STATUSES_MAX = 10


class Poller:
    """Polls all jobs of a run that are in flight."""

    def __init__(self, context: EngineContext, schedule: PollSchedule, gate: Gate) -> None:
        self._context = context
        self._api = context.api
        self._journal = context.journal
        self._clock = context.clock
        self._slots = context.slots
        self._shutdown = context.shutdown
        self._limits = context.settings.limits
        self._schedule = schedule
        self._gate = gate
        self._page_size = PAGE_SIZE
        self._first_token: str | None = None
        self._list_failures = 0
        self._changed = anyio.Event()
        self._rates_have_changed = False
        self._reported: deque[JobView] = deque()
        # By its ID, the further attempts of a job. In a job that was found, files of several chunks may be: a retry
        # reads it again for each of these.
        self._sharing: dict[str, list[Job]] = {}
        self._unknown_statuses = set[str]()

    @property
    def jobs_in_flight(self) -> int:
        """How many jobs are polled."""
        return len(self._schedule.jobs)

    def jobs_left_s(self, to_be_made: int, *, none_follow: bool) -> float | None:
        """See `PollSchedule.jobs_left_s`."""
        return self._schedule.jobs_left_s(anyio.current_time(), to_be_made, none_follow=none_follow)

    def rates_changed(self) -> None:
        """The rate limits were changed: the schedule is computed anew."""
        self._rates_have_changed = True
        self._changed.set()

    def report_view(self, view: JobView) -> None:
        """Takes what another call has shown of a job, as if it had been polled now."""
        self._reported.append(view)
        self._changed.set()

    async def poll_until_cancelled(self, submitted: ObjectReceiveStream[Job], finished: ObjectSendStream[Job]) -> None:
        """Polls the jobs that come, until it is cancelled: only the orchestrator knows when no more will come."""
        async with submitted, finished, anyio.create_task_group() as tasks:
            tasks.start_soon(self._receive_submitted, submitted)
            while True:
                await self._poll_once(finished)

    async def _receive_submitted(self, submitted: ObjectReceiveStream[Job]) -> None:
        async for job in submitted:
            if job.job_id in self._schedule.jobs:
                self._sharing.setdefault(job.job_id, []).append(job)
                continue
            earlier_s = 0.0 if job.timed else max(0.0, self._clock.wall_s() - job.submitted_at_s)
            if self._schedule.add_job(job, anyio.current_time(), earlier_s):
                self._changed.set()

    async def _poll_once(self, finished: ObjectSendStream[Job]) -> None:
        if self._rates_have_changed:
            self._rates_have_changed = False
            self._schedule.rates_changed(anyio.current_time(), self._gate.headroom)
        while self._reported:
            await self._handle_view(self._reported.popleft(), finished)
        try:
            match self._schedule.choose_action(anyio.current_time(), self._gate.headroom):
                case PollList(pages_max):
                    await self._poll_list(pages_max, finished)
                case PollJobs(job_ids):
                    await self._poll_jobs(job_ids, finished)
                case Wait(until_s):
                    await self._wait_for_news_until(until_s)
        except ApiError as error:
            self._shutdown.request_stop(Stop.from_error(error))
            await anyio.sleep_forever()  # the stop is under way: returning would close the streams under the others

    async def _wait_for_news_until(self, until_s: float) -> None:
        self._changed = anyio.Event()
        # Asked after the event was made: what was reported before has set the old one.
        if self._reported:
            return
        with anyio.CancelScope(deadline=until_s):
            await self._changed.wait()

    # --- The job list -----------------------------------------------------------------------------------------------

    async def _poll_list(self, pages_max: int, finished: ObjectSendStream[Job]) -> None:
        began_s = anyio.current_time()
        expected = set(self._schedule.jobs)  # a copy: a page can't have missed a job that came after it
        unseen = set(expected)
        shown: list[set[str]] = []
        tokens = [self._first_token]  # None as the first is the list's front; behind a page it is the end
        while len(shown) < pages_max and unseen and (not shown or tokens[-1] is not None):
            page = await self._read_list_page(tokens[-1], expected)
            if page is None:
                self._count_list_failure()
                return
            self._list_failures = 0
            tokens.append(page.next_page_token)
            shown.append({view.job_id for view in page.jobs} & unseen)
            unseen -= shown[-1]
            now_s = anyio.current_time()
            for view in page.jobs:
                self._warn_of_unknown_status(view)
                if view.finished or self._is_overdue(view.job_id, now_s):
                    await self._handle_view(view, finished)
        self._first_token = token_to_begin_with(tokens, shown, len(expected))
        now_s = anyio.current_time()
        self._schedule.record_list_poll(shown, expected, now_s, now_s - began_s)

    def _count_list_failure(self) -> None:
        self._first_token = None  # it may have gone stale: no document says how long a token lives
        self._list_failures += 1
        if self._list_failures < LIST_FAILURES_MAX:
            self._schedule.record_list_failure(anyio.current_time())
        else:
            self._schedule.rest_from_list(anyio.current_time())

    async def _read_list_page(self, token: str | None, job_ids: Collection[str]) -> JobPage | None:
        """A page of the list; None where the API refuses to list, or fails. A page size that is refused is halved, and
        stays so."""
        while True:
            size = min(self._page_size, max(PAGE_SIZE_MIN, PAGE_JOBS * len(job_ids)))
            try:
                return await self._api.list_page(page_size=size, page_token=token, job_ids=job_ids)
            except ApiError as error:
                # No reason to stop: without a list, jobs are polled one by one.
                if error.verdict not in (Verdict.REFUSED, Verdict.MISSING, Verdict.PERSON, Verdict.LATER):
                    raise
                # With a token, it may be the token that is refused: that says nothing about the size.
                if error.verdict is not Verdict.REFUSED or self._page_size <= PAGE_SIZE_MIN or token is not None:
                    return None
                self._page_size //= 2

    # --- Single jobs ------------------------------------------------------------------------------------------------

    async def _poll_jobs(self, job_ids: tuple[str, ...], finished: ObjectSendStream[Job]) -> None:
        limiter = anyio.CapacityLimiter(JOB_POLLS_AT_ONCE)
        errors: list[ApiError] = []  # kept until all have been polled: one job's error must cancel no other's poll

        async def poll_job(job_id: str) -> None:
            async with limiter:
                try:
                    view = await retry_transient(lambda: self._api.get(job_id), calls_max=JOB_CALLS_MAX)
                    await self._handle_view(view, finished)
                    self._schedule.record_job_poll(job_id, anyio.current_time())
                except ApiError as error:
                    if error.verdict is Verdict.MISSING:
                        await self._handle_missing_job(job_id, error, finished)
                    elif error.verdict in (Verdict.REFUSED, Verdict.LATER):
                        await self._handle_failed_poll(job_id, error, finished)
                    else:
                        errors.append(error)

        async with anyio.create_task_group() as tasks:
            for job_id in job_ids:
                tasks.start_soon(poll_job, job_id)
        if errors:
            raise errors[0]

    async def _handle_missing_job(self, job_id: str, error: ApiError, finished: ObjectSendStream[Job]) -> None:
        """A 404 for a job that the API has made for us: it is not shown yet, or the key is of another project. It is
        never a reason to send its files again."""
        now_s = anyio.current_time()
        watched = self._schedule.jobs[job_id]
        since_s = now_s if watched.missing_since_s is None else watched.missing_since_s
        self._schedule.record_job_poll(job_id, now_s)
        watched.missing_since_s = since_s  # after `record_job_poll`, which clears it
        if now_s - since_s < self._limits.settle_s:
            return
        if watched.job.is_recheck:
            await self._give_up_job(job_id, finished)
            return
        self._shutdown.request_stop(stop_for_vanished_job(job_id, error))

    async def _handle_failed_poll(self, job_id: str, error: ApiError, finished: ObjectSendStream[Job]) -> None:
        """The API refuses to show this one job by its ID, or can't for now: the list may show it, until it is overdue.
        While nothing else is answered, either, that says nothing of the job."""
        now_s = anyio.current_time()
        watched = self._schedule.jobs[job_id]
        self._schedule.record_failed_job_poll(job_id, now_s)
        is_about_job = error.verdict is Verdict.REFUSED or not self._gate.broken
        if is_about_job and is_overdue(watched, now_s, self._limits.job_timeout_s):
            await self._give_up_job(job_id, finished)

    # --- What was seen ----------------------------------------------------------------------------------------------

    async def _handle_view(self, view: JobView, finished: ObjectSendStream[Job]) -> None:
        watched = self._schedule.jobs.get(view.job_id)
        if watched is None:
            return
        compare_server_clocks(self._context, watched.job.attempt.server_s, view)
        self._warn_of_unknown_status(view)
        if view.finished:
            jobs, duration_s = self._take_finished(view)
            message = None if view.error_message is None else printable_line(view.error_message)
            for job in jobs:
                self._journal.record(Finished(job.attempt.key, view.status, duration_s, message))
                # The slot is freed before the send, which waits where the collectors are behind.
                self._slots.release()
            for job in jobs:
                await finished.send(replace(job, finished=view))
        elif is_overdue(watched, anyio.current_time(), self._limits.job_timeout_s):
            unknown = "" if view.status in KNOWN_STATUSES else view.status
            await self._give_up_job(view.job_id, finished, unknown)

    def _warn_of_unknown_status(self, view: JobView) -> None:
        """Once for each status, and not for any number of them: its job is waited for like one in flight."""
        if view.status in KNOWN_STATUSES or view.status in self._unknown_statuses:
            return
        if len(self._unknown_statuses) < UNKNOWN_STATUSES_MAX:
            self._unknown_statuses.add(view.status)
            self._context.notify_warning(
                f"job {printable_line(view.job_id)} has the status {printable_line(view.status)!r}, which is unknown: "
                "it is taken for not finished"
            )

    def _is_overdue(self, job_id: str, now_s: float) -> bool:
        watched = self._schedule.jobs.get(job_id)
        return watched is not None and is_overdue(watched, now_s, self._limits.job_timeout_s)

    def _take_finished(self, view: JobView) -> tuple[list[Job], float | None]:
        """The job of a view, for each attempt that has it, and how long it took, where that says how long jobs take."""
        if view.status == JobStatus.CANCELLED:
            job, duration_s = self._schedule.remove_unfinished(view.job_id), None
        else:
            job, duration_s = self._schedule.remove_finished(view.job_id, anyio.current_time())
        return [job, *self._sharing.pop(view.job_id, ())], duration_s

    async def _give_up_job(self, job_id: str, finished: ObjectSendStream[Job], unknown_status: str = "") -> None:
        """Sends a job on without a view, since none has shown its end: it is overdue, or missing for good."""
        jobs = [self._schedule.remove_unfinished(job_id), *self._sharing.pop(job_id, ())]
        for job in jobs:
            self._slots.release()
            await finished.send(replace(job, unknown_status=unknown_status))


def is_overdue(watched: Watched, now_s: float, job_timeout_s: float) -> bool:
    """Whether a job that is in flight takes too long. What it took in another process is known by the wall clock alone,
    which may have been set since: so it is polled for a while by this one in any case."""
    here_s = now_s - watched.since_s
    if watched.earlier_s and here_s < min(job_timeout_s, INHERITED_POLLED_S_MIN):
        return False
    return here_s + watched.earlier_s > job_timeout_s


def token_to_begin_with(tokens: list[str | None], shown: list[set[str]], expected: int) -> str | None:
    """The page token with which the next reading of the list begins: that of the first page that showed a watched job.
    Where no page did, the next readings go on down the list until they find ours, or its end: a list may be oldest
    first.

    `tokens`: those of the pages that were read, and that of the page behind them.
    """
    first = next((at for at, page in enumerate(shown) if page), None)
    if first is None:
        return tokens[-1]
    # Where less than half was shown, the list may have moved on: then from its front again.
    by_half = 2 * sum(map(len, shown)) >= expected
    return tokens[first] if by_half else None
