"""Carries out what the evidence asks for, until each ambiguous attempt is adopted, answered, sent again or given up.

One reading of the list serves all of them. Nothing is decided before it is proven that the key speaks for the run's
project: another project's list holds none of our jobs, and that says nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream

from classify_batch.engine.context import EngineContext, ProvenProject
from classify_batch.engine.reconciler.ambiguous_attempt import AmbiguousAttempt
from classify_batch.engine.reconciler.candidate import Candidate
from classify_batch.engine.reconciler.decisions import Adopt, Decision, GiveUp, SendAgain, Take
from classify_batch.engine.reconciler.evidence import Evidence
from classify_batch.engine.reconciler.found import FoundJob, decide_found_jobs
from classify_batch.engine.reconciler.listing import READ_CALLS_MAX, JobList
from classify_batch.engine.reconciler.own_jobs import OwnJobs
from classify_batch.engine.shutdown import Stop
from classify_batch.errors import ApiError, Verdict
from classify_batch.lifecycle import Adopted
from classify_batch.limits.retry import Backoff, retry_transient
from classify_batch.model import AmbiguousCreate, Answers, Attempt, Job, JobView
from classify_batch.protocol.sanitize import printable_line
from classify_batch.vocabulary import Kind

CANDIDATE_CALLS_AT_ONCE = 8
"""How many calls about single candidates are made side by side: a crowded project has many candidates."""

_MAY_PASS_SOON = frozenset({Verdict.LATER, Verdict.MISSING})
_ENDS_THE_RUN = frozenset({Verdict.KEY_REFUSED, Verdict.BLOCKED, Verdict.DOWN})

ROUND_S_MIN = 0.25
ROUND_S_MAX = 5.0


@dataclass(frozen=True, slots=True)
class _Outlets:
    """The streams into which settled attempts go, and whether it is proven that the key speaks for the run's
    project."""

    resend: ObjectSendStream[Attempt]
    adopted: ObjectSendStream[Job]
    project_proven: bool


class Reconciler:
    """Finds out, for all ambiguous attempts of a run together, whether their creates were accepted."""

    def __init__(
        self,
        context: EngineContext,
        evidence: Evidence,
        job_list: JobList,
        own_jobs: OwnJobs,
        project: ProvenProject,
    ) -> None:
        self._context = context
        self._api = context.api
        self._journal = context.journal
        self._recorder = context.recorder
        self._clock = context.clock
        self._slots = context.slots
        self._shutdown = context.shutdown
        self._limits = context.settings.limits
        self._evidence = evidence
        self._list = job_list
        self._own_jobs = own_jobs
        self._project = project
        self._searched_to: int | None = None
        self._answers: dict[str, Answers] = {}
        self._list_error = ""
        self._list_warned = False
        self._failing: set[str] = set()
        self._mode_warned = False
        self._changed = anyio.Event()

    @property
    def ambiguous_attempts(self) -> int:
        """Attempts that are being reconciled."""
        return len(self._evidence.unsettled)

    def settled_within_s(self, job_s: float) -> float | None:
        """How many seconds until all ambiguous attempts have ended, where a job takes `job_s`: the worst case is that
        no job is found, and one is made then. None where it has taken longer than that already.
        """
        now_s = anyio.current_time()
        known_in_s = [each.accept_until_s + self._limits.settle_s - now_s for each in self._evidence.unsettled.values()]
        if min(known_in_s, default=0.0) < -job_s:
            return None
        return job_s + max(0.0, max(known_in_s, default=0.0))

    async def reconcile_until_cancelled(
        self,
        ambiguous: ObjectReceiveStream[AmbiguousCreate],
        resend: ObjectSendStream[Attempt],
        adopted: ObjectSendStream[Job],
    ) -> None:
        """Reconciles what comes until it is cancelled."""
        async with ambiguous, resend, adopted, anyio.create_task_group() as tasks:
            tasks.start_soon(self._receive_ambiguous, ambiguous)
            outlets = _Outlets(resend, adopted, await self._project.wait_until_proven())
            backoff, failed = Backoff(ROUND_S_MIN, ROUND_S_MAX), 0
            while True:
                await self._changed.wait()
                began_s = anyio.current_time()
                try:
                    await self._reconcile_once(outlets)
                    failed = 0
                except ApiError as error:
                    if error.verdict in _ENDS_THE_RUN:
                        self._shutdown.request_stop(Stop.from_error(error))
                        await anyio.sleep_forever()  # returning would close the streams under the others
                    failed += 1
                    await anyio.sleep(backoff.wait_s(failed))
                if self.ambiguous_attempts:
                    gap_s = min(ROUND_S_MAX, max(ROUND_S_MIN, self._limits.settle_s / 8))
                    if not self._evidence.needs_complete_reading(began_s):  # a search leaves others half of the rate
                        gap_s = max(gap_s, anyio.current_time() - began_s)
                    await anyio.sleep(gap_s)
                else:
                    self._searched_to = None
                    self._list_warned = False
                    self._failing.clear()
                    self._changed = anyio.Event()

    async def _receive_ambiguous(self, ambiguous: ObjectReceiveStream[AmbiguousCreate]) -> None:
        async for each in ambiguous:
            self._evidence.add_attempt(self._make_ambiguous(each))
            self._changed.set()

    def _make_ambiguous(self, each: AmbiguousCreate) -> AmbiguousAttempt:
        """Another process's attempt has its age from the wall clock, which may have been set since: so an attempt is
        never given up before the list can have been read as often as a proof takes."""
        attempt, now_s = each.attempt, anyio.current_time()
        accept_until_s = each.last_sent_s + each.accept_s
        if attempt.intended_s is None:
            age_s = self._clock.wall_s() - max(attempt.since_s, attempt.waits_since_s)
        else:
            age_s = now_s - attempt.intended_s
        give_up_s = max(now_s + self._limits.job_timeout_s - max(0.0, age_s), accept_until_s + self._limits.settle_s)
        transaction_id = self._api.transaction_id(attempt)
        ambiguous = AmbiguousAttempt(attempt, accept_until_s, give_up_s, transaction_id, each.refusal)
        return replace(ambiguous, upload_expired=each.upload_expired, again_from_s=each.again_from_s)

    # --- One round --------------------------------------------------------------------------------------------------

    async def _reconcile_once(self, outlets: _Outlets) -> None:
        """Makes every call that is due. One that fails delays only the attempts that it concerns.

        Raises:
            ApiError: the first of them, when all the others were made.
        """
        evidence, errors = self._evidence, list[ApiError]()
        evidence.clocks_disagree = self._journal.clocks_disagree  # before the reading, which is judged by it
        await self._own_jobs.begin_list_reading(anyio.current_time())
        evidence.begin_list_reading(anyio.current_time())
        await self._read_list(errors)
        evidence.clocks_disagree = self._journal.clocks_disagree  # as the reading showed: it proves nothing then
        # In this order: what the journal names belongs elsewhere, and only what has ended has results to read.
        await self._look_up_in_journal()
        errors += await self._call_for_each(evidence.candidates_to_poll(), self._poll_candidate)
        errors += await self._call_for_each(evidence.candidates_to_read(anyio.current_time()), self._read_candidate)
        for ambiguous in list(evidence.unsettled.values()):  # a copy: what is settled goes
            try:
                await self._carry_out(ambiguous, evidence.decide_for_attempt(ambiguous, anyio.current_time()), outlets)
            except ApiError as error:
                errors.append(error)
        self._answers.clear()  # of this round: they are long, and the next round may read more
        if errors:
            raise errors[0]

    async def _read_list(self, errors: list[ApiError]) -> None:
        """Where the list can't be read, nothing is proven, and the attempts go on waiting."""
        evidence = self._evidence
        to_the_end = evidence.needs_complete_reading(anyio.current_time())
        try:
            complete = await self._list.read_pages(
                self._record_views, since_s=evidence.earliest_created_s(), to_the_end=to_the_end
            )
            doubt = await self._find_doubt() if complete and to_the_end else ""
        except ApiError as error:
            if error.verdict in _ENDS_THE_RUN:
                raise
            self._explain_list_error(f"the job list can't be read ({error})")
            errors.append(error)
            evidence.fail_list_reading()
            return
        if doubt:
            self._explain_list_error(doubt)
        else:
            self._list_error = ""
        evidence.end_list_reading(complete=complete and not doubt)

    async def _find_doubt(self) -> str:
        """Why a list that was read to its end may not be of now; empty where nothing says so. Raises ApiError."""
        if self._list.came_from_cache:
            return "a cache answers the job list in the API's place (its answer has an Age)"
        not_shown = await self._own_jobs.find_job_not_shown(anyio.current_time())
        return "" if not_shown is None else f"the job list lacks job {printable_line(not_shown)}, which is there"

    def _explain_list_error(self, words: str) -> None:
        if not self._list_warned:
            self._list_warned = True
            self._context.notify_warning(f"whether some creates were accepted stays unknown: {words}")
        self._list_error = words

    def _record_views(self, views: Sequence[JobView]) -> None:
        now_s = anyio.current_time()
        for view in views:
            self._evidence.record_view(view, now_s)
        self._own_jobs.record_listed(views)

    async def _look_up_in_journal(self) -> None:
        """A job that the journal names for another chunk is no candidate. The journal may have named one since it was
        searched last."""
        candidates = self._evidence.candidates
        fresh = [each for each in candidates.values() if not each.journal_asked]
        start = self._searched_to
        if fresh:
            before = await self._journal.begin_search_from(self._journal_search_from_s(fresh))
            # Further back for candidates that are new: what was searched before was searched without them.
            start = before if start is None else min(before, start)
        if start is None:
            return
        named, self._searched_to = await self._journal.named_jobs(candidates.keys(), start)
        for each in fresh:
            self._evidence.record_named_for(each.job_id, each.named_for)
        for job_id, newly_named in named.items():
            known = candidates[job_id].named_for
            self._evidence.record_named_for(
                job_id, None if newly_named is None or known is None else known | newly_named
            )

    def _journal_search_from_s(self, fresh: Iterable[Candidate]) -> float | None:
        """The server's time from which on the journal has to be searched. None: all of it, where a candidate has no
        time, and for second looks, which a job of the first look may answer as well."""
        second = any(ambiguous.attempt.part.first is not None for ambiguous in self._evidence.unsettled.values())
        untimed = any(each.view.created_at_s is None for each in fresh)
        return None if second or untimed else self._evidence.earliest_created_s()

    async def _call_for_each(
        self, candidates: Iterable[Candidate], call: Callable[[Candidate], Awaitable[None]]
    ) -> list[ApiError]:
        """Calls for several candidates side by side, in their order. Those whose last call failed come last, so that no
        single job keeps the others waiting. The first error ends it; what was seen until then counts."""
        waiting = iter(sorted(candidates, key=lambda each: each.job_id in self._failing))  # one iterator for all tasks
        errors: list[ApiError] = []

        async def call_for_waiting() -> None:
            for candidate in waiting:
                self._failing.discard(candidate.job_id)
                try:
                    await call(candidate)
                except ApiError as error:
                    self._failing.add(candidate.job_id)
                    errors.append(error)
                if errors:
                    return

        async with anyio.create_task_group() as tasks:
            for _ in range(CANDIDATE_CALLS_AT_ONCE):
                tasks.start_soon(call_for_waiting)
        for error in errors:
            if error.verdict in _ENDS_THE_RUN:
                raise error
        return errors

    async def _poll_candidate(self, candidate: Candidate) -> None:
        """Asks for a candidate that the list left out. A 404 proves nothing: the job was shown before."""
        try:
            view = await retry_transient(lambda: self._api.get(candidate.job_id), calls_max=READ_CALLS_MAX)
        except ApiError as error:
            if error.verdict not in (Verdict.MISSING, Verdict.REFUSED):
                raise
        else:
            self._evidence.record_view(view, anyio.current_time())

    async def _read_candidate(self, candidate: Candidate) -> None:
        """Reads a candidate's results. An attempt all of whose files have an answer then ends at once, so that a
        process that is killed soon has made progress."""
        if not self._evidence.is_read_due(candidate, anyio.current_time()):
            return  # the attempt that it was read for is settled
        if await self._read_answers(candidate.view) is None:
            return
        now_s = anyio.current_time()
        for ambiguous in list(self._evidence.unsettled.values()):
            decision = (
                self._evidence.decide_for_attempt(ambiguous, now_s) if ambiguous.digests & candidate.answered else None
            )
            if isinstance(decision, Take) and all(view.job_id in self._answers for view in decision.jobs):
                self._end_with_found_jobs(
                    ambiguous, [FoundJob(view, self._answers[view.job_id]) for view in decision.jobs]
                )

    async def _read_answers(self, view: JobView) -> Answers | None:
        """Reads a finished job's answers, and records them as evidence. None where they can't be had."""
        begun_s = anyio.current_time()
        try:
            answers = await self._request_results(view)
        except ApiError:
            self._evidence.record_unreadable(view.job_id, begun_s)
            raise
        if answers is None:
            self._evidence.record_unreadable(view.job_id, begun_s)
            return None
        named = [each.file_id for each in answers.items if each.file_id is not None]
        answered = [each.file_id for each in answers.items if each.file_id is not None and each.answered]
        withheld = answers.withheld_for_good or answers.of_another_job
        self._evidence.record_results(view.job_id, begun_s, named, answered, withheld=withheld)
        if self._evidence.concerns_an_attempt(view.job_id):  # others' answers may be many, and long
            self._answers[view.job_id] = answers
        return answers

    async def _request_results(self, view: JobView) -> Answers | None:
        """A finished job's answers; None where they can't be had: the job may be somebody else's."""
        try:
            return await retry_transient(
                lambda: self._api.results(view, ()), retry_on=_MAY_PASS_SOON, calls_max=READ_CALLS_MAX
            )
        except ApiError as error:
            if error.verdict in (Verdict.LATER, Verdict.BLOCKED, Verdict.DOWN):
                raise
            return None

    # --- What follows -----------------------------------------------------------------------------------------------

    async def _carry_out(self, ambiguous: AmbiguousAttempt, decision: Decision | None, outlets: _Outlets) -> None:
        match decision:
            case Adopt(view):
                await self._adopt_job(ambiguous, view, outlets)
            case Take(jobs) | GiveUp(jobs):
                found = await self._read_all_answers(jobs)
                # Decided once more: what was just read is evidence, too.
                if found is not None and self._evidence.decide_for_attempt(ambiguous, anyio.current_time()) == decision:
                    words = printable_line(self._list_error or decision.why) if isinstance(decision, GiveUp) else ""
                    self._end_with_found_jobs(ambiguous, found, words)
            case SendAgain() if self._shutdown.cancelling and self._api.idempotent:
                if self._evidence.is_absence_proven(ambiguous):
                    self._leave_open(ambiguous)
            case SendAgain():
                self._evidence.remove_attempt(ambiguous)  # before the send, which waits: it must not be decided twice
                unproven = self._api.idempotent or not outlets.project_proven
                await outlets.resend.send(replace(ambiguous.attempt, ambiguous=unproven))
            case _:
                pass

    def _leave_open(self, ambiguous: AmbiguousAttempt) -> None:
        """No job is left to cancel. A later process sends the create again, under its transaction ID."""
        self._evidence.remove_attempt(ambiguous)
        self._slots.release()
        self._shutdown.leave_open(ambiguous.attempt.key)

    async def _read_all_answers(self, jobs: tuple[JobView, ...]) -> list[FoundJob] | None:
        """The answers of all jobs; None where one job's can't be had now. What is read here is evidence, too: results
        that lag may be there and vanish again, and an answered file would be sent again."""
        found: list[FoundJob] = []
        for view in jobs:
            answers = self._answers.get(view.job_id) or await self._read_answers(view)
            if answers is None:
                return None
            found.append(FoundJob(view, answers))
        return found

    async def _adopt_job(self, ambiguous: AmbiguousAttempt, view: JobView, outlets: _Outlets) -> None:
        attempt, at_s = ambiguous.attempt, self._clock.wall_s()
        self._evidence.remove_attempt(ambiguous)
        self._journal.record(Adopted(attempt.key, view.job_id, at_s, view.project_id, view.created_at_s))
        await outlets.adopted.send(Job(attempt, view.job_id, at_s, timed=False))

    def _end_with_found_jobs(self, ambiguous: AmbiguousAttempt, found: list[FoundJob], unresolved: str = "") -> None:
        """Ends the attempt by the answers of the found jobs. Nothing is awaited here, so that it can't end twice."""
        attempt = ambiguous.attempt
        read_to_end = [each.view for each in found if not each.answers.withheld]
        if unresolved:
            read_to_end = [view for view in read_to_end if self._evidence.has_answered_all_it_will(view.job_id)]
        self._evidence.remove_attempt(ambiguous)
        settlement = decide_found_jobs(attempt, found, self._limits.attempts, unresolved)
        if settlement.mode_unproven and not self._mode_warned:
            self._mode_warned = True
            self._context.notify_warning(
                "some answers were found in the job list after a create was not answered, and the API doesn't tell "
                "those jobs' mode: `mode` is null there"
            )
        times = [each.view.created_at_s for each in found if each.view.created_at_s is not None]
        self._recorder.end_attempt(
            attempt,
            Kind.COLLECTED,
            job_id=found[0].view.job_id if found else None,
            answers=settlement.answers,
            failures=settlement.failures,
            requeued=settlement.requeued,
            found=tuple(view.job_id for view in read_to_end),
            created_at_s=max(times, default=None),
        )
        self._slots.release()
