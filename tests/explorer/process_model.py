"""A process of the model: what its stages do around the decisions, one step after the other.

At its start a process takes up what the journal holds open. The submitter writes an intent, durably, sends the call and
hears its answer, or doesn't. The collector waits for the end of a known job and reads its results, once more when they
must have come. The rounds of the reconciler are in rounds_model.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

from classify_batch.engine.job_answers import Settled, decide_answered_job, decide_failed_job
from classify_batch.engine.reconciler.ambiguous_attempt import AmbiguousAttempt
from classify_batch.model import AnsweredFile, Attempt, AttemptKey, Failure, JobView, Part, to_ranges
from classify_batch.vocabulary import FailureCode
from tests.explorer.decisions import SPECS
from tests.explorer.model_state import OpenAttempt, Outcome, Process, Watched, Written
from tests.explorer.promises import End, broken_by_completion, broken_by_create, broken_by_end
from tests.explorer.rounds_model import Rounds
from tests.explorer.server_model import Call, CallState

if TYPE_CHECKING:
    from tests.explorer.protocol_model import Step


class Work:
    """What a process does next."""

    def __init__(self, step: Step, process: Process) -> None:
        self.step = step
        self.scenario = step.scenario
        self.decisions = step.decisions
        self.state = step.state
        self.server = step.server
        self.choose = step.choose
        self.now = step.now
        self.process = process

    # --- Whose turn it is -------------------------------------------------------------------------------------------

    def tasks(self) -> list[Callable[[], None]]:
        """What can happen now. Where things are not interleaved, a round is not interrupted, and goes last."""
        process, scenario = self.process, self.scenario
        late = scenario.takes_up_late and bool(process.evidence.unsettled)
        taken_up = [self._take_up] if process.to_take_up and late else []
        others = self._other_tasks(takes_up=not late)
        reconciles = Rounds(self).tasks()
        if scenario.interleaved:
            return [*taken_up, *others, *reconciles]
        first = reconciles if process.round is not None else others or reconciles
        return [*taken_up, *first[:1]]

    def _other_tasks(self, *, takes_up: bool) -> list[Callable[[], None]]:
        process = self.process
        is_over = not process.written.open and not process.written.waiting and not process.evidence.unsettled
        possible = (
            (process.to_take_up and takes_up, self._take_up),
            (process.undurable, self.make_durable),
            (any(self.now >= each.due_s for each in process.watched.values()), self._watch),
            (process.in_flight, self._answer_create),
            (process.to_send, self._post),
            (process.written.waiting and not process.to_take_up, self._intend),
            (is_over, self._close),
        )
        return [task for is_due, task in possible if is_due]

    def waits(self) -> bool:
        return bool(self.process.evidence.unsettled or self.process.watched)

    # --- The journal ------------------------------------------------------------------------------------------------

    def record(self, written: Written) -> None:
        self.process.written = written
        self.state.unwritten = (*self.state.unwritten, written)

    def make_durable(self) -> None:
        self.state.disk, self.state.unwritten, self.process.undurable = self.process.written, (), False

    def _close(self) -> None:
        self.make_durable()
        self.step.check(broken_by_completion(self.state))
        self.state.process = None
        if self.state.retries and self.choose(False, True):
            self.state.retries -= 1
            self._reopen()
        else:
            self.state.over = True

    def _reopen(self) -> None:
        """The failed files get a new chance: those that were perhaps paid are looked for first."""
        disk = self.state.disk
        failed = [each for each in disk.outcomes if each.attempt is not None]
        self.step.note("the failed files get a new chance: {}", failed)
        self.choose.reach("tried anew")
        unresolved = {each.attempt for each in failed if each.kind == FailureCode.UNRESOLVED}
        looks, again = dict[AttemptKey, OpenAttempt](), dict[int, Part]()
        for file_id, kind, attempt in failed:
            assert attempt is not None
            chunk, position = attempt.key.chunk, self.state.chunk(attempt.key.chunk).index(file_id)
            if attempt in unresolved:
                recheck = looks.get(attempt.key, attempt._replace(part=Part(chunk), job_id=None))
            elif kind == FailureCode.NOT_ANSWERED and attempt.job_id is not None:
                recheck = looks.get(attempt.key, attempt._replace(part=Part(chunk, recheck=True)))
            else:
                again[chunk] = _with_position(again.get(chunk, Part(chunk)), position)
                continue
            looks[attempt.key] = recheck._replace(part=_with_position(recheck.part, position), again_s=self.now)
        self.state.disk = disk._replace(
            open=tuple(looks.values()),
            waiting=tuple(again.values()),
            outcomes=tuple(each for each in disk.outcomes if each.attempt is None),
        )
        self.state.down_since_s = self.now

    # --- What an earlier process left open --------------------------------------------------------------------------

    def _take_up(self) -> None:
        process = self.process
        key = self.choose(*process.to_take_up)
        process.to_take_up = tuple(each for each in process.to_take_up if each != key)
        left = next(each for each in process.written.open if each.key == key)
        attempt = replace(
            self._attempt(key, left.part),
            since_s=left.since_s,
            waits_since_s=left.again_s,
            server_s=left.server_s,
            ambiguous=True,
        )
        if left.job_id is not None:
            process.watched[key] = Watched(attempt, left.job_id, self.now)
            return
        if process.round is not None:
            self.choose.reach("taken up in the midst of a round")
        self.step.note("attempt {} is taken up", key)
        self._doubt(attempt, process.taken_over_s)

    def _attempt(self, key: AttemptKey, part: Part) -> Attempt:
        chunk = self.state.chunk(key.chunk)
        return Attempt(key, part, part.pick_file_ids(chunk), tuple(part.positions(len(chunk))))

    def _doubt(self, attempt: Attempt, sent_s: int) -> None:
        now, scenario = self.now, self.scenario
        accept_until_s = sent_s + self.decisions.accept_s(scenario)
        age_s = max(0.0, now + self.process.wall_offset_s - max(attempt.since_s, attempt.waits_since_s))
        give_up_s = max(now + scenario.job_timeout_s - age_s, accept_until_s + scenario.settle_s)
        self.process.evidence.add_attempt(AmbiguousAttempt(attempt, accept_until_s, give_up_s))
        for job_id, call in self.state.calls.items():
            if not set(attempt.file_ids).isdisjoint(call.files):
                self.state.calls[job_id] = call._replace(shown=False, end_shown=False)

    # --- The submitter ----------------------------------------------------------------------------------------------

    def _intend(self) -> None:
        process, written = self.process, self.process.written
        part, *waiting = written.waiting
        attempts = list(written.attempts)
        attempts[part.chunk] += 1
        key = AttemptKey(part.chunk, attempts[part.chunk])
        since_s = self.now + process.wall_offset_s
        opened = OpenAttempt(key, part, since_s, process.server_s)
        self.record(
            written._replace(
                open=tuple(sorted((*written.open, opened))),
                waiting=tuple(waiting),
                attempts=tuple(attempts),
                server_s=process.server_s,
            )
        )
        if self.decisions.durable_intents:
            self.make_durable()
        process.to_send[key] = replace(
            self._attempt(key, part), since_s=since_s, server_s=process.server_s, intended_s=self.now
        )

    def _post(self) -> None:
        process, calls = self.process, self.state.calls
        key, attempt = next(iter(process.to_send.items()))
        del process.to_send[key]
        number = 1 + sum(call.key == key for call in calls.values())
        job_id = f"{key.chunk}.{key.attempt}.{number}"
        call = Call(job_id, key, attempt.file_ids, SPECS.spec_of_part(attempt.part).mode, self.now)
        self.step.note("create {} leaves with {}", job_id, "".join(call.files))
        self.step.check(broken_by_create(self.state, call))
        calls[job_id] = call
        process.in_flight[key] = attempt, job_id

    def _answer_create(self) -> None:
        state, process = self.state, self.process
        key, (attempt, job_id) = next(iter(process.in_flight.items()))
        call = state.calls[job_id]
        options = [self._create_is_answered]
        options += [self._create_answer_is_lost] * bool(state.losses)
        options += [self._create_is_refused] * bool(state.refusals and call.state is CallState.IN_FLIGHT)
        del process.in_flight[key]
        self.choose(*options)(attempt, call)

    def _create_is_answered(self, attempt: Attempt, call: Call) -> None:
        process = self.process
        if call.state is CallState.IN_FLIGHT:
            call = self.state.calls[call.job_id] = self.server.accept(call, self.choose)
        self.step.note("create {} is answered", call.job_id)
        self.learn(call.created_s)
        self.name_job(attempt, call.job_id)
        process.undurable = True
        process.watched[attempt.key] = Watched(attempt, call.job_id, self.now)

    def _create_answer_is_lost(self, attempt: Attempt, call: Call) -> None:
        self.step.note("the answer to create {} is lost", call.job_id)
        self.choose.reach("lost answer")
        self.state.losses -= 1
        self.step.leave(call.job_id)
        self._doubt(attempt, self.now)

    def _create_is_refused(self, attempt: Attempt, call: Call) -> None:
        self.step.note("create {} is refused for now", call.job_id)
        self.choose.reach("refused")
        self.state.refusals -= 1
        self.state.calls[call.job_id] = call._replace(state=CallState.NO_JOB)
        self.process.to_send[attempt.key] = attempt

    def name_job(self, attempt: Attempt, job_id: str) -> None:
        written = self.process.written
        named = tuple(each._replace(job_id=job_id) if each.key == attempt.key else each for each in written.open)
        self.record(written._replace(open=named, named=written.named | {(job_id, None)}))

    def learn(self, created_s: float | None) -> None:
        process = self.process
        if created_s is not None and (process.server_s is None or created_s > process.server_s):
            process.server_s = int(created_s)

    # --- The collector ----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        process = self.process
        key, watched = next(item for item in process.watched.items() if self.now >= item[1].due_s)
        call, view = self.server.show(self.state.calls[watched.job_id], self.choose)
        self.state.calls[call.job_id] = call
        late_s = self.decisions.answers_late_s(self.scenario, view.status)
        if not view.finished:
            process.watched[key] = watched._replace(due_s=self.now + 1)
        elif not view.answered:
            self._watch_failed(watched, view, late_s)
        else:
            late_s = 0 if watched.attempt.part.recheck else late_s
            final_s = self.now + late_s if watched.final_s is None else watched.final_s
            answers = self.server.results(call, self.choose)
            if self.now < final_s and {each.file_id for each in answers if each.answered} < set(call.files):
                process.watched[key] = watched._replace(due_s=final_s, final_s=final_s)
            else:
                self._commit(watched, decide_answered_job(watched.attempt, answers, self.scenario.attempts, view))

    def _watch_failed(self, watched: Watched, view: JobView, late_s: int) -> None:
        if late_s and not watched.failed:
            self.process.watched[watched.attempt.key] = watched._replace(due_s=self.now + late_s, failed=True)
        else:
            self._commit(watched, decide_failed_job(watched.attempt, view, self.scenario.attempts))

    def _commit(self, watched: Watched, settled: Settled) -> None:
        attempt = watched.attempt
        mode = SPECS.spec_of_part(attempt.part).mode
        answers = [AnsweredFile(file_id, answer, watched.job_id, mode) for file_id, answer in settled.answers]
        del self.process.watched[attempt.key]
        self.end(attempt, answers, settled.failures, settled.requeued)

    # --- The end of an attempt --------------------------------------------------------------------------------------

    def end(
        self,
        attempt: Attempt,
        answers: Sequence[AnsweredFile],
        failures: Sequence[Failure],
        again: tuple[Part, ...],
        found: Sequence[str] = (),
        *,
        gave_up: bool = False,
        proven_from_s: float = inf,
    ) -> None:
        self.step.check(broken_by_end(self.state, End(attempt, answers, failures, again, gave_up, proven_from_s)))
        written, key = self.process.written, attempt.key
        opened = next(each for each in written.open if each.key == key)
        if opened.job_id is None:
            opened = opened._replace(job_id=next(iter(found), None))
        ended = [Outcome(each.file_id, "answered") for each in answers]
        for failure in failures:
            file_id = self.state.chunk(key.chunk)[failure.position]
            second = attempt.part.first is not None  # it keeps its first answer
            ended.append(Outcome(file_id, failure.code.value, None if second else opened))
        self.step.note("attempt {} ends: {}, and again {}", key, [each[:2] for each in ended], again)
        for outcome in ended:
            self.choose.reach(outcome.kind)
        self.record(
            written._replace(
                open=tuple(each for each in written.open if each.key != key),
                waiting=(*written.waiting, *again),
                named=written.named.union((job_id, key.chunk) for job_id in found),
                outcomes=tuple(sorted((*written.outcomes, *ended))),
            )
        )


def _with_position(part: Part, position: int) -> Part:
    positions = {position, *(each for start, stop in part.ranges or () for each in range(start, stop))}
    return replace(part, ranges=to_ranges(sorted(positions)))
