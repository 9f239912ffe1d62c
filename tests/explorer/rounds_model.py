"""The reconciler's rounds in the model, step by step as its stage does them.

A round reads the list page by page, asks the journal which jobs it names, asks for single jobs that the list left out,
reads results, and decides. Where the list can't be read, the rest of the round is done all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from classify_batch.engine.reconciler.ambiguous_attempt import AmbiguousAttempt
from classify_batch.engine.reconciler.decisions import Adopt, Decision, GiveUp, SendAgain, Take
from classify_batch.engine.reconciler.found import FoundJob
from classify_batch.model import Answer, Answers, AttemptKey, JobView
from classify_batch.ports import NamedFor
from tests.explorer.model_state import Process, Round, Watched
from tests.explorer.server_model import CallState, Reading

if TYPE_CHECKING:
    from tests.explorer.process_model import Work


class Rounds:
    """What the reconciler does next in a process."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.step = work.step
        self.scenario = work.scenario
        self.decisions = work.decisions
        self.state = work.state
        self.server = work.server
        self.choose = work.choose
        self.now = work.now
        self.process: Process = work.process

    def tasks(self) -> list[Callable[[], None]]:
        process = self.process
        if process.round is not None:
            return [self.go_on]
        return [self.begin] if process.evidence.unsettled and self.now >= process.round_due_s else []

    def begin(self) -> None:
        state, process = self.state, self.process
        process.evidence.begin_list_reading(self.now)
        listed = sorted(call.job_id for call in state.calls.values() if call.state is not CallState.NO_JOB)
        cut = bool(state.cut_readings) and self.choose(False, True)
        state.cut_readings -= cut
        fails = bool(state.outages) and not cut and self.choose(False, True)
        state.outages -= fails
        state.list_failed |= cut or fails
        self.step.note("a reading begins{}", " and fails" * fails or " and will be cut short" * cut)
        if fails:
            process.evidence.fail_list_reading()
            process.round = Round("journal", (None,), Reading(self.now, False))
        else:
            process.round = Round("pages", tuple(listed), Reading(self.now, not cut))
            self._end_stages()

    def go_on(self) -> None:
        current = self.process.round
        assert current is not None
        first, *rest = current.todo
        self.process.round = current._replace(todo=tuple(rest))
        _STAGES[current.stage][0](self, first)
        self._end_stages()

    def _end_stages(self) -> None:
        """What only goes on from one stage of the round to the next is no step of its own: a kill leaves the same."""
        while (current := self.process.round) is not None and not current.todo:
            if current.stage == "decisions":
                self.process.round = None
                self.process.round_due_s = self.now + 1
                self.process.answers.clear()
            else:
                stage, todo = _STAGES[current.stage][1](self)
                self.process.round = current._replace(stage=stage, todo=tuple(todo))

    def _list_page(self, job_id: str) -> None:
        """Each page of the list has room for one job."""
        calls, current = self.state.calls, self.process.round
        assert current is not None
        calls[job_id], view = self.server.list_job(calls[job_id], current.reading, self.choose)
        if view is not None:
            self.process.evidence.record_view(view, self.now)

    def _end_of_list(self) -> tuple[str, Iterable[object]]:
        current = self.process.round
        assert current is not None
        self.process.evidence.end_list_reading(complete=current.reading.complete)
        return "journal", (None,)

    def _ask_journal(self, _: object) -> None:
        """To ask it, what was said has to be durable."""
        self.work.make_durable()
        for job_id in list(self.process.evidence.candidates):
            self.process.evidence.record_named_for(job_id, self._named_for(job_id))

    def _named_for(self, job_id: str) -> NamedFor:
        chunks = [chunk for named, chunk in self.process.written.named if named == job_id]
        return None if None in chunks else frozenset(chunk for chunk in chunks if chunk is not None)

    def _unasked(self) -> tuple[str, Iterable[object]]:
        return "jobs", [each.job_id for each in self.process.evidence.candidates_to_poll()]

    def _get(self, job_id: str) -> None:
        calls = self.state.calls
        calls[job_id], view = self.server.get(calls[job_id], self.choose)
        if view is not None:
            self.process.evidence.record_view(view, self.now)

    def _unread(self) -> tuple[str, Iterable[object]]:
        return "results", [each.job_id for each in self.process.evidence.candidates_to_read(self.now)]

    def _read(self, job_id: str) -> None:
        process, evidence = self.process, self.process.evidence
        candidate = evidence.candidates.get(job_id)
        if candidate is None or not evidence.is_read_due(candidate, self.now):
            return
        self._answers_of(job_id)
        for ambiguous in list(evidence.unsettled.values()):
            if not ambiguous.digests & candidate.answered:
                continue
            decision = evidence.decide_for_attempt(ambiguous, self.now)
            if isinstance(decision, Adopt):
                self._act(ambiguous, decision)
            elif isinstance(decision, Take) and all(view.job_id in process.answers for view in decision.jobs):
                self._take(ambiguous, self._found(decision.jobs))

    def _answers_of(self, job_id: str) -> tuple[Answer, ...]:
        items = self.server.results(self.state.calls[job_id], self.choose)
        named = [each.file_id for each in items if each.file_id is not None]
        answered = [each.file_id for each in items if each.file_id is not None and each.answered]
        self.process.evidence.record_results(job_id, self.now, named, answered)
        if answered:
            self.process.answers[job_id] = items
        return items

    def _doubts(self) -> tuple[str, Iterable[object]]:
        return "decisions", list(self.process.evidence.unsettled)

    def _decide(self, key: AttemptKey) -> None:
        ambiguous = self.process.evidence.unsettled[key]
        self._act(ambiguous, self.process.evidence.decide_for_attempt(ambiguous, self.now))

    def _act(self, ambiguous: AmbiguousAttempt, decision: Decision | None) -> None:
        match decision:
            case Adopt(view):
                self._adopt(ambiguous, view)
            case Take(jobs) | GiveUp(jobs):
                found = self._found(jobs)
                if self.process.evidence.decide_for_attempt(ambiguous, self.now) == decision:
                    self._take(ambiguous, found, decision if isinstance(decision, GiveUp) else None)
            case SendAgain():
                self.step.note("attempt {} is sent again", ambiguous.attempt.key)
                self.choose.reach("sent again")
                self.process.evidence.remove_attempt(ambiguous)
                self.process.to_send[ambiguous.attempt.key] = replace(ambiguous.attempt, ambiguous=False)
            case _:
                pass

    def _found(self, jobs: Iterable[JobView]) -> list[FoundJob]:
        """What was read in this round is not read once more."""
        found: list[FoundJob] = []
        for view in jobs:
            items = self.process.answers.get(view.job_id) or self._answers_of(view.job_id)
            found.append(FoundJob(view, Answers(items)))
        return found

    def _adopt(self, ambiguous: AmbiguousAttempt, view: JobView) -> None:
        self.step.note("attempt {} adopts {}", ambiguous.attempt.key, view.job_id)
        self.choose.reach("found")
        self.process.evidence.remove_attempt(ambiguous)
        self.work.name_job(ambiguous.attempt, view.job_id)
        self.process.watched[ambiguous.attempt.key] = Watched(ambiguous.attempt, view.job_id, self.now)

    def _take(self, ambiguous: AmbiguousAttempt, found: list[FoundJob], given_up: GiveUp | None = None) -> None:
        attempt = ambiguous.attempt
        self.process.evidence.remove_attempt(ambiguous)
        if given_up is not None:
            self.choose.reach("given up")
        if found:
            self.choose.reach("found")
        unresolved = "" if given_up is None else given_up.why
        settlement = self.decisions.decide_found_jobs(attempt, found, self.scenario.attempts, unresolved)
        for each in found:
            self.work.learn(each.view.created_at_s)
        self.work.end(
            attempt,
            settlement.answers,
            settlement.failures,
            settlement.requeued,
            [each.view.job_id for each in found],
            gave_up=given_up is not None,
            proven_from_s=ambiguous.proven_from_s,
        )


_STAGES: dict[str, tuple[Callable[[Rounds, Any], None], Callable[[Rounds], tuple[str, Iterable[object]]]]] = {
    "pages": (Rounds._list_page, Rounds._end_of_list),
    "journal": (Rounds._ask_journal, Rounds._unasked),
    "jobs": (Rounds._get, Rounds._unread),
    "results": (Rounds._read, Rounds._doubts),
    "decisions": (Rounds._decide, Rounds._doubts),
}
"""What a round does with each of what it has to do, and what follows."""
