"""Reads the answers of finished jobs, and commits one outcome per file: set arithmetic on file IDs.

Answered files are committed. Files without an answer are sent again in a smaller part, within `limits.attempts`. A job
that failed is sent once more as it is, and then split. All that follows from one job is one line of the journal.

Results may lag behind the end of a job, and a file that is sent again is paid again. So a job that leaves a file
without an answer is read again until `settle_s` after its end was seen, and a failed job is polled once more then. Such
jobs wait beside the others, and delay none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import anyio
from anyio.abc import ObjectReceiveStream, TaskGroup

from classify_batch.engine.context import EngineContext
from classify_batch.engine.job_answers import (
    Settled,
    decide_answered_job,
    decide_cancelled_job,
    decide_failed_job,
    fail_overdue_job,
    fail_vanished_job,
    has_missing_answers,
)
from classify_batch.engine.shutdown import Stop
from classify_batch.engine.stop_reasons import stop_for_vanished_job
from classify_batch.errors import ApiError, ExitStatus, Verdict
from classify_batch.file_keys import file_key
from classify_batch.limits.retry import Backoff, retry_transient
from classify_batch.model import AnsweredFile, Answers, Job, JobView
from classify_batch.protocol.sanitize import printable_line
from classify_batch.vocabulary import JobStatus, Kind

_MAY_PASS_SOON = frozenset({Verdict.LATER, Verdict.MISSING})
"""A job that the list shows as finished may be 404 elsewhere for a short time."""

_OF_ONE_JOB = frozenset({Verdict.MISSING, Verdict.REFUSED})

RESULTS_CALLS_MAX = 12
"""Some minutes of waits: a brief outage of the results alone passes meanwhile."""

LAST_CALLS_MAX = 3

OTHERS_MAX = 20
"""So many other jobs are tried, to distinguish one job whose results can't be read from an outage of all results."""

UNREADABLE_MAX = 3
"""So many of them may fail as that job does: in an outage each call may last as long as its timeout."""

RATE_LIMITED = 429

READ_AGAIN_S_FIRST = 1.0

WAITING_JOBS_MAX = 1000
"""How many jobs may wait for late results side by side. Beyond that, the collectors wait for them."""


class Collector:
    """One for all collecting tasks of a run: each runs `work` over its own clone of the stream."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._api = context.api
        self._journal = context.journal
        self._recorder = context.recorder
        self._shutdown = context.shutdown
        self._specs = context.settings.specs
        self._limits = context.settings.limits
        self._can_cancel = context.settings.api.capabilities.can_cancel
        self._late_slots = anyio.Semaphore(WAITING_JOBS_MAX)
        self._results_read = 0
        self._unread = set[str]()  # the keys of jobs whose results were asked for, and haven't come
        self._random = Random()  # noqa: S311 - no secret
        self._odd_confidence_warned = False

    async def collect_finished_jobs(self, finished: ObjectReceiveStream[Job]) -> None:
        """Collects until the stream ends."""
        async with finished, anyio.create_task_group() as tasks:
            async for job in finished:
                try:
                    await self._collect_job(job, tasks)
                except ApiError as error:
                    self._shutdown.request_stop(Stop.from_error(error))

    async def _collect_job(self, job: Job, tasks: TaskGroup) -> None:
        view = job.finished
        if view is None:
            # The poller gave it up: nobody saw its end.
            self._end_attempt(
                job, Settled(failures=fail_vanished_job(job) if job.attempt.part.recheck else fail_overdue_job(job))
            )
        elif job.attempt.part.recheck and view.answered:
            answers = await self._read_results_of_recheck(view, job.attempt.api_ids)
            if await self._may_get_more_answers(job, view, answers):
                await self._collect_later(job, tasks)
            else:
                self._settle_answered_job(job, view, answers)
        elif not view.answered:
            await self._collect_later(job, tasks)
        else:
            answers = await self._read_results(view, job.attempt.api_ids)
            # What the API withholds doesn't come by waiting.
            if answers.withheld_for_good or not has_missing_answers(answers, job.attempt.api_ids):
                self._settle_answered_job(job, view, answers)
            else:
                await self._collect_later(job, tasks)

    # --- What may come late -----------------------------------------------------------------------------------------

    async def _collect_later(self, job: Job, tasks: TaskGroup) -> None:
        await self._late_slots.acquire()  # here, not in the task: who is full keeps the poller from sending more
        tasks.start_soon(self._wait_and_settle, job, anyio.current_time())

    async def _wait_and_settle(self, job: Job, seen_s: float) -> None:
        """`seen_s`: the event loop's time at which the job's end was seen."""
        view, asked = job.finished, job.attempt.api_ids
        try:
            if view is not None and view.answered:
                answers = await self._wait_for_missing_answers(view, asked, seen_s)
                if not await self._may_get_more_answers(job, view, answers):
                    self._settle_answered_job(job, view, answers)
                    return
            elif view is not None:
                await anyio.sleep(self._limits.settle_s)
            if view is not None:
                job = replace(job, finished=await self._poll_ended_job_again(view))
                view, seen_s = job.finished, anyio.current_time()  # only now is it known that the job has answers
            if view is None:
                self._end_attempt(job, Settled(failures=fail_overdue_job(job)))
            elif view.answered:
                self._settle_answered_job(job, view, await self._wait_for_missing_answers(view, asked, seen_s))
            else:
                self._settle_failed_job(job, view)
        except ApiError as error:
            self._shutdown.request_stop(Stop.from_error(error))
        finally:
            self._late_slots.release()

    async def _wait_for_missing_answers(self, view: JobView, asked: Sequence[str], seen_s: float) -> Answers:
        """Reads a job's results until all files are answered, at last `settle_s` after its end was seen."""
        final_s = seen_s + self._limits.settle_s
        backoff = Backoff(READ_AGAIN_S_FIRST, max(READ_AGAIN_S_FIRST, self._limits.settle_s), jitter=0.0)
        attempt = 0
        while True:
            attempt += 1
            wait_s = backoff.wait_s(attempt)
            remaining_s = max(0.0, final_s - anyio.current_time())
            await anyio.sleep(min(wait_s, remaining_s))
            answers = await self._read_results(view, asked)
            # A reading that began at `final_s` or later shows all that will come.
            if wait_s >= remaining_s or answers.withheld_for_good or not has_missing_answers(answers, asked):
                return answers

    async def _may_get_more_answers(self, job: Job, view: JobView, answers: Answers) -> bool:
        """Whether files have no answer since the job is in flight after all: a lagging or hasty replica may show an end
        and take it back, and what is sent again then is paid again."""
        if answers.withheld_for_good or not has_missing_answers(answers, job.attempt.api_ids):
            return False
        return await self._is_in_flight(view)

    async def _is_in_flight(self, view: JobView) -> bool:
        """Whether a job that was seen to have ended shows itself as in flight. One that isn't shown has ended."""
        try:
            now = await retry_transient(lambda: self._api.get(view.job_id), calls_max=RESULTS_CALLS_MAX)
        except ApiError as error:
            if error.verdict not in (Verdict.MISSING, Verdict.REFUSED):
                raise
            return False
        return not now.finished

    async def _poll_ended_job_again(self, view: JobView) -> JobView | None:
        """Polls a job once more. If the API doesn't show it any more, it stays as it was seen. If it is in flight after
        all, it is waited for; None: that takes longer than `limits.job_timeout_s`."""
        until_s = anyio.current_time() + self._limits.job_timeout_s
        while anyio.current_time() < until_s:
            try:
                now = await retry_transient(lambda: self._api.get(view.job_id), calls_max=RESULTS_CALLS_MAX)
            except ApiError as error:
                if error.verdict not in (Verdict.MISSING, Verdict.REFUSED):
                    raise
                return view
            if now.finished:
                return now
            await anyio.sleep(max(READ_AGAIN_S_FIRST, self._limits.settle_s))
        return None

    async def _read_results(self, view: JobView, asked: Sequence[str]) -> Answers:
        """A finished job's results. Where the API hands out other jobs' results and not this one's, its files fail as
        perhaps paid, and `--retry-failed` reads them again: one job must not stop the run at every start."""
        try:
            return await self._request_results(view, asked, retry_on=_MAY_PASS_SOON)
        except ApiError as error:
            if error.verdict not in _OF_ONE_JOB:
                raise
            if await self._is_unfinished_or_stops(view):
                return Answers(())  # there are none yet
            return Answers((), f"the API doesn't hand out the results of job {printable_line(view.job_id)} ({error})")

    async def _request_results(
        self, view: JobView, asked: Sequence[str], retry_on: frozenset[Verdict] = frozenset({Verdict.LATER})
    ) -> Answers:
        """A finished job's results.

        Raises:
            ApiError: they can't be had now. REFUSED or MISSING: for a reason that lies in this job.
        """
        read_before = self._results_read

        async def request() -> Answers:
            nonlocal read_before
            read_before = self._results_read
            return await self._api.results(view, asked)

        self._unread.add(file_key(view.job_id))
        try:
            answers = await retry_transient(request, retry_on=retry_on, calls_max=RESULTS_CALLS_MAX)
        except ApiError as error:
            if not may_lie_in_its_job(error):
                raise
            # Where others' results came during the last call, or come now, the job is to blame, and else the API: what
            # came earlier says nothing of an outage that has begun since.
            if self._results_read == read_before and not await self._can_read_another_job():
                raise
            answers = await self._request_results_last(view, asked)
        self._unread.discard(file_key(view.job_id))
        self._results_read += 1
        return answers

    async def _request_results_last(self, view: JobView, asked: Sequence[str]) -> Answers:
        """Once more, since an outage may have ended only now. Raises ApiError as `_request_results` does."""
        try:
            return await retry_transient(lambda: self._api.results(view, asked), calls_max=LAST_CALLS_MAX)
        except ApiError as error:
            if not may_lie_in_its_job(error):
                raise
            raise ApiError(error.call, Verdict.REFUSED, str(error), status=error.status, detail=error.detail) from error

    async def _can_read_another_job(self) -> bool:
        """Whether the results of another one of the latest jobs can be read now. What the API says of jobs in flight
        shows nothing: it may be an error or no answers. Nor do those that couldn't be read, or are just being read."""
        others = [
            each
            for each in await self._journal.latest_jobs()
            if file_key(each) not in self._unread and not self._journal.is_in_flight(each)
        ]
        # Any of them: those that an earlier process couldn't read are often next to each other.
        self._random.shuffle(others)
        unreadable = 0
        for other in others[:OTHERS_MAX]:
            try:
                await self._api.results(JobView(other, JobStatus.SUCCESS), ())
            except ApiError as error:
                unreadable += error.verdict not in _OF_ONE_JOB
                if unreadable == UNREADABLE_MAX:
                    break
            else:
                return True
        return False

    async def _is_unfinished_or_stops(self, view: JobView) -> bool:
        """Whether a job whose results are refused is in flight after all. Stops the run where the API doesn't show the
        job itself: then the key may be of another project.

        Raises:
            ApiError: the job isn't there, or nobody can say.
        """
        try:
            now = await retry_transient(lambda: self._api.get(view.job_id), calls_max=RESULTS_CALLS_MAX)
        except ApiError as error:
            if error.verdict is Verdict.REFUSED:
                return False  # the list shows it, though the API refuses to show it alone
            if may_lie_in_its_job(error) and await self._can_read_another_job():
                return False  # likewise: neither it nor its results can be had, as on v2, where they are one
            if error.verdict is Verdict.MISSING:
                self._shutdown.request_stop(stop_for_vanished_job(view.job_id, error))
            raise
        return not now.finished

    async def _read_results_of_recheck(self, view: JobView, asked: Sequence[str]) -> Answers:
        """Reads an old job's results: they don't lag any more. Where they can't be had, the run goes on without
        them."""
        try:
            return await self._request_results(view, asked)
        except ApiError as error:
            if error.verdict not in _OF_ONE_JOB:
                raise
            return Answers((), f"the API doesn't hand the job's results out any more ({error})")

    # --- The end of an attempt --------------------------------------------------------------------------------------

    def _settle_answered_job(self, job: Job, view: JobView, answers: Answers) -> None:
        settled = decide_answered_job(job.attempt, answers.items, self._limits.attempts, view, answers.withheld)
        if settled.only_foreign is None:
            self._end_attempt(job, settled, answers.billed)
            return
        # If the server spells IDs in a way that we can't match, none is ever answered, and all would be paid again.
        self._shutdown.leave_open(job.attempt.key)
        self._shutdown.request_stop(stop_for_foreign_answers(job, settled.only_foreign))

    def _settle_failed_job(self, job: Job, view: JobView) -> None:
        if view.status == JobStatus.CANCELLED and self._can_cancel and self._journal.was_cancelled(job.attempt.key):
            self._end_attempt(job, decide_cancelled_job(job.attempt), view.credits)
            return
        suspect = self._journal.other_file_suspected(job.attempt.key)
        self._end_attempt(
            job, decide_failed_job(job.attempt, view, self._limits.attempts, other_file_suspected=suspect), view.credits
        )

    def _end_attempt(self, job: Job, settled: Settled, billed: float | None = None) -> None:
        for words in settled.warnings:
            self._context.notify_warning(f"job {printable_line(job.job_id)}: {words}")
        if not self._odd_confidence_warned and (odd := settled.odd_confidences):
            # Once: who writes one so writes all of them so.
            self._odd_confidence_warned = True
            self._context.notify_warning(
                f"job {printable_line(job.job_id)}: {odd} answers have a confidence that is no number: it is null "
                "there, and in all others like that"
            )
        if self._context.price.learn_bill(job.attempt.file_ids, billed):
            self._context.notify_warning(
                f"job {printable_line(job.job_id)} of parse job {printable_line(job.attempt.file_ids[0])} was billed "
                f"{billed:,.10g} credits, though the vendor says that parse jobs cost nothing: from now on each counts "
                "like a file"
            )
        view, mode = job.finished, self._specs.spec_of_part(job.attempt.part).mode
        all_requeued = bool(settled.requeued) and not settled.answers and not settled.failures
        bad = view is not None and not view.answered
        self._recorder.end_attempt(
            job.attempt,
            Kind.SPLIT if all_requeued and bad else Kind.COLLECTED,
            job_id=job.job_id,
            answers=[AnsweredFile(file_id, answer, job.job_id, mode) for file_id, answer in settled.answers],
            failures=settled.failures,
            requeued=settled.requeued,
            free=view is not None
            and view.status == JobStatus.ERROR,  # the vendor says that ERROR is free, and nothing about CANCELLED
            billed=billed,
        )


def may_lie_in_its_job(error: ApiError) -> bool:
    """Whether it depends on what is said of other jobs if a call about one failed for a reason that lies in it. A 429
    never does."""
    return error.verdict is Verdict.LATER and error.status != RATE_LIMITED


def stop_for_foreign_answers(job: Job, foreign: str) -> Stop:
    asked = job.attempt.api_ids[0]
    return Stop(
        f"job {printable_line(job.job_id)} answers only files that it was not asked for, like "
        f"{printable_line(foreign)!r}; it was asked for {printable_line(asked)!r} and others",
        ExitStatus.PERSON,
        "the API seems to spell these file IDs in another way: give them as its file list does, in a new run "
        "directory; nothing was sent again",
    )
