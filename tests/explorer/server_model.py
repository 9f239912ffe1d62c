"""The API of the model: creates, the job list, single jobs and their results, with all that they may do to a client.

The server decides as late as it can. Whether a create whose answer was lost was accepted is chosen when a reading of
the list shows its job, or when no fair reading could leave it out any more; how a job ended is chosen when somebody
looks. Every earlier decision would show the same to the client, so nothing is lost, and there are far fewer states.

What the server may do is bounded by what the promise rests on (see `Scenario`): it is unkind, and it is fair.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from classify_batch.model import Answer, AttemptKey, JobView
from classify_batch.vocabulary import ANSWERED_STATUSES, JobStatus
from tests.explorer.explore import Choose

NOT_YET, NULL, ANSWERED, ABSENT, FAILED = "?", "0", "+", "-", "E"
"""How a job ended, a mark for each of its files: `+0-` has answered the first file, names the second without an answer,
and doesn't name the third. `E` is the end of a job that failed."""


@dataclass(frozen=True, slots=True)
class Stranger:
    """Somebody else's job by the same rules, which may be made at any moment, or never.

    Attributes:
        made_s: when it was made, where its time is shown: so long before the model begins.
    """

    files: tuple[str, ...]
    ends: tuple[str, ...]
    mode: str = "FAST"
    made_s: int = 0


@dataclass(frozen=True, slots=True)
class Scenario:
    """A small world: how much there is of everything, and what may happen in it. A unit of time is a second.

    Attributes:
        chunks: the run's files.
        accepts_within_s: for how long a create may be accepted after it last can have left: what the client's
            `accept_s` allows for.
        lists_within_s: of any two complete readings, begun at least so long after each other, and both after a job was
            accepted, at most one misses it. The list may lag, or one of its pages may have shifted. 0: none does.
        vanishes: whether a job may be left out of any reading once it was shown to the process.
        results_within_s: for how long after a job's end its results may lag: each time they are read, they may be any
            of `late_results`: all files `NULL`, or `ABSENT`, or only the first `ANSWERED`.
        errs_within_s: for how long after its end a job that ended well may be shown as failed at first.
        shown_times: whether jobs show when they were made; skews: by how much the server's clocks may differ from the
            right time, any of them for any job.
        ends: how our jobs may end, `bad_ends` of them; the others answer every file.
        job_s_max: for how long a job may be seen to run.
        strangers: other people's jobs.
        modes_shown: whether jobs show their mode.
        losses, refusals, kills, retries, outages, cut_readings, gets_404: how often it may happen that the answer of a
            create is lost, a create is refused, the process is killed, the failed files of a complete run get a new
            chance, the list can't be read, it doesn't come to its end, or a job asked for by itself is 404.
        delays: how often a unit of time may pass in the midst of work.
        downtime_s_max: how long it may take until the next process starts.
        interleaved: whether creating and collecting go on in the midst of a reading.
        takes_up_late: whether what an earlier process left open waits for room.
        wall_offsets: by how much the clocks of the first process and of those after it may be wrong; date_offsets: by
            how much the `Date` header may be.
        rechecks: the chunks that go out for a second look.
    """

    chunks: tuple[tuple[str, ...], ...] = (("a", "b"),)
    accept_s: int = 2
    settle_s: int = 2
    clock_spread_s: int = 2
    job_timeout_s: int = 20
    attempts: int = 2
    accepts_within_s: int = 0
    lists_within_s: int = 0
    vanishes: bool = False
    results_within_s: int = 0
    late_results: tuple[str, ...] = (ABSENT,)
    errs_within_s: int = 0
    shown_times: bool = False
    skews: tuple[int, ...] = (0,)
    ends: tuple[str, ...] = ()
    bad_ends: int = 0
    job_s_max: int = 0
    strangers: tuple[Stranger, ...] = ()
    modes_shown: bool = True
    losses: int = 1
    refusals: int = 0
    kills: int = 0
    retries: int = 0
    outages: int = 0
    cut_readings: int = 0
    gets_404: int = 0
    delays: int = 0
    downtime_s_max: int = 0
    interleaved: bool = False
    takes_up_late: bool = False
    wall_offsets: tuple[tuple[int, int], ...] = ((0, 0),)
    date_offsets: tuple[int, ...] = (0,)
    rechecks: tuple[int, ...] = ()


def stranger_id(number: int) -> str:
    return f"s{number}"


def stranger_number(job_id: str) -> int:
    return int(job_id[1:])


class CallState(IntEnum):
    """What became of a create call."""

    IN_FLIGHT = 0
    """Its process waits for the answer; it may have been accepted, unseen by anybody."""
    UNKNOWN = 1
    """Nobody waits for its answer any more; it was accepted and has not been seen, or may yet be, or never is."""
    RUNNING = 2
    ENDED = 3
    NO_JOB = 4


class Call(NamedTuple):
    """A create call, and the job that it made.

    Attributes:
        key: the attempt that it belongs to; None: it is a stranger's.
        posted_s: when it left; last_sent_s: when it last can have left, once nobody waits for it any more.
        accepted_s: when its job was first there; created_s: what it shows as that time, by the server's clock.
        ended_s, marks: when it ended and how.
        shown: whether a reading has shown it to the present process since it wants to know; end_shown: whether it has
            answers; first_shown_s: when the present process first saw it at all.
        missed_s: when the first complete reading of the present process began that left it out.
    """

    job_id: str
    key: AttemptKey | None
    files: tuple[str, ...]
    mode: str
    posted_s: int
    state: CallState = CallState.IN_FLIGHT
    last_sent_s: int | None = None
    accepted_s: int = 0
    created_s: int | None = None
    ended_s: int = 0
    marks: str = ""
    shown: bool = False
    end_shown: bool = False
    first_shown_s: int | None = None
    missed_s: int | None = None

    def mark(self, file_id: str) -> str:
        if self.state is not CallState.ENDED:
            return NOT_YET
        return FAILED if self.marks == FAILED else self.marks[self.files.index(file_id)]

    def key_from(self, now: int) -> tuple[object, ...]:
        """What makes a difference from now on."""
        if self.state is CallState.NO_JOB:
            return (self.job_id,)
        times = (
            self.posted_s,
            self.last_sent_s,
            self.accepted_s,
            self.created_s,
            self.ended_s,
            self.missed_s,
            self.first_shown_s,
        )
        since = tuple(-1 if each is None else max(0, now - each) for each in times)
        return self.job_id, self.state, self.marks, self.shown, self.end_shown, since

    def may_answer(self, file_id: str) -> bool:
        """Whether it answers the file, or may yet."""
        return self.state is not CallState.NO_JOB and self.mark(file_id) in (NOT_YET, ANSWERED)


class Reading(NamedTuple):
    """A reading of the list that is under way."""

    begun_s: int
    complete: bool


class Server:
    """What the API answers. `bad_ends` and `gets_404` say how often it may still answer so."""

    __slots__ = ("bad_ends", "gets_404", "now", "scenario")

    def __init__(self, scenario: Scenario, now: int, bad_ends: int, gets_404: int) -> None:
        self.scenario = scenario
        self.now = now
        self.bad_ends = bad_ends
        self.gets_404 = gets_404

    def copy(self) -> Server:
        return Server(self.scenario, self.now, self.bad_ends, self.gets_404)

    # --- Creates ----------------------------------------------------------------------------------------------------

    def accept(self, call: Call, choose: Choose) -> Call:
        """Makes the job. Where times are shown, one that was made unseen may be as old as its call."""
        created_s = None
        if self.scenario.shown_times:
            made_s = choose(*sorted({call.posted_s, self._latest_s(call)}))
            created_s = made_s + choose(*self.scenario.skews)
        choose.note("{}   job {} is there, made at {} by its own words", self.now, call.job_id, created_s)
        return call._replace(state=CallState.RUNNING, accepted_s=self.now, created_s=created_s)

    def _latest_s(self, call: Call) -> int:
        if call.last_sent_s is None:
            return self.now
        return min(self.now, call.last_sent_s + self.scenario.accepts_within_s)

    # --- The list ---------------------------------------------------------------------------------------------------

    def list_job(self, call: Call, reading: Reading, choose: Choose) -> tuple[Call, JobView | None]:
        """A call's job as a reading of the list shows it, and the call as it stands then."""
        call, listed = self._find(call, reading, choose)
        if not listed:
            return call, None
        first_s = self.now if call.first_shown_s is None else call.first_shown_s
        return self.show(call._replace(shown=True, first_shown_s=first_s), choose)

    def _find(self, call: Call, reading: Reading, choose: Choose) -> tuple[Call, bool]:
        if call.state is CallState.NO_JOB:
            return call, False
        if call.state in (CallState.RUNNING, CallState.ENDED):
            return self._find_job(call, reading, choose)
        if not self._may_be_missed(call, reading):
            if choose(False, True):
                return self._accept_unseen(call, choose), True
            choose.note("{}   the server has never accepted call {}", self.now, call.job_id)
            return call._replace(state=CallState.NO_JOB), False
        if choose(False, True):
            return self._accept_unseen(call, choose), True
        return self._missed(call, reading), False

    def _find_job(self, call: Call, reading: Reading, choose: Choose) -> tuple[Call, bool]:
        if not self._may_be_missed(call, reading) or choose(True, False):
            return call, True
        choose.note("{}   the list leaves job {} out", self.now, call.job_id)
        choose.reach("left out" if call.shown else "missed")
        return self._missed(call, reading), False

    def _may_be_missed(self, call: Call, reading: Reading) -> bool:
        scenario = self.scenario
        if call.key is None and not call.shown:
            return True
        if call.state is CallState.IN_FLIGHT or not reading.complete or (call.shown and scenario.vanishes):
            return True
        if not self._counts(call, reading):
            return call.state is CallState.UNKNOWN
        missed_s = reading.begun_s if call.missed_s is None else call.missed_s
        return reading.begun_s - missed_s < scenario.lists_within_s

    def _counts(self, call: Call, reading: Reading) -> bool:
        """Whether a reading began after the job was there, if there is one."""
        if call.state is CallState.UNKNOWN:
            return call.last_sent_s is None or reading.begun_s >= call.last_sent_s + self.scenario.accepts_within_s
        return True

    def _missed(self, call: Call, reading: Reading) -> Call:
        if call.missed_s is None and reading.complete and self._counts(call, reading):
            return call._replace(missed_s=reading.begun_s)
        return call

    def _accept_unseen(self, call: Call, choose: Choose) -> Call:
        if call.key is None:
            choose.reach("a stranger's job")
        elif call.last_sent_s is not None and call.last_sent_s < self.now:
            choose.reach("seen later")
        return self.accept(call, choose)

    # --- Jobs -------------------------------------------------------------------------------------------------------

    def get(self, call: Call, choose: Choose) -> tuple[Call, JobView | None]:
        """A job asked for by itself; None: 404."""
        if self.gets_404 and choose(False, True):
            self.gets_404 -= 1
            choose.note("{}   job {} is 404", self.now, call.job_id)
            return call, None
        return self.show(call, choose)

    def show(self, call: Call, choose: Choose) -> tuple[Call, JobView]:
        """Decides how a job stands, and shows it."""
        call = self._end(call, choose)
        status = self._status(call, choose)
        if status in ANSWERED_STATUSES:
            call = call._replace(end_shown=True)
        choose.note("{}   job {} is shown as {}", self.now, call.job_id, status)
        mode = call.mode if self.scenario.modes_shown else None
        created_s = None if call.created_s is None else float(call.created_s)
        return call, JobView(call.job_id, status, created_at_s=created_s, mode=mode)

    def _end(self, call: Call, choose: Choose) -> Call:
        if call.state is not CallState.RUNNING:
            return call
        options = list(self._ends(call))
        if self.now - call.accepted_s < self.scenario.job_s_max:
            options.append(NOT_YET)
        marks = choose(*options)
        if marks == NOT_YET:
            return call
        if call.key is not None and marks.strip(ANSWERED):
            self.bad_ends -= 1
            choose.reach("failed job" if marks == FAILED else "partial answers")
        choose.note("{}   job {} over {} ends as {}", self.now, call.job_id, "".join(call.files), marks)
        return call._replace(state=CallState.ENDED, ended_s=self.now, marks=marks)

    def _ends(self, call: Call) -> tuple[str, ...]:
        if call.key is None:
            return self.scenario.strangers[stranger_number(call.job_id)].ends
        files = len(call.files)
        bad = [marks for marks in self.scenario.ends if len(marks) == files or marks == FAILED] if self.bad_ends else []
        return (ANSWERED * files, *bad)

    def _status(self, call: Call, choose: Choose) -> JobStatus:
        if call.state is CallState.RUNNING:
            return JobStatus.PENDING
        if call.marks == FAILED:
            return JobStatus.ERROR
        late = self.now - call.ended_s >= self.scenario.errs_within_s
        if not late and not call.end_shown and choose(False, True):
            choose.reach("shown as failed")
            return JobStatus.ERROR
        return JobStatus.PARTIAL_SUCCESS if call.marks.strip(ANSWERED) else JobStatus.SUCCESS

    def results(self, call: Call, choose: Choose) -> tuple[Answer, ...]:
        """What a job that ended well says of its files now."""
        marks = call.marks
        if self.now - call.ended_s < self.scenario.results_within_s:
            late = choose("", *self.scenario.late_results)
            if late:
                choose.reach("late results")
                marks = self._late(marks, late)
        choose.note("{}   the results of job {} are {}", self.now, call.job_id, marks)
        return tuple(
            Answer(file_id, mark == ANSWERED, call.job_id if mark == ANSWERED else None)
            for file_id, mark in zip(call.files, marks, strict=True)
            if mark != ABSENT
        )

    @staticmethod
    def _late(marks: str, late: str) -> str:
        if late == ANSWERED:
            return marks[0] + ABSENT * (len(marks) - 1)
        return late * len(marks)
