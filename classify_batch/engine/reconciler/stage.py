"""Does what the evidence asks for, until each attempt is adopted, answered, sent again, or given up.

The list is read for all of them together. Nothing is decided before the project is proven: the empty list of another
project says nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream

from classify_batch.engine.context import EngineContext, ProvenProject
from classify_batch.engine.reconciler.candidate import Candidate
from classify_batch.engine.reconciler.decisions import Adopt, Decision, GiveUp, SendAgain, Take
from classify_batch.engine.reconciler.evidence import Doubt, Evidence
from classify_batch.engine.reconciler.found import FoundJob, settle_found
from classify_batch.engine.reconciler.listing import READ_ATTEMPTS_MAX, JobList
from classify_batch.engine.shutdown import Stop
from classify_batch.errors import ApiError, Verdict
from classify_batch.lifecycle import Adopted
from classify_batch.limits.retry import retry_transient
from classify_batch.model import Ambiguous, Answers, Attempt, Job, JobView
from classify_batch.protocol.sanitize import clean
from classify_batch.vocabulary import Kind

AT_ONCE = 8
"""Calls about single candidates side by side: in a crowded project there are many of them."""

_SOON = frozenset({Verdict.LATER, Verdict.MISSING})
_ENDS_THE_RUN = frozenset({Verdict.KEY_REFUSED, Verdict.BLOCKED, Verdict.DOWN})

ROUND_S_MIN = 0.25
ROUND_S_MAX = 5.0


@dataclass(frozen=True, slots=True)
class _Outlets:
    """Into whose hands attempts go, and whether the key is proven to speak for the run's project."""

    again: ObjectSendStream[Attempt]
    adopted: ObjectSendStream[Job]
    project_proven: bool


class Reconciler:
    """One for all attempts of a run whose acceptance is unknown."""

    def __init__(self, context: EngineContext, evidence: Evidence, job_list: JobList, project: ProvenProject) -> None:
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
        self._project = project
        self._searched_to: int | None = None
        self._answers: dict[str, Answers] = {}
        self._list_error = ""
        self._failing: set[str] = set()
        self._mode_warned = False
        self._changed = anyio.Event()

    @property
    def doubts(self) -> int:
        """Attempts that are being reconciled."""
        return len(self._evidence.doubts)

    def left_s(self, job_s: float) -> float | None:
        """How long until all of these have ended, where a job takes so long: until it is known that there is none, and
        then one is made. None where that has taken longer already: one waits for candidates.
        """
        now_s = anyio.current_time()
        known_in_s = [each.accept_until_s + self._limits.settle_s - now_s for each in self._evidence.doubts.values()]
        if min(known_in_s, default=0.0) < -job_s:
            return None
        return job_s + max(0.0, max(known_in_s, default=0.0))

    async def work(
        self,
        ambiguous: ObjectReceiveStream[Ambiguous],
        again: ObjectSendStream[Attempt],
        adopted: ObjectSendStream[Job],
    ) -> None:
        """Reconciles what comes until it is cancelled."""
        async with ambiguous, again, adopted, anyio.create_task_group() as tasks:
            tasks.start_soon(self._receive_ambiguous, ambiguous)
            hands = _Outlets(again, adopted, await self._project.ready())
            while True:
                await self._changed.wait()
                began_s = anyio.current_time()
                try:
                    await self._reconcile_once(hands)
                except ApiError as error:
                    if error.verdict in _ENDS_THE_RUN:
                        self._shutdown.ask(Stop.because(error))
                        await anyio.sleep_forever()
                    await anyio.sleep(ROUND_S_MAX)
                if self.doubts:
                    gap_s = min(ROUND_S_MAX, max(ROUND_S_MIN, self._limits.settle_s / 8))
                    if not self._evidence.needs_complete_reading(began_s):  # a search leaves others half of the rate
                        gap_s = max(gap_s, anyio.current_time() - began_s)
                    await anyio.sleep(gap_s)
                else:
                    self._searched_to = None
                    self._failing.clear()
                    self._changed = anyio.Event()

    async def _receive_ambiguous(self, ambiguous: ObjectReceiveStream[Ambiguous]) -> None:
        async for each in ambiguous:
            self._evidence.add(self._make_doubt(each))
            self._changed.set()

    def _make_doubt(self, each: Ambiguous) -> Doubt:
        """How old an attempt is, a wall clock may tell wrongly: it ends nothing before all was read that proves it."""
        attempt, now_s = each.attempt, anyio.current_time()
        accept_until_s = each.left_s + each.accept_s
        age_s = self._clock.wall_s() - max(attempt.since_s, attempt.waits_since_s)
        give_up_s = max(now_s + self._limits.job_timeout_s - max(0.0, age_s), accept_until_s + self._limits.settle_s)
        return Doubt(attempt, accept_until_s, give_up_s, self._api.transaction_id(attempt), each.refusal)

    # --- One round --------------------------------------------------------------------------------------------------

    async def _reconcile_once(self, hands: _Outlets) -> None:
        """A call that fails keeps nobody waiting but those whom it concerns.

        Raises:
            ApiError: the first of them, when all the others were made.
        """
        evidence, errors = self._evidence, list[ApiError]()
        evidence.times_apart = self._journal.times_apart
        evidence.begin_list_reading(anyio.current_time())
        await self._read_list(errors)
        await self._look_up_in_journal()
        errors += await self._call_for_each(evidence.candidates_to_poll(), self._poll_candidate)
        errors += await self._call_for_each(evidence.candidates_to_read(anyio.current_time()), self._read_candidate)
        for doubt in list(evidence.doubts.values()):
            try:
                await self._carry_out(doubt, evidence.decide(doubt, anyio.current_time()), hands)
            except ApiError as error:
                errors.append(error)
        self._answers.clear()
        if errors:
            raise errors[0]

    async def _read_list(self, errors: list[ApiError]) -> None:
        """Where it can't be read, nothing can be proven, and what is unknown waits."""
        evidence = self._evidence
        to_the_end = evidence.needs_complete_reading(anyio.current_time())
        try:
            complete = await self._list.read(self._record_views, since_s=evidence.since_s(), to_the_end=to_the_end)
        except ApiError as error:
            if error.verdict in _ENDS_THE_RUN:
                raise
            if not self._list_error:
                self._context.warn(
                    f"whether some creates were accepted stays unknown: the job list can't be read ({error})"
                )
            self._list_error = f"the job list can't be read ({error})"
            errors.append(error)
            evidence.fail_list_reading()
        else:
            self._list_error = ""
            evidence.end_list_reading(complete=complete)

    def _record_views(self, views: Iterable[JobView]) -> None:
        now_s = anyio.current_time()
        for view in views:
            self._evidence.show(view, now_s)

    async def _look_up_in_journal(self) -> None:
        """A job that the journal names is no candidate. One that was asked about before may have been named since."""
        candidates = self._evidence.candidates
        fresh = [each for each in candidates.values() if not each.journal_asked]
        start = self._searched_to
        if fresh:
            before = await self._journal.line_before(self._journal_search_from_s(fresh))
            start = before if start is None else min(before, start)
        if start is None:
            return
        named, self._searched_to = await self._journal.named_jobs(candidates.keys(), start)
        for job_id, candidate in candidates.items():
            told = named.get(job_id, frozenset())
            known = candidate.named_for
            self._evidence.name(job_id, None if told is None or known is None else known | told)

    def _journal_search_from_s(self, fresh: Iterable[Candidate]) -> float | None:
        """From which server's time on the journal has to be searched. All of it, where a candidate tells no time, and
        for second looks: what a first look's job answers, a second's does."""
        second = any(doubt.attempt.part.first is not None for doubt in self._evidence.doubts.values())
        untimed = any(each.view.created_at_s is None for each in fresh)
        return None if second or untimed else self._evidence.since_s()

    async def _call_for_each(
        self, candidates: Iterable[Candidate], call: Callable[[Candidate], Awaitable[None]]
    ) -> list[ApiError]:
        """Several side by side, in their order, but those last with which it failed before: no single job keeps the
        others waiting. The first error ends it; what was seen by then stays seen."""
        waiting = iter(sorted(candidates, key=lambda each: each.job_id in self._failing))
        errors: list[ApiError] = []

        async def work() -> None:
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
            for _ in range(AT_ONCE):
                tasks.start_soon(work)
        for error in errors:
            if error.verdict in _ENDS_THE_RUN:
                raise error
        return errors

    async def _poll_candidate(self, candidate: Candidate) -> None:
        """A candidate that the list leaves out. A 404 says nothing: it was shown before."""
        try:
            view = await retry_transient(lambda: self._api.get(candidate.job_id), attempts_max=READ_ATTEMPTS_MAX)
        except ApiError as error:
            if error.verdict not in (Verdict.MISSING, Verdict.REFUSED):
                raise
        else:
            self._evidence.show(view, anyio.current_time())

    async def _read_candidate(self, candidate: Candidate) -> None:
        """Reads a candidate's results; takes them at once for an attempt all of whose files have an answer now, so that
        a process that doesn't live long makes way."""
        if not self._evidence.is_read_due(candidate, anyio.current_time()):
            return  # the attempt that it was read for is settled
        if await self._read_answers(candidate.view) is None:
            return
        now_s = anyio.current_time()
        for doubt in list(self._evidence.doubts.values()):
            decision = self._evidence.decide(doubt, now_s) if doubt.digests & candidate.answered else None
            if isinstance(decision, Take) and all(view.job_id in self._answers for view in decision.jobs):
                self._end_with_found_jobs(doubt, [FoundJob(view, self._answers[view.job_id]) for view in decision.jobs])

    async def _read_answers(self, view: JobView) -> Answers | None:
        """A finished job's answers, which become evidence; None where they can't be had."""
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
        self._evidence.read(view.job_id, begun_s, named, answered, withheld=bool(answers.withheld))
        if answered:
            self._answers[view.job_id] = answers
        return answers

    async def _request_results(self, view: JobView) -> Answers | None:
        """A finished job's answers; None where they can't be had: perhaps it is somebody else's, and not for us."""
        try:
            return await retry_transient(
                lambda: self._api.results(view, ()), retry_on=_SOON, attempts_max=READ_ATTEMPTS_MAX
            )
        except ApiError as error:
            if error.verdict in (Verdict.LATER, Verdict.BLOCKED, Verdict.DOWN):
                raise
            return None

    # --- What follows -----------------------------------------------------------------------------------------------

    async def _carry_out(self, doubt: Doubt, decision: Decision | None, hands: _Outlets) -> None:
        match decision:
            case Adopt(view):
                await self._adopt_job(doubt, view, hands)
            case Take(jobs) | GiveUp(jobs):
                found = await self._read_all_answers(jobs)
                if found is not None and self._evidence.decide(doubt, anyio.current_time()) == decision:
                    words = clean(self._list_error or decision.why) if isinstance(decision, GiveUp) else ""
                    self._end_with_found_jobs(doubt, found, words)
            case SendAgain():
                self._evidence.remove(doubt)
                unproven = self._api.idempotent or not hands.project_proven
                await hands.again.send(replace(doubt.attempt, ambiguous=unproven))
            case _:
                pass

    async def _read_all_answers(self, jobs: tuple[JobView, ...]) -> list[FoundJob] | None:
        """None: the results of one of them can't be had now. What is read anew is evidence as well: results that lag
        may be there and then not, and a file that was answered would go out again."""
        found: list[FoundJob] = []
        for view in jobs:
            answers = self._answers.get(view.job_id) or await self._read_answers(view)
            if answers is None:
                return None
            found.append(FoundJob(view, answers))
        return found

    async def _adopt_job(self, doubt: Doubt, view: JobView, hands: _Outlets) -> None:
        attempt, at_s = doubt.attempt, self._clock.wall_s()
        self._evidence.remove(doubt)
        self._journal.record(Adopted(attempt.key, view.job_id, at_s, view.project_id, view.created_at_s))
        await hands.adopted.send(Job(attempt, view.job_id, at_s, timed=False))

    def _end_with_found_jobs(self, doubt: Doubt, found: list[FoundJob], unresolved: str = "") -> None:
        """Ends the attempt by what the found jobs say. Nothing is awaited: an attempt is ended once."""
        attempt = doubt.attempt
        told = [each.view for each in found if not each.answers.withheld]
        if unresolved:
            told = [view for view in told if self._evidence.has_answered_all_it_will(view.job_id)]
        self._evidence.remove(doubt)
        settlement = settle_found(attempt, found, self._limits.attempts, unresolved)
        if settlement.mode_unproven and not self._mode_warned:
            self._mode_warned = True
            self._context.warn(
                "some answers were found in the job list after a create was not answered, and the API doesn't tell "
                "those jobs' mode: `mode` is null there"
            )
        times = [each.view.created_at_s for each in found if each.view.created_at_s is not None]
        self._recorder.end(
            attempt,
            Kind.COLLECTED,
            job_id=found[0].view.job_id if found else None,
            answers=settlement.answers,
            failures=settlement.failures,
            again=settlement.again,
            found=tuple(view.job_id for view in told),
            created_at_s=max(times, default=None),
        )
        self._slots.release()
