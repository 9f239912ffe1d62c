"""Starts the stages of a run in one task group, connects them by streams, and decides when the run is over.

    plan ─▶ work queue ─▶ submitters ─▶ poller ─▶ collectors ─▶ journal, results, failures
                ▲           │     ▲        ▲          │
                │           └▶ reconciler ─┘          │
                └── parts to send again ◀─────────────┘

The streams form a circle, so the run can't end by closing them: it is over when the journal says that every file has
its outcome, or when the run was stopped. An attempt takes a slot before it goes to the submitters, and the slot is free
again when the end of its job was seen. The poller waits for the collectors, so that no more is submitted than can be
collected.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import anyio
from anyio.abc import TaskGroup

from classify_batch.engine.canceller import Canceller, describe_cancelled
from classify_batch.engine.collector import Collector
from classify_batch.engine.context import EngineContext, PlannedRun
from classify_batch.engine.deadline import NO_DEADLINE, Deadline
from classify_batch.engine.discovered_limits import DiscoveredLimits
from classify_batch.engine.earlier_process import earlier_accept_s, known_project
from classify_batch.engine.event_queue import EventQueue, LogObserver, event_of
from classify_batch.engine.live_limits import LiveLimits
from classify_batch.engine.outcome_recorder import OutcomeRecorder
from classify_batch.engine.poller import Poller
from classify_batch.engine.poller.durations import Durations
from classify_batch.engine.poller.watch import PollSchedule
from classify_batch.engine.progress import Ending, Progress
from classify_batch.engine.project_proof import ProjectProof, learn_from_first_page
from classify_batch.engine.reconciler import Evidence, JobList, Reconciler, watch_own_jobs
from classify_batch.engine.retry_failed import read_failures, reopen_failed
from classify_batch.engine.run_end import RunEnd
from classify_batch.engine.sessions import opened_here
from classify_batch.engine.shutdown import Shutdown
from classify_batch.engine.stop_reasons import (
    only_other_accounts_remain,
    reason_to_stop,
    stop_of_broken_run,
    too_many_failures,
)
from classify_batch.engine.submit_only import SubmitOnly
from classify_batch.engine.submitter import Submitter
from classify_batch.engine.time_left import jobs_left_s
from classify_batch.engine.uploader import start_uploading
from classify_batch.engine.work_queue import PlannedFiles, WorkQueue
from classify_batch.errors import ExitStatus, StoreError
from classify_batch.events import Stopped
from classify_batch.lifecycle import Adopted, Closed, Ended, Fact, Reopened, Submitted
from classify_batch.limits import Gate, JobSlots
from classify_batch.limits.credit_budget import CreditBudget
from classify_batch.limits.reader_pace import ReaderPace
from classify_batch.model import AmbiguousCreate, Attempt, Job
from classify_batch.ports import Api, Clock, Observer
from classify_batch.rundir.journal.writer import JournalWriter
from classify_batch.rundir.lost_lines import answer_sizes, refuse_lost_lines
from classify_batch.rundir.manifest_json import Manifest, exit_status_of, manifest_of, write_manifest
from classify_batch.rundir.opened_run import cut_off_tails
from classify_batch.settings import Settings
from classify_batch.vocabulary import CREDITS, PARSE_JOBS_BILLED, CancelState, Kind, RunState

COLLECTORS_MAX = 16

UNBOUNDED = 1_000_000_000
"""Slots where `jobs_in_flight` is 0; also the size of a stream whose items each hold a slot, so that it never fills."""

UNCOLLECTED_MAX = 256
"""How many finished jobs may wait for a collector. At more, the poller waits: it frees no slot, so nothing new is
submitted."""

log = logging.getLogger("classify_batch")


class Orchestrator:
    """Brings a planned run from where earlier processes left it to its end, or to a stop.

    It opens nothing itself: it is given an open store whose lock is held, an open request gate, and an API.
    """

    def __init__(
        self,
        settings: Settings,
        api: Api,
        gate: Gate,
        clock: Clock,
        planned: PlannedRun,
        shutdown: Shutdown,
        observers: Sequence[Observer] = (),
        pace: ReaderPace | None = None,
    ) -> None:
        self._settings = settings
        self._api, self._gate = api, gate
        found, plan = self._found, self._plan = planned.found, planned.plan
        store = self._store = found.store
        self._clock, self._documents, self._shutdown = clock, planned.documents, shutdown
        self._run, self._snapshot = found.run, found.snapshot
        self._slots = JobSlots(settings.limits.jobs_in_flight or UNBOUNDED)
        self._events = EventQueue([LogObserver(), *observers])
        self._limits = DiscoveredLimits(gate, self._slots, found.snapshot, self._events)
        self._journal = JournalWriter(
            store,
            found.snapshot,
            clock,
            lambda: api.requests,
            self._act_on_fact,
            self._limits.current_limits,
            siblings=found.siblings,
        )
        self._budget = CreditBudget(settings.limits.max_credits)
        self._restore_budget()
        recorder = OutcomeRecorder(
            self._journal,
            clock,
            settings.specs,
            settings.escalation,
            settings.triage,
            bills=settings.api.capabilities.reports_bill,
            events=self._events,
        )
        self._context = EngineContext(
            settings, api, self._journal, recorder, clock, self._slots, shutdown, self._events
        )
        self._context.price.parse_jobs_are_free &= not found.snapshot.sums[PARSE_JOBS_BILLED]
        self._work_queue = WorkQueue(
            store,
            PlannedFiles(plan, bool(settings.plan.carry), planned.documents is not None),
            self._journal,
            self._slots,
            shutdown,
            self._budget,
            self._context.price,
            pace,
        )
        self._canceller = Canceller(self._context, found.snapshot)
        self._live_limits = LiveLimits(
            store, self._context, gate, self._budget, UNBOUNDED, self._record_cancelled, self._write_manifest
        )
        self._poller: Poller | None = None
        self._reconciler: Reconciler | None = None
        limits = settings.limits
        self._evidence = Evidence(settings.specs, settle_s=limits.settle_s, clock_spread_s=limits.clock_spread_s)
        self._own_jobs = watch_own_jobs(self._context, self._evidence)
        self._end = RunEnd(found.snapshot, shutdown, gate)
        self._lock_held_since_s = anyio.current_time()  # no call of an earlier process can leave after this
        self._started_at_s = clock.wall_s()

    # --- From outside -----------------------------------------------------------------------------------------------

    def progress(self) -> Progress:
        return Progress(
            files=self._run.files,
            outcomes=dict(self._snapshot.outcomes),
            types=dict(self._snapshot.types),
            jobs=self._snapshot.jobs,
            in_flight=self._slots.taken,
            slots=self._slots.total,
            ambiguous=0 if self._reconciler is None else self._reconciler.ambiguous_attempts,
            requests=self._api.requests,
            waiting_s=self._gate.waiting_s,
            down=self._gate.broken,
            paused=self._gate.paused,
            stopping=None if self._shutdown.stop is None else self._shutdown.stop.reason,
            jobs_left_s=jobs_left_s(self._poller, self._reconciler, self._work_queue, self._slots, self._gate),
            limited_per_s=self._gate.limited_per_s,
            noise_share=self._gate.noise_share,
            credits=self._budget.as_credits,
            uploads=None if self._documents is None else self._documents.uploads,
        )

    async def run(
        self,
        *,
        retry_failed: bool = False,
        deadline: Deadline = NO_DEADLINE,
        submit_only: bool = False,
        cancel: bool = False,
    ) -> Ending:
        """Runs until complete or stopped. However it ends, what is committed is whole, and the same directory can go
        on.

        `retry_failed`: failed files are reopened first. `deadline`: when creating ends; jobs in flight are then
        collected for at most `limits.drain_s`. `submit_only`: creates as many jobs as may be in flight at once, and
        leaves them to a later process. `cancel`: the run is cancelled. A cancel that an earlier process was asked for,
        and didn't carry out to its end, is carried out first in any case: the run ends with it, and the next call goes
        on.

        Raises:
            StoreError: the disk refused.
            InterruptedEarlyError: a stop was asked for while the failed files were read; nothing was changed.
        """
        try:
            if self._snapshot.cancel is CancelState.ASKED and not cancel:
                self._context.notify_warning(
                    "the run was cancelled, and that isn't finished: it is now; then the same command"
                )
                cancel = True
            if cancel:
                return await self._run_to_end(retry_failed=False, deadline=deadline, submit_only=False, cancel=True)
            return await self._run_to_end(retry_failed=retry_failed, deadline=deadline, submit_only=submit_only)
        finally:
            await self._events.deliver_remaining()  # shielded: observers hear of the end, too

    async def _run_to_end(
        self, *, retry_failed: bool, deadline: Deadline, submit_only: bool, cancel: bool = False
    ) -> Ending:
        await refuse_lost_lines(self._store, self._found, await answer_sizes(self._store))
        await cut_off_tails(self._store, self._found)  # first of all: nothing may be appended behind a torn tail
        if self._found.torn_bytes:
            self._context.notify_warning(f"the journal ended in {self._found.torn_bytes} torn bytes; they were cut off")
        failed: Reopened | None = None
        if retry_failed:
            files = self._run.files
            failed = await read_failures(self._store, self._snapshot, self._plan, files, self._shutdown)
        if self._found.manifest_claims_complete:
            await self._write_manifest(RunState.RUNNING)  # a reader must not take the old one for the run's end
        opened = opened_here(self._settings, self._found.run_sha256, self._found.account)
        self._journal.record_about_run(Kind.OPENED, opened)
        if failed is not None:
            await reopen_failed(self._store, self._journal, failed)
        self._restore_budget()
        if cancel and not self._snapshot.complete:
            self._canceller.request_cancel()
        self._work_queue.requeue(self._snapshot.waiting_parts())
        self._limits.restore_from_journal()
        await self._write_manifest(RunState.RUNNING)
        try:
            await self._run_stages(deadline, submit_only)
        except BaseException as error:
            if isinstance(error, Exception):
                self._shutdown.request_stop(stop_of_broken_run(error))
            with anyio.CancelScope(shield=True), suppress(StoreError):  # cancelled or not; the first error counts
                await self._close_run()
            raise
        return await self._close_run()

    # --- Beginning and end ------------------------------------------------------------------------------------------

    async def _close_run(self) -> Ending:
        complete = self._snapshot.complete
        state = RunState.COMPLETE if complete else RunState.INCOMPLETE
        stop, tolerated = self._shutdown.stop, self._settings.limits.tolerated_failure_percentage
        reason, hint, status = None, "", exit_status_of(self._snapshot.outcomes, tolerated)
        cancelled = not complete and self._shutdown.cancelling and self._canceller.finished
        if not complete and stop is None and self._snapshot.only_others_remain:
            reason, hint, status = only_other_accounts_remain(self._snapshot)
        elif not complete:
            reason, hint, status = reason_to_stop(stop)
        if cancelled:
            reason, hint = describe_cancelled(self._snapshot)
        said: Closed = {"state": state, "reason": reason, "exit_status": int(status), "requests": self._api.requests}
        if cancelled:
            said["cancelled"] = True
        self._journal.record_about_run(Kind.CLOSED, said)
        await self._journal.wait_durable()
        self._limits.announce()
        manifest = await self._write_manifest(state, reason, status, hint)
        if stop is not None and not complete:
            self._events.notify(Stopped(stop.reason, int(status)))
        return Ending(state, status, reason, hint, manifest)

    async def _write_manifest(
        self, state: RunState, reason: str | None = None, status: ExitStatus | None = None, hint: str = ""
    ) -> Manifest:
        await self._journal.wait_durable()  # a manifest that knows more than the journal looks like damage
        manifest = manifest_of(
            self._run,
            self._snapshot,
            state=state,
            requests=self._snapshot.requests + self._api.requests,
            started_at_s=self._started_at_s,
            stopped_at_s=None if state is RunState.RUNNING else self._clock.wall_s(),
            reason=reason,
            exit_status=status,
            hint=hint,
            waits_s=self._gate.waits_s,
            config=self._found.config,
            trusted=self._found.trusted,
        )
        return await write_manifest(self._store, self._run, self._snapshot, manifest)

    # --- The task group ---------------------------------------------------------------------------------------------

    async def _record_cancelled(self) -> None:
        """Returns when it is durable that the run is cancelled, and manifest.json says so."""
        self._canceller.request_cancel()
        await self._write_manifest(RunState.RUNNING)

    async def _run_stages(self, deadline: Deadline, submit_only: bool) -> None:
        snapshot = self._snapshot
        nothing_to_cancel = self._shutdown.cancelling and len(snapshot.open_attempts) == snapshot.open_of_other_accounts
        if snapshot.complete or snapshot.only_others_remain or nothing_to_cancel:
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(deadline.stop_run_when_reached, self._shutdown, self._clock, self._settings.limits.drain_s)
            tasks.start_soon(self._events.deliver_until_cancelled)
            tasks.start_soon(self._journal.write_until_cancelled)
            tasks.start_soon(self._live_limits.apply_changes_until_cancelled)
            await self._start_stages(tasks, submit_only)
            await self._end.wait_until_over()
            tasks.cancel_scope.cancel()  # the streams form a circle: none of them ends by itself

    def _stop_if_too_many_failures(self) -> None:
        # Reused outcomes don't count: only what this run asked for itself.
        outcomes, reused = self._snapshot.outcomes, self._run.reused
        outcomes = outcomes if reused is None else outcomes - Counter(reused.counts)
        if (stop := too_many_failures(outcomes, self._settings.limits.stop_at_failure_percentage)) is not None:
            self._shutdown.request_stop(stop)

    def _restore_budget(self) -> None:
        self._bound_credits_of_account()
        # What other accounts have out gives nothing back while this process is at work.
        in_flight = len(self._snapshot.open_attempts) - self._snapshot.open_of_other_accounts
        self._budget.restore(self._snapshot.sums[CREDITS], in_flight)

    def _bound_credits_of_account(self) -> None:
        """What the account's budget leaves for this run is a bound on all credits of the run: others spend none now."""
        left, account = self._found.account_credits, self._snapshot.account
        if left is not None and account is not None and account == self._found.account:
            spent_by_others = self._snapshot.sums[CREDITS] - self._snapshot.accounts[account]["credits"]
            self._budget.bound_by_account(account, spent_by_others + left)

    def _act_on_fact(self, fact: Fact) -> None:
        if (event := event_of(fact)) is not None:
            self._events.notify(event)
        self._limits.announce()
        if isinstance(fact, Submitted | Adopted):
            self._canceller.notice_job()
            self._own_jobs.record_job(fact.job_id, anyio.current_time(), fact.created_at_s)
        if isinstance(fact, Ended):
            self._handle_end(fact)

    def _handle_end(self, fact: Ended) -> None:
        self._budget.release_unspent(fact.tally.sums.get(CREDITS, 0.0))
        self._stop_if_too_many_failures()
        if fact.requeued:
            self._work_queue.requeue(fact.requeued)
        self._end.set_if_reached()

    async def _start_stages(self, tasks: TaskGroup, submit_only: bool) -> None:
        """Creates the streams, and the tasks that own their ends. After the first line nothing is awaited: a
        cancellation in between would leave a stream without a task that closes it."""
        known = await known_project(self._snapshot, self._plan, self._documents)
        settings, limits, context = self._settings, self._settings.limits, self._context
        attempts_send, attempts = anyio.create_memory_object_stream[Attempt](0)
        submitted_send, submitted = anyio.create_memory_object_stream[Job](0)
        finished_send, finished = anyio.create_memory_object_stream[Job](UNCOLLECTED_MAX)
        ambiguous_send, ambiguous = anyio.create_memory_object_stream[AmbiguousCreate](UNBOUNDED)  # each holds a slot
        job_list = JobList(self._api)
        self._own_jobs.take_over(self._snapshot, anyio.current_time())
        project = ProjectProof(
            self._api,
            self._shutdown,
            known,
            read_first_page=job_list.first_page,
            on_first_page=partial(learn_from_first_page, self._journal, self._evidence.record_listed_before_creates),
            settle_s=limits.settle_s,
        )
        submitter = Submitter(context, project, self._snapshot.project_id, self._documents, self._found.account)
        schedule = PollSchedule(Durations(self._snapshot.durations))
        poller = self._poller = Poller(context, schedule, self._gate)
        collector = Collector(context)
        reconciler = self._reconciler = Reconciler(context, self._evidence, job_list, self._own_jobs, project)
        self._live_limits.on_rates = poller.rates_changed
        tasks.start_soon(self._canceller.cancel_when_requested, poller.report_view)
        tasks.start_soon(project.prove_or_stop)
        to_submit = start_uploading(tasks, context, self._documents, attempts)
        for _ in range(limits.requests_in_flight):
            tasks.start_soon(
                submitter.submit_attempts, to_submit.clone(), submitted_send.clone(), ambiguous_send.clone()
            )
        for _ in range(min(COLLECTORS_MAX, limits.requests_in_flight)):
            tasks.start_soon(collector.collect_finished_jobs, finished.clone())
        self._canceller.jobs_are_polled = not submit_only
        if submit_only:
            submit_only_stage = SubmitOnly(
                self._snapshot, self._slots, self._budget, self._work_queue, self._shutdown, reconciler
            )
            tasks.start_soon(submit_only_stage.take_jobs_until_none_follow, submitted, finished_send)
        else:
            tasks.start_soon(poller.poll_until_cancelled, submitted, finished_send)
        tasks.start_soon(reconciler.reconcile_until_cancelled, ambiguous, attempts_send.clone(), submitted_send.clone())
        resume_open_attempts = partial(
            self._work_queue.resume_open_attempts,
            last_sent_s=self._lock_held_since_s,
            accept_s=earlier_accept_s(settings, self._snapshot, self._run),
            on_all_resumed=self._end.set_if_reached,
            on_rechecks=self._canceller.notice_job,
        )
        tasks.start_soon(resume_open_attempts, submitted_send, ambiguous_send)
        tasks.start_soon(self._work_queue.send_parts_to_submit, attempts_send)
        to_submit.close()  # each task has a clone, and the stream ends with the last of them
        finished.close()
