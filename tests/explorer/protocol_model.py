"""The protocol as a model: processes that die, a journal that survives them, and the program's own decisions.

The decisions are the real ones: `Evidence`, `settle_found`, `settle`, `settle_bad`, and through them `states.after_*`.
What stands here does around them what the stages do: the submitter (an intent, durable; the POST; its answer), the
collector (a known job's end, its results, once more when they may have come), the reconciler (a reading page by page,
the journal, single jobs, results, decisions) and the start of a process (what the journal holds open). Each of these is
a step of its own, and a kill may come between any two. What it leaves are the server and the journal.

The promises are checked where they could be broken: when a create leaves, and when an attempt ends (see promises.py).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from classify_batch.outcomes.ending import LOOKED_AT_AGAIN
from classify_batch.ports import NamedFor
from classify_batch.records import (
    Answer,
    AnsweredFile,
    Answers,
    Attempt,
    AttemptKey,
    Failure,
    FailureCode,
    FirstLook,
    JobSpec,
    JobSpecs,
    JobView,
    Part,
    Rule,
    to_ranges,
)
from classify_batch.stages.collector import Settled, settle, settle_bad
from classify_batch.stages.reconciler.decisions import Adopt, Decision, GiveUp, SendAgain, Take
from classify_batch.stages.reconciler.evidence import Doubt, Evidence
from classify_batch.stages.reconciler.found import FoundJob, Settlement, settle_found

if TYPE_CHECKING:
    from tests.explorer.canonical import START_S
    from tests.explorer.explore import Choose, ViolationError
    from tests.explorer.model_state import OpenAttempt, Outcome, Process, Round, State, Watched, Written
    from tests.explorer.promises import ALL_PROMISES, Broken, End, broken_by_completion, broken_by_create, broken_by_end
    from tests.explorer.server_model import Call, CallState, Reading, Scenario, Server, stranger_id
else:
    from canonical import START_S
    from explore import Choose, ViolationError
    from model_state import OpenAttempt, Outcome, Process, Round, State, Watched, Written
    from promises import ALL_PROMISES, Broken, End, broken_by_completion, broken_by_create, broken_by_end
    from server_model import Call, CallState, Reading, Scenario, Server, stranger_id

_RULES = (Rule(type="invoice", description="has line items and a total"),)
SPECS = JobSpecs(JobSpec(rules=_RULES, mode="FAST"), JobSpec(rules=_RULES, mode="MULTIMODAL"))


@dataclass(frozen=True, slots=True)
class Decisions:
    """How the program decides; the tests exchange one rule or the other.

    Attributes:
        evidence: makes what the reconciler decides by, for a process by whose clock the true time is so wrong, and by
            which that of the server's `Date` is.
        accept_s: for how long the program lets a call be accepted.
        answers_late_s: for how long it waits for the missing answers of a job of its own that ended so.
        settle_found: what found jobs mean for the files of an attempt.
        durable_intents: whether an intent is durable before its call leaves.
    """

    evidence: Callable[[Scenario, int, int], Evidence]
    accept_s: Callable[[Scenario], int] = lambda scenario: scenario.accept_s
    answers_late_s: Callable[[Scenario, str], int] = lambda scenario, _status: scenario.settle_s
    settle_found: Callable[[Attempt, Sequence[FoundJob], int, str], Settlement] = settle_found
    durable_intents: bool = True


def _evidence(scenario: Scenario, _wall_offset_s: int, _date_offset_s: int) -> Evidence:
    return Evidence(SPECS, settle_s=scenario.settle_s, clock_spread_s=scenario.clock_spread_s)


PRESENT = Decisions(_evidence)
"""As they stand in the program."""


class _Step:
    """One step: one thing that happens to a state."""

    def __init__(
        self, scenario: Scenario, decisions: Decisions, promises: frozenset[str], state: State, choose: Choose
    ) -> None:
        self.promises = promises
        self.scenario = scenario
        self.decisions = decisions
        self.state = state
        self.server = state.server
        self.choose = choose
        self.now = state.now

    def take(self) -> bool:
        state, choose = self.state, self.choose
        if state.offsets is None:
            state.offsets = (*choose(*self.scenario.wall_offsets), choose(*self.scenario.date_offsets))
            self._start(state.offsets[0])
            return True
        process = state.process
        if process is None:
            self._wait_for_process()
            return True
        if state.kills and choose(False, True):
            self._kill(process)
            return True
        works = _Work(self, process)
        tasks = works.tasks()
        if tasks and state.delays and process.round is not None and choose(False, True):
            state.delays -= 1
            self._pass_time("in the midst of a round")
        elif tasks:
            choose(*tasks)()
        elif works.waits():
            self._pass_time("")
        else:
            return False
        return True

    def note(self, words: str, *values: object) -> None:
        self.choose.note("{}   " + words, self.now, *values)

    def check(self, broken: Iterable[Broken]) -> None:
        for each in broken:
            if each.promise in self.promises:
                raise ViolationError(*each)

    def _pass_time(self, words: str) -> None:
        self.server.now += 1
        self.choose.note("{} s later {}", 1, words)

    def _kill(self, process: Process) -> None:
        state, choose = self.state, self.choose
        state.kills -= 1
        state.disk = choose(state.disk, *state.unwritten)
        state.unwritten, state.process, state.down_since_s = (), None, self.now
        self.note("KILLED, with so much of the journal: {}", state.disk)
        choose.reach("killed")
        for _, job_id in process.in_flight.values():
            choose.reach("killed with a create in flight")
            self.leave(job_id)

    def leave(self, job_id: str) -> None:
        """Nobody waits for the answer of a call any more."""
        call = self.state.calls[job_id]
        state = CallState.UNKNOWN if call.state is CallState.IN_FLIGHT else call.state
        self.state.calls[job_id] = call._replace(state=state, last_left_s=self.now)

    def _wait_for_process(self) -> None:
        state = self.state
        down_s = self.now - (state.down_since_s or 0)
        if down_s < self.scenario.downtime_s_max and self.choose(False, True):
            self._pass_time("")
            return
        assert state.offsets is not None
        self._start(state.offsets[1])

    def _start(self, wall_offset_s: int) -> None:
        state = self.state
        assert state.offsets is not None
        state.down_since_s = None
        for job_id, call in state.calls.items():
            state.calls[job_id] = call._replace(shown=False, end_shown=False, first_shown_s=None, missed_s=None)
        state.process = Process(
            wall_offset_s,
            self.now,
            state.disk,
            state.disk.server_s,
            self.decisions.evidence(self.scenario, wall_offset_s, state.offsets[2]),
            tuple(each.key for each in state.disk.open),
        )
        self.note("a process starts; its clock shows {}", self.now + wall_offset_s)


class _Work:
    """What a process does next."""

    def __init__(self, step: _Step, process: Process) -> None:
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
        process, found = self.process, list[Callable[[], None]]()
        reconciles = self._reconciles()
        late = self.scenario.takes_up_late and bool(process.evidence.doubts)
        if process.to_take_up and late:
            found.append(self._take_up)
        if process.round is not None and not self.scenario.interleaved:
            return [self._go_on_with_round, *found]
        other = self._other_task(takes_up=not late)
        if other is not None:
            found.append(other)
        if reconciles is not None and (other is None or self.scenario.interleaved):
            found.append(reconciles)
        return found

    def _reconciles(self) -> Callable[[], None] | None:
        process = self.process
        if process.round is not None:
            return self._go_on_with_round
        return self._begin_round if process.evidence.doubts and self.now >= process.round_due_s else None

    def _other_task(self, *, takes_up: bool) -> Callable[[], None] | None:  # noqa: PLR0911 - one for each kind of task
        process = self.process
        if process.to_take_up and takes_up:
            return self._take_up
        if process.undurable:
            return self._make_durable
        if any(self.now >= each.due_s for each in process.watched.values()):
            return self._watch
        if process.in_flight:
            return self._answer_create
        if process.to_send:
            return self._post
        if process.written.waiting and not process.to_take_up:
            return self._intend
        return self._close if not process.written.open and not process.evidence.doubts else None

    def waits(self) -> bool:
        return bool(self.process.evidence.doubts or self.process.watched)

    # --- The journal ------------------------------------------------------------------------------------------------

    def _record(self, written: Written) -> None:
        self.process.written = written
        self.state.unwritten = (*self.state.unwritten, written)

    def _make_durable(self) -> None:
        self.state.disk, self.state.unwritten, self.process.undurable = self.process.written, (), False

    def _close(self) -> None:
        self._make_durable()
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
                look = looks.get(attempt.key, attempt._replace(part=Part(chunk), job_id=None))
            elif kind == FailureCode.NOT_ANSWERED and attempt.job_id is not None:
                look = looks.get(attempt.key, attempt._replace(part=Part(chunk, bad_jobs=LOOKED_AT_AGAIN)))
            else:
                again[chunk] = _with_position(again.get(chunk, Part(chunk)), position)
                continue
            looks[attempt.key] = look._replace(part=_with_position(look.part, position), again_s=self.now)
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
        return Attempt(key, part, part.pick(chunk), tuple(part.positions(len(chunk))))

    def _doubt(self, attempt: Attempt, left_s: int) -> None:
        now, scenario = self.now, self.scenario
        accept_until_s = left_s + self.decisions.accept_s(scenario)
        age_s = max(0.0, now + self.process.wall_offset_s - max(attempt.since_s, attempt.waits_since_s))
        give_up_s = max(now + scenario.job_timeout_s - age_s, accept_until_s + scenario.settle_s)
        self.process.evidence.add(Doubt(attempt, accept_until_s, give_up_s))
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
        self._record(
            written._replace(
                open=tuple(sorted((*written.open, opened))),
                waiting=tuple(waiting),
                attempts=tuple(attempts),
                server_s=process.server_s,
            )
        )
        if self.decisions.durable_intents:
            self._make_durable()
        process.to_send[key] = replace(
            self._attempt(key, part), since_s=since_s, server_s=process.server_s, intended_s=self.now
        )

    def _post(self) -> None:
        process, calls = self.process, self.state.calls
        key, attempt = next(iter(process.to_send.items()))
        del process.to_send[key]
        number = 1 + sum(call.key == key for call in calls.values())
        job_id = f"{key.chunk}.{key.attempt}.{number}"
        call = Call(job_id, key, attempt.file_ids, SPECS.of(attempt.part).mode, self.now)
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
        process, key = self.process, attempt.key
        if call.state is CallState.IN_FLIGHT:
            call = self.state.calls[call.job_id] = self.server.accept(call, self.choose)
        self.step.note("create {} is answered", call.job_id)
        self._learn(call.created_s)
        self._name_job(attempt, call.job_id)
        process.undurable = True
        process.watched[key] = Watched(attempt, call.job_id, self.now)

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

    def _name_job(self, attempt: Attempt, job_id: str) -> None:
        written = self.process.written
        named = tuple(each._replace(job_id=job_id) if each.key == attempt.key else each for each in written.open)
        self._record(written._replace(open=named, named=written.named | {(job_id, None)}))

    def _learn(self, created_s: float | None) -> None:
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
            late_s = 0 if watched.attempt.part.bad_jobs <= LOOKED_AT_AGAIN else late_s
            final_s = self.now + late_s if watched.final_s is None else watched.final_s
            answers = self.server.results(call, self.choose)
            if self.now < final_s and {each.file_id for each in answers if each.answered} < set(call.files):
                process.watched[key] = watched._replace(due_s=final_s, final_s=final_s)
            else:
                self._commit(watched, settle(watched.attempt, answers, self.scenario.attempts, view))

    def _watch_failed(self, watched: Watched, view: JobView, late_s: int) -> None:
        if late_s and not watched.failed:
            self.process.watched[watched.attempt.key] = watched._replace(due_s=self.now + late_s, failed=True)
        else:
            self._commit(watched, settle_bad(watched.attempt, view, self.scenario.attempts))

    def _commit(self, watched: Watched, settled: Settled) -> None:
        attempt = watched.attempt
        mode = SPECS.of(attempt.part).mode
        answers = [AnsweredFile(file_id, answer, watched.job_id, mode) for file_id, answer in settled.answers]
        del self.process.watched[attempt.key]
        self._end(attempt, answers, settled.failures, settled.again)

    # --- The end of an attempt --------------------------------------------------------------------------------------

    def _end(
        self,
        attempt: Attempt,
        answers: Sequence[AnsweredFile],
        failures: Sequence[Failure],
        again: tuple[Part, ...],
        found: Sequence[str] = (),
        *,
        gave_up: bool = False,
    ) -> None:
        self.step.check(broken_by_end(self.state, End(attempt, answers, failures, again, gave_up)))
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
        self._record(
            written._replace(
                open=tuple(each for each in written.open if each.key != key),
                waiting=(*written.waiting, *again),
                named=written.named.union((job_id, key.chunk) for job_id in found),
                outcomes=tuple(sorted((*written.outcomes, *ended))),
            )
        )

    # --- The reconciler ---------------------------------------------------------------------------------------------

    def _begin_round(self) -> None:
        state, process = self.state, self.process
        process.round_due_s = self.now + 1
        process.evidence.begin_reading(self.now)
        listed = sorted(call.job_id for call in state.calls.values() if call.state is not CallState.NO_JOB)
        cut = bool(state.cut_readings) and self.choose(False, True)
        state.cut_readings -= cut
        fails = bool(state.outages) and not cut and self.choose(False, True)
        state.outages -= fails
        state.list_failed |= cut or fails
        self.step.note("a reading begins{}", " and fails" * fails or " and will be cut short" * cut)
        if fails:
            process.evidence.fail_reading()
            process.round = Round("journal", (None,), Reading(self.now, False))
        else:
            process.round = Round("pages", tuple(listed), Reading(self.now, not cut))
            self._end_stages()

    def _go_on_with_round(self) -> None:
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
            self.process.evidence.show(view, self.now)

    def _end_of_list(self) -> tuple[str, Iterable[object]]:
        current = self.process.round
        assert current is not None
        self.process.evidence.end_reading(complete=current.reading.complete)
        return "journal", (None,)

    def _ask_journal(self, _: object) -> None:
        """To ask it, what was said has to be durable."""
        self._make_durable()
        for job_id in list(self.process.evidence.candidates):
            self.process.evidence.name(job_id, self._named_for(job_id))

    def _named_for(self, job_id: str) -> NamedFor:
        chunks = [chunk for named, chunk in self.process.written.named if named == job_id]
        return None if None in chunks else frozenset(chunk for chunk in chunks if chunk is not None)

    def _unasked(self) -> tuple[str, Iterable[object]]:
        return "jobs", [each.job_id for each in self.process.evidence.unasked()]

    def _get(self, job_id: str) -> None:
        calls = self.state.calls
        calls[job_id], view = self.server.get(calls[job_id], self.choose)
        if view is not None:
            self.process.evidence.show(view, self.now)

    def _unread(self) -> tuple[str, Iterable[object]]:
        return "results", [each.job_id for each in self.process.evidence.unread(self.now)]

    def _read(self, job_id: str) -> None:
        process, evidence = self.process, self.process.evidence
        candidate = evidence.candidates.get(job_id)
        if candidate is None or not evidence.is_read_due(candidate, self.now):
            return
        self._answers_of(job_id)
        for doubt in list(evidence.doubts.values()):
            if not doubt.digests & candidate.answered:
                continue
            decision = evidence.decide(doubt, self.now)
            if isinstance(decision, Adopt):
                self._act(doubt, decision)
            elif isinstance(decision, Take) and all(view.job_id in process.answers for view in decision.jobs):
                self._take(doubt, self._found(decision.jobs))

    def _answers_of(self, job_id: str) -> tuple[Answer, ...]:
        items = self.server.results(self.state.calls[job_id], self.choose)
        named = [each.file_id for each in items if each.file_id is not None]
        answered = [each.file_id for each in items if each.file_id is not None and each.answered]
        self.process.evidence.read(job_id, self.now, named, answered)
        if answered:
            self.process.answers[job_id] = items
        return items

    def _doubts(self) -> tuple[str, Iterable[object]]:
        return "decisions", list(self.process.evidence.doubts)

    def _decide(self, key: AttemptKey) -> None:
        doubt = self.process.evidence.doubts[key]
        self._act(doubt, self.process.evidence.decide(doubt, self.now))

    def _act(self, doubt: Doubt, decision: Decision | None) -> None:
        match decision:
            case Adopt(view):
                self._adopt(doubt, view)
            case Take(jobs) | GiveUp(jobs):
                found = self._found(jobs)
                if self.process.evidence.decide(doubt, self.now) == decision:
                    self._take(doubt, found, decision.why if isinstance(decision, GiveUp) else "")
            case SendAgain():
                self.step.note("attempt {} is sent again", doubt.attempt.key)
                self.choose.reach("sent again")
                self.process.evidence.remove(doubt)
                self.process.to_send[doubt.attempt.key] = replace(doubt.attempt, ambiguous=False)
            case _:
                pass

    def _found(self, jobs: Iterable[JobView]) -> list[FoundJob]:
        """What was read in this round is not read once more."""
        found: list[FoundJob] = []
        for view in jobs:
            items = self.process.answers.get(view.job_id) or self._answers_of(view.job_id)
            found.append(FoundJob(view, Answers(items)))
        return found

    def _adopt(self, doubt: Doubt, view: JobView) -> None:
        self.step.note("attempt {} adopts {}", doubt.attempt.key, view.job_id)
        self.choose.reach("found")
        self.process.evidence.remove(doubt)
        self._name_job(doubt.attempt, view.job_id)
        self.process.watched[doubt.attempt.key] = Watched(doubt.attempt, view.job_id, self.now)

    def _take(self, doubt: Doubt, found: list[FoundJob], unresolved: str = "") -> None:
        attempt = doubt.attempt
        self.process.evidence.remove(doubt)
        if unresolved:
            self.choose.reach("given up")
        if found:
            self.choose.reach("found")
        settlement = self.decisions.settle_found(attempt, found, self.scenario.attempts, unresolved)
        for each in found:
            self._learn(each.view.created_at_s)
        self._end(
            attempt,
            settlement.answers,
            settlement.failures,
            settlement.again,
            [each.view.job_id for each in found],
            gave_up=bool(unresolved),
        )


def _with_position(part: Part, position: int) -> Part:
    positions = {position, *(each for start, stop in part.ranges or () for each in range(start, stop))}
    return replace(part, ranges=to_ranges(sorted(positions)))


_STAGES: dict[str, tuple[Callable[[_Work, Any], None], Callable[[_Work], tuple[str, Iterable[object]]]]] = {
    "pages": (_Work._list_page, _Work._end_of_list),
    "journal": (_Work._ask_journal, _Work._unasked),
    "jobs": (_Work._get, _Work._unread),
    "results": (_Work._read, _Work._doubts),
    "decisions": (_Work._decide, _Work._doubts),
}
"""What a round does with each of what it has to do, and what follows."""


class ProtocolModel:
    """A scenario, to be explored under some decisions."""

    def __init__(
        self, scenario: Scenario, decisions: Decisions = PRESENT, promises: Iterable[str] = ALL_PROMISES
    ) -> None:
        self._scenario = scenario
        self._decisions = decisions
        self._promises = frozenset(promises)

    def first(self) -> State:
        scenario = self._scenario
        first = FirstLook(0, 1)
        chunks = range(len(scenario.chunks))
        parts = tuple(Part(chunk, first=first if chunk in scenario.rechecks else None) for chunk in chunks)
        calls = {
            stranger_id(number): Call(stranger_id(number), None, each.files, each.mode, START_S - each.made_s)
            for number, each in enumerate(scenario.strangers)
        }
        return State(
            Server(scenario, START_S, scenario.bad_ends, scenario.gets_404),
            disk=Written((), parts, (0,) * len(parts)),
            unwritten=(),
            calls={job_id: call._replace(state=CallState.UNKNOWN) for job_id, call in calls.items()},
            process=None,
            down_since_s=None,
            offsets=None,
            losses=scenario.losses,
            refusals=scenario.refusals,
            kills=scenario.kills,
            retries=scenario.retries,
            outages=scenario.outages,
            cut_readings=scenario.cut_readings,
            delays=scenario.delays,
        )

    def copy(self, state: State) -> State:
        return state.copy()

    def key(self, state: State) -> Hashable:
        return state.key()

    def is_over(self, state: State) -> bool:
        return state.over

    def step(self, state: State, choose: Choose) -> bool:
        return _Step(self._scenario, self._decisions, self._promises, state, choose).take()
