"""Creates a job for each attempt: the one place that may cost money.

The intent is durable before the POST is sent. After the call, an attempt goes to the poller (accepted), to the
reconciler (unknown whether accepted), ends here (refused: its files fail, or go back to the work queue), or is tried
again here under the same attempt (certainly not accepted, or repeated under its transaction ID).

An attempt stays ambiguous once one of its calls may have been accepted: that a later call is refused proves nothing
about the earlier one.
"""

from __future__ import annotations

from dataclasses import replace

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream

from classify_batch.engine.context import EngineContext, ProvenProject
from classify_batch.engine.intent import Intent, NoMoreCreatesError
from classify_batch.engine.outcome_recorder import fail_all_files
from classify_batch.engine.refused_create import ExpiredUploads, decide_refused_create
from classify_batch.engine.server_clocks import compare_server_clocks
from classify_batch.engine.shutdown import Stop
from classify_batch.errors import ApiError, ExitStatus, LeaseLostError, Verdict
from classify_batch.events import CreateAmbiguous
from classify_batch.lifecycle import Submitted, remainder
from classify_batch.limits.retry import retry_transient
from classify_batch.model import AmbiguousCreate, Attempt, AttemptKey, Job, JobView
from classify_batch.ports import Documents
from classify_batch.protocol.sanitize import printable_line
from classify_batch.vocabulary import FailureCode, Kind

PLAN_FULL_WAIT_S = 15.0
PLAN_FULL_WAITS_MAX = 40
"""40 waits of 15 s are ten minutes without a job of ours in flight: others fill the plan (the one that the API's vendor
sells, which allows so many jobs at once), or a monthly count is used up."""

NO_JOB_CREATES_MIN = 5
"""So many creates in a row without a job show that the API makes none. Fewer may lie hours apart: while all slots are
taken, nothing is created."""

AMBIGUOUS_CALLS_MAX = 2
"""A create is sent at most twice under its transaction ID when answers get lost. Then the list is read. No document
says how long the server remembers a transaction ID."""

CONFLICT = 409
"""The API knows the call, and a repetition gives no job: for a while, as long as the call may still be accepted and
its job be missing in the list. If it says so for longer, it goes on saying so, and only the list can show the job."""

CONFLICT_WAIT_S_MAX = 5.0
"""Such a call is repeated ever more rarely, at last once in so many seconds."""


class Submitter:
    """One for all submitting tasks of a run: each runs `work` over its own clones of the streams."""

    def __init__(
        self,
        context: EngineContext,
        project: ProvenProject,
        project_id: str | None,
        documents: Documents | None = None,
        account: str | None = None,
    ) -> None:
        """`project`: the project of the key; `project_id`: that of the run's jobs so far, None where none is known.
        `documents`: where the input is a folder: what its uploads became. `account`: whose key it is; None: the run's
        own."""
        self._account = account
        self._expired_uploads = None if documents is None else ExpiredUploads(documents)
        self._context = context
        self._api = context.api
        self._journal = context.journal
        self._recorder = context.recorder
        self._clock = context.clock
        self._slots = context.slots
        self._shutdown = context.shutdown
        self._limits = context.settings.limits
        self._accept_s = context.settings.accept_s
        self._settle_s = context.settings.limits.settle_s
        self._project = project
        self._project_id = project_id
        self._plan_full_lock = anyio.Lock()  # one attempt at a time asks: all of them would be refused together
        self._ambiguity_warned = False
        self._no_job_since: tuple[int, float] | None = None  # how many jobs had been made, and since when none was
        self._creates_without_job = 0
        self._conflict_since_s: dict[AttemptKey, float] = {}

    async def submit_attempts(
        self,
        attempts: ObjectReceiveStream[Attempt],
        submitted: ObjectSendStream[Job],
        ambiguous: ObjectSendStream[AmbiguousCreate],
    ) -> None:
        """Submits attempts, each of which holds a slot, until the stream ends."""
        async with attempts, submitted, ambiguous:
            await self._wait_for_project()
            async for attempt in attempts:
                await self._submit_attempt(attempt, submitted, ambiguous)

    async def _wait_for_project(self) -> None:
        """Waits until the project is proven, or the run stops: then the attempts are returned unsent."""
        async with anyio.create_task_group() as tasks:

            async def give_up() -> None:
                await self._shutdown.creating_ended.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(give_up)
            await self._project.wait_until_proven()
            tasks.cancel_scope.cancel()

    async def _submit_attempt(
        self, attempt: Attempt, submitted: ObjectSendStream[Job], ambiguous: ObjectSendStream[AmbiguousCreate]
    ) -> None:
        with Intent(self._journal, self._clock, self._shutdown, attempt, self._project.project_id) as intent:
            try:
                # Only LATER is repeated here, which is never said of a create of v1 that may have been accepted.
                view = await retry_transient(lambda: self._create_job(intent))
            except NoMoreCreatesError:
                if self._shutdown.cancelling and intent.attempt.ambiguous and self._api.idempotent:
                    # Its job, if there is one, is to be cancelled: it is looked for, and the create isn't repeated.
                    last_sent_s = anyio.current_time()
                    await ambiguous.send(AmbiguousCreate(intent.attempt, last_sent_s, self._accept_s))
                else:
                    self._return_unsent(intent.attempt)
            except ApiError as error:
                await self._handle_failed_create(intent.attempt, error, ambiguous)
            except LeaseLostError:
                # Whoever comes next finds the intent, and out that nothing came of it: it is theirs to write.
                self._leave_to_later_process(intent.attempt)
            else:
                job = self._record_accepted(intent.attempt, view)
                if job is None:
                    return
                await submitted.send(job)
                if not self._api.idempotent:
                    # If the job ID is lost in a kill, a later process has to search for the job.
                    await self._journal.wait_durable()

    async def _handle_failed_create(
        self, attempt: Attempt, error: ApiError, ambiguous: ObjectSendStream[AmbiguousCreate]
    ) -> None:
        """What follows a create that failed. Uploads that expired meanwhile are no fault of the files: a new attempt
        brings them again."""
        create, expired = self._as_ambiguous_create(attempt, error), False
        if self._expired_uploads is not None and error.verdict is Verdict.REFUSED:
            try:
                expired = await self._expired_uploads.were_reason(attempt, error)
            except ApiError as unreadable:  # why they were refused stays unknown
                error = unreadable
        if create is not None:
            await ambiguous.send(replace(create, upload_expired=expired))
        elif expired and not attempt.ambiguous:
            again = remainder(attempt.part, attempt.positions)
            self._recorder.end_attempt(attempt, Kind.REJECTED, requeued=again, free=True)
            self._slots.release()
        else:
            self._end_or_stop(attempt, error)

    def _as_ambiguous_create(self, attempt: Attempt, error: ApiError) -> AmbiguousCreate | None:
        """What the reconciler has to find out after a failed create; None where it was certainly not accepted."""
        last_sent_s = anyio.current_time()  # too late is safe; too early would end the wait too soon
        if error.verdict is Verdict.AMBIGUOUS:
            self._report_ambiguous_create(attempt, error)
            conflict_s = self._conflict_for_s(attempt, error, last_sent_s)
            refusal = str(error) if conflict_s >= self._accept_s + self._settle_s else ""
            wait_s = min(CONFLICT_WAIT_S_MAX, conflict_s / 2)
            return AmbiguousCreate(attempt, last_sent_s, self._accept_s, refusal, again_from_s=last_sent_s + wait_s)
        if error.verdict is Verdict.REFUSED and attempt.ambiguous and self._api.idempotent:
            return AmbiguousCreate(attempt, last_sent_s, self._accept_s, refusal=str(error))
        return None

    def _conflict_for_s(self, attempt: Attempt, error: ApiError, now_s: float) -> float:
        """For how long the API has refused to repeat a call that it knows."""
        if error.status != CONFLICT or not self._api.idempotent:
            self._conflict_since_s.pop(attempt.key, None)
            return 0.0
        return now_s - self._conflict_since_s.setdefault(attempt.key, now_s)

    async def _create_job(self, intent: Intent) -> JobView:
        """Creates the job. Where the plan allows no more jobs at once, it waits for one to end."""
        try:
            return await self._call_create(intent)
        except ApiError as error:
            if error.verdict is not Verdict.PLAN_FULL:
                raise
        # Before the wait: no further attempt may take a slot in a plan that is full.
        self._slots.record_plan_full()
        async with self._plan_full_lock:
            return await self._create_when_plan_has_room(intent)

    async def _create_when_plan_has_room(self, intent: Intent) -> JobView:
        """Tries again whenever one of our jobs has ended, one attempt at a time. Gives up after ten minutes in which
        none of our jobs was in flight."""
        tries = 0
        while True:
            try:
                return await self._call_create(intent)
            except ApiError as error:
                if error.verdict is not Verdict.PLAN_FULL:
                    raise
                if tries == PLAN_FULL_WAITS_MAX:
                    words, hint = str(error), "wait for the plan's count, or raise it"
                    raise ApiError("create", Verdict.PERSON, words, status=error.status, hint=hint) from error
            # After a stop this returns at once, and the next call ends in `about_to_send`, before anything leaves.
            ended = await self._wait_for_job_to_end(PLAN_FULL_WAIT_S)
            tries = 0 if ended or self._journal.jobs_in_flight else tries + 1

    async def _wait_for_job_to_end(self, within_s: float) -> bool:
        """Waits for one of our jobs to end, for at most `within_s`, and only while creates may be sent. Whether one
        ended."""
        ended = False
        with anyio.move_on_after(within_s):
            async with anyio.create_task_group() as tasks:

                async def give_up() -> None:
                    await self._shutdown.creating_ended.wait()
                    tasks.cancel_scope.cancel()

                tasks.start_soon(give_up)
                await self._slots.wait_for_change()
                ended = True
                tasks.cancel_scope.cancel()
        return ended

    async def _call_create(self, intent: Intent) -> JobView:
        try:
            return await self._api.create(intent.attempt, intent.make_durable)
        except ApiError as error:
            intent.mark_answered(ambiguous=error.ambiguous)
            if error.verdict is Verdict.LATER and intent.ambiguous_calls >= AMBIGUOUS_CALLS_MAX:
                raise as_ambiguous(error) from error
            raise

    def _record_accepted(self, attempt: Attempt, view: JobView) -> Job | None:
        """Records the attempt's job. None where the API returned a job that belongs to another attempt: the run
        stops."""
        holder = self._journal.attempt_of_job(view.job_id)
        if holder not in (None, attempt.key):
            self._leave_to_later_process(attempt)
            self._shutdown.request_stop(stop_for_shared_job(view.job_id))
            return None
        at_s = self._clock.wall_s()
        self._conflict_since_s.pop(attempt.key, None)
        if self._expired_uploads is not None:
            self._expired_uploads.forget_attempt(attempt)
        compare_server_clocks(self._context, attempt.server_s, view)
        self._journal.record(Submitted(attempt.key, view.job_id, at_s, view.project_id, view.created_at_s))
        if self._project_id is None:
            self._project_id = view.project_id
        elif view.project_id not in (None, self._project_id):
            self._shutdown.request_stop(
                Stop(
                    f"job {printable_line(view.job_id)} was made in project {printable_line(view.project_id)}, and the "
                    f"run's jobs are in project {printable_line(self._project_id)}",
                    ExitStatus.PERSON,
                    "use the key and api.project_id that the run was begun with, then give the same command",
                    of_account=True,
                )
            )
        return Job(attempt, view.job_id, at_s)

    def _report_ambiguous_create(self, attempt: Attempt, error: ApiError) -> None:
        """Single ambiguous creates are reconciled. Where for long no create makes a job, the API is down for creates,
        though it can be read: the run stops."""
        self._context.events.notify(CreateAmbiguous(attempt.key.chunk, attempt.key.attempt, str(error)))
        if not self._ambiguity_warned:
            self._context.notify_warning(
                f"it is unknown whether a create was accepted: its job is looked for before it is sent again ({error})"
            )
        self._ambiguity_warned = True
        made, now_s = self._journal.jobs_made, anyio.current_time()
        if self._no_job_since is None or self._no_job_since[0] != made:
            self._no_job_since, self._creates_without_job = (made, now_s), 0
        self._creates_without_job += 1
        lasted_s = now_s - self._no_job_since[1]
        if lasted_s >= self._limits.patience_s and self._creates_without_job >= NO_JOB_CREATES_MIN:
            words = f"no create call made a job for {self._limits.patience_s:g} s; the last one: {error}"
            hint = "the API can be read, and makes no jobs now; the same command goes on later"
            self._shutdown.request_stop(Stop(words, hint=hint, collects=True, of_account=True))

    def _end_or_stop(self, attempt: Attempt, error: ApiError) -> None:
        if error.verdict is Verdict.REFUSED and attempt.ambiguous:
            # On v1 only an attempt that was sent again without a proof of its project is still ambiguous here.
            words = f"perhaps paid in another project: no read has shown which one the run's key speaks for; {error}"
            failures = fail_all_files(attempt, FailureCode.UNRESOLVED, words)
            self._recorder.end_attempt(attempt, Kind.COLLECTED, failures=failures)
            self._slots.release()
            return
        if error.verdict is Verdict.REFUSED:
            failures, requeued = decide_refused_create(attempt, error, self._account)
            self._recorder.end_attempt(attempt, Kind.REJECTED, failures=failures, requeued=requeued, free=True)
            self._slots.release()
            return
        if error.ambiguous:
            self._leave_to_later_process(attempt)
        else:
            self._return_unsent(attempt)
        collects = error.verdict in (Verdict.NO_CREDIT, Verdict.PERSON)
        self._shutdown.request_stop(Stop.from_error(error, collects=collects))

    def _return_unsent(self, attempt: Attempt) -> None:
        """Gives up an attempt that this process doesn't send any more. It ends, and its files wait again, only where a
        create can't be repeated and none of its calls can have been accepted. Otherwise it stays open: a later process
        repeats it under its transaction ID, or reconciles it."""
        if attempt.ambiguous or self._api.idempotent:
            self._leave_to_later_process(attempt)
            return
        self._slots.release()
        if attempt.since_s:
            # Without an intent in the journal there is nothing to end: for every reader its part still waits.
            self._recorder.end_attempt(attempt, Kind.REJECTED, requeued=(attempt.part,), free=True)

    def _leave_to_later_process(self, attempt: Attempt) -> None:
        self._slots.release()
        if attempt.since_s:
            self._shutdown.leave_open(attempt.key)


def as_ambiguous(error: ApiError) -> ApiError:
    """The same error, of a call that must not be repeated any more."""
    return ApiError(
        error.call, Verdict.AMBIGUOUS, str(error), status=error.status, detail=error.detail, hint=error.hint
    )


def stop_for_shared_job(job_id: str) -> Stop:
    return Stop(
        f"the API answered two creates with the same job ({printable_line(job_id)})",
        ExitStatus.PERSON,
        "report it to the vendor of the API; the same command finds out later what became of the other create",
        of_account=True,
    )
