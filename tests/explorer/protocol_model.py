"""The protocol as a model: processes that die, a journal that survives them, and the program's own decisions.

The decisions are the real ones: `Evidence`, `decide_found_jobs`, `decide_answered_job`, `decide_failed_job`, and
through them `states.after_*`. What the stages do around them is in process_model.py and rounds_model.py, what the API
does in server_model.py. Every step of a process is a step of the model, and a kill may come between any two. What it
leaves are the server and the journal.

The promises are checked where they could be broken: when a create leaves, when an attempt ends, and when the run does
(see promises.py).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from classify_batch.model import Part, ProvisionalRange
from tests.explorer.canonical import START_S
from tests.explorer.decisions import PRESENT, Decisions
from tests.explorer.explore import Choose, ViolationError
from tests.explorer.model_state import Process, State, Written
from tests.explorer.process_model import Work
from tests.explorer.promises import ALL_PROMISES, Broken
from tests.explorer.server_model import Call, CallState, Scenario, Server, stranger_id


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
        first = ProvisionalRange(0, 1)
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
        return Step(self._scenario, self._decisions, self._promises, state, choose).take()


class Step:
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
        works = Work(self, process)
        tasks = works.tasks()
        if tasks and state.delays and choose(False, True):
            state.delays -= 1
            self._pass_time("in the midst of work")
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
        self.note("KILLED; the journal knows of {}", state.disk)
        choose.reach("killed")
        for _, job_id in process.in_flight.values():
            choose.reach("killed with a create in flight")
            self.leave(job_id)

    def leave(self, job_id: str) -> None:
        """Nobody waits for the answer of a call any more."""
        call = self.state.calls[job_id]
        state = CallState.UNKNOWN if call.state is CallState.IN_FLIGHT else call.state
        self.state.calls[job_id] = call._replace(state=state, last_sent_s=self.now)

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
