"""How finished jobs are collected, in virtual time: nothing is paid again before its results had time to come."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio
import pytest

from classify_batch.engine import collector as module
from classify_batch.engine.collector import Collector
from classify_batch.engine.context import EngineContext
from classify_batch.engine.event_queue import EventQueue
from classify_batch.engine.outcome_recorder import OutcomeRecorder
from classify_batch.engine.shutdown import Shutdown, Stop
from classify_batch.errors import ApiError, ExitStatus, Verdict
from classify_batch.events import Event, Warned
from classify_batch.lifecycle import Ended
from classify_batch.limits import JobSlots
from classify_batch.model import Answer, Answers, Attempt, AttemptKey, Job, JobView, Part, to_ranges
from classify_batch.settings import Settings
from classify_batch.vocabulary import Kind, Log
from tests.support.loop_clock import LoopClock
from tests.support.scripted_ports import KeptJournal, ScriptedApi, refusal

pytestmark = pytest.mark.anyio

SETTLE_S, JOB_TIMEOUT_S = 20.0, 600.0
RULES = [{"type": "x", "description": "anything at all"}]

Shown = TypeVar("Shown")
Status = str | ApiError
Said = Answers | ApiError


def said(*answered: str, null: Collection[str] = (), withheld: str = "") -> Answers:
    items = [Answer(file_id, True, "x") for file_id in answered] + [Answer(file_id, False) for file_id in null]
    return Answers(tuple(items), withheld)


@dataclass
class Server(ScriptedApi):
    """Jobs by what they show as time goes by: the last entry that has come counts.

    Attributes:
        status, results: by job ID, what is shown from which second on; a job without a status has ended well.
        asked: the calls that were made, each with its time.
    """

    status: dict[str, dict[float, Status]] = field(default_factory=dict)
    results_of: dict[str, dict[float, Said]] = field(default_factory=dict)
    asked: list[tuple[str, str, float]] = field(default_factory=list)

    async def get(self, job_id: str) -> JobView:
        self.asked.append(("get", job_id, anyio.current_time()))
        status = _now(self.status.get(job_id, {0.0: "SUCCESS"}))
        if isinstance(status, ApiError):
            raise status
        return JobView(job_id, status, error_message=f"said at {anyio.current_time():g} s")

    async def results(self, job: JobView, asked: Collection[str]) -> Answers:
        self.asked.append(("results", job.job_id, anyio.current_time()))
        answers = _now(self.results_of[job.job_id])
        if isinstance(answers, ApiError):
            raise answers
        return answers

    def times(self, call: str, job_id: str = "j") -> list[float]:
        return [at_s for each, of, at_s in self.asked if (each, of) == (call, job_id)]


def _now(shown: dict[float, Shown]) -> Shown:
    return shown[max(at_s for at_s in shown if at_s <= anyio.current_time())]


class Rig:
    """A collector, and all that it touches. `suspects`: attempts whose shared bad jobs may be another file's fault."""

    def __init__(self, server: Server, *, attempts: int = 3) -> None:
        self.server = server
        self.journal = KeptJournal()
        self.stopping = Shutdown()
        self.suspects = self.journal.suspects
        self.warned: list[str] = []
        self._events = EventQueue([self])
        limits = {"attempts": attempts, "settle_s": SETTLE_S, "job_timeout_s": JOB_TIMEOUT_S}
        settings = Settings(job={"rules": RULES}, limits=limits)
        clock = LoopClock()
        recorder = OutcomeRecorder(self.journal, clock, settings.specs)
        self.collector = Collector(
            EngineContext(settings, server, self.journal, recorder, clock, JobSlots(9), self.stopping, self._events)
        )

    async def observe(self, event: Event) -> None:
        if isinstance(event, Warned):
            self.warned.append(event.message)

    @property
    def left_open(self) -> list[AttemptKey]:
        return list(self.stopping.left_open)

    async def collect(self, *jobs: Job) -> Rig:
        """One worker, until it is through with all of them."""
        send, finished = anyio.create_memory_object_stream[Job](len(jobs))
        with send:
            for each in jobs:
                send.send_nowait(each)
        with anyio.fail_after(10 * JOB_TIMEOUT_S):
            await self.collector.collect_finished_jobs(finished)
        await self._events.deliver_remaining()
        return self

    @property
    def ends(self) -> list[tuple[float, Ended]]:
        return [(at_s, fact) for at_s, fact in self.journal.recorded if isinstance(fact, Ended)]

    @property
    def end(self) -> tuple[float, Ended]:
        (end,) = self.ends
        return end

    def lines(self, log: Log) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.journal.lines[log].splitlines()]

    @property
    def answered(self) -> list[str]:
        return [line["file_id"] for line in self.lines(Log.RESULTS)]

    @property
    def failed(self) -> dict[str, str]:
        return {line["file_id"]: line["code"] for line in self.lines(Log.FAILURES)}


def job(
    status: str | None,
    *file_ids: str,
    job_id: str = "j",
    chunk: int = 0,
    bad_jobs: int = 0,
    shared: int = 0,
    recheck: bool = False,
    **shown: Any,
) -> Job:
    """A job that was seen to have this status; None: it takes too long."""
    positions = tuple(range(len(file_ids)))
    part = Part(chunk, to_ranges(positions), bad_jobs, None, shared, recheck=recheck)
    attempt = Attempt(AttemptKey(chunk, 1), part, file_ids, positions, 1.0, credits=5.0)
    return Job(attempt, job_id, 1.0, finished=None if status is None else JobView(job_id, status, **shown))


# --- Results that come late ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["SUCCESS", "PARTIAL_SUCCESS"])
async def test_what_is_answered_is_committed_at_once(status: str) -> None:
    """By one read of the results."""
    rig = await Rig(Server(results_of={"j": {0.0: said("b", "a")}})).collect(job(status, "a", "b"))
    assert (rig.answered, rig.end[0], rig.server.asked) == (["b", "a"], 0.0, [("results", "j", 0.0)])
    assert (rig.end[1].kind, rig.end[1].requeued) == (Kind.COLLECTED, ())


@pytest.mark.parametrize("status", ["SUCCESS", "PARTIAL_SUCCESS"])
@pytest.mark.parametrize(
    ("early", "lag_s", "read_at"),
    [
        (said("a"), 2.0, [0.0, 1.0, 3.0]),
        (said("a"), 20.0, [0.0, 1.0, 3.0, 7.0, 15.0, 20.0]),
        (said("a", null=["b"]), 5.0, [0.0, 1.0, 3.0, 7.0]),
        (said(), 1.0, [0.0, 1.0]),
    ],
)
async def test_results_that_lag_are_waited_for(status: str, early: Answers, lag_s: float, read_at: list[float]) -> None:
    """In either status, whether a file is missing or null: nothing of it is paid again."""
    server = Server(results_of={"j": {0.0: early, lag_s: said("a", "b")}})
    rig = await Rig(server).collect(job(status, "a", "b"))
    assert server.times("results") == read_at
    assert (rig.answered, rig.failed, rig.end[1].requeued) == (["a", "b"], {}, ())


async def test_what_is_missing_at_the_end_goes_out_again() -> None:
    """When everything that lags must have come, and not before."""
    server = Server(results_of={"j": {0.0: said("a"), SETTLE_S + 0.1: said("a", "b")}})
    rig = await Rig(server).collect(job("SUCCESS", "a", "b"))
    assert server.times("results")[-1] == rig.end[0] == SETTLE_S
    assert rig.end[1].requeued == (Part(0, to_ranges([1]), 1),)
    assert rig.answered == ["a"]


async def test_what_stays_missing_fails_when_its_attempts_are_used_up() -> None:
    """With the credits that its job may have cost."""
    server = Server(results_of={"j": {0.0: said("a", null=["b"])}})
    rig = await Rig(server, attempts=1).collect(job("PARTIAL_SUCCESS", "a", "b"))
    assert (rig.answered, rig.failed) == (["a"], {"b": "not_answered"})
    assert rig.end[1].tally.sums == {}


async def test_what_the_api_withholds_is_not_waited_for() -> None:
    """It has said that it doesn't hand out more: that is perhaps paid, and fails."""
    server = Server(results_of={"j": {0.0: said("a", withheld="no more pages"), 1.0: said("a", "b")}})
    rig = await Rig(server).collect(job("SUCCESS", "a", "b"))
    assert (rig.end[0], rig.answered, rig.failed) == (0.0, ["a"], {"b": "not_answered"})


async def test_ids_in_another_spelling_are_answered() -> None:
    """A UUID in lower case: nothing is waited for, and it is written as it was given."""
    uuid = "0A6B7C1E-3D2F-4A5B-8C9D-0E1F2A3B4C5D"
    rig = await Rig(Server(results_of={"j": {0.0: said(uuid.lower())}})).collect(job("SUCCESS", uuid))
    assert (rig.answered, rig.end[0]) == ([uuid], 0.0)


async def test_late_results_hold_nobody_up() -> None:
    """They are waited for beside the others, by one worker."""
    server = Server(results_of={"late": {0.0: said()}, "k": {0.0: said("b")}, "later": {0.0: said()}})
    rig = await Rig(server).collect(
        job("SUCCESS", "a", job_id="late"),
        job("SUCCESS", "b", job_id="k", chunk=1),
        job("SUCCESS", "c", job_id="later", chunk=2),
    )
    assert {fact.key.chunk: at_s for at_s, fact in rig.ends} == {0: SETTLE_S, 1: 0.0, 2: SETTLE_S}


async def test_only_so_many_jobs_wait_beside_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond, collecting waits: there is a limit to everything."""
    monkeypatch.setattr(module, "WAITING_JOBS_MAX", 2)
    ids = ["1", "2", "3", "4"]
    server = Server(results_of={each: {0.0: said(each) if each == "4" else said()} for each in ids})
    jobs = [job("SUCCESS", each, job_id=each, chunk=int(each)) for each in ids]
    rig = await Rig(server).collect(*jobs)
    assert {fact.key.chunk: at_s for at_s, fact in rig.ends} == {1: 20.0, 2: 20.0, 4: 20.0, 3: 40.0}


# --- An end that is taken back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["SUCCESS", "PARTIAL_SUCCESS"])
@pytest.mark.parametrize("recheck", [True, False])
async def test_an_end_that_was_shown_too_early_pays_nothing_again(status: str, recheck: bool) -> None:
    """A list that lags, or a server that says PARTIAL_SUCCESS while it works: the job itself says that it is in flight.
    Its files are neither sent again nor failed, and it is waited for, late results included."""
    server = Server(
        status={"j": {0.0: "PENDING", 100.0: "SUCCESS"}}, results_of={"j": {0.0: said("a"), 112.0: said("a", "b")}}
    )
    rig = await Rig(server).collect(job(status, "a", "b", recheck=recheck))
    assert (rig.answered, rig.failed, rig.end[1].requeued) == (["a", "b"], {}, ())


async def test_results_that_are_refused_since_the_job_is_in_flight_are_waited_for() -> None:
    """v1 answers so before a job's end: nothing is lost, and nothing fails."""
    refused = refusal(Verdict.REFUSED, "results", 400)
    server = Server(
        status={"j": {0.0: "PENDING", 100.0: "SUCCESS"}}, results_of={"j": {0.0: refused, 100.0: said("a")}}
    )
    rig = await Rig(server).collect(job("SUCCESS", "a"))
    assert (rig.answered, rig.failed, rig.end[1].requeued) == (["a"], {}, ())


async def test_an_end_that_is_never_shown_again_is_overdue() -> None:
    """Perhaps paid: a retry looks at the job first."""
    server = Server(status={"j": {0.0: "PENDING"}}, results_of={"j": {0.0: said()}})
    rig = await Rig(server).collect(job("SUCCESS", "a"))
    assert (rig.failed, rig.end[1].requeued) == ({"a": "overdue"}, ())


# --- Jobs that ended badly -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["ERROR", "CANCELLED"])
async def test_a_bad_job_is_asked_once_more(status: str) -> None:
    """When everything that lags must have come: then it counts, in its own last words."""
    server = Server(status={"j": {0.0: status}})
    rig = await Rig(server).collect(job(status, "a", bad_jobs=2))
    at_s, end = rig.end
    assert (server.asked, at_s) == ([("get", "j", SETTLE_S)], SETTLE_S)
    assert rig.failed == {"a": "job_error" if status == "ERROR" else "job_cancelled"}
    assert rig.lines(Log.FAILURES)[0]["message"] == "said at 20 s"
    assert end.tally.sums == ({"credits": -5} if status == "ERROR" else {})  # a cancelled one may be billed


async def test_a_bad_job_that_fails_nobody_is_a_split() -> None:
    """Its files go out again in halves, and nothing is written down of them."""
    rig = await Rig(Server(status={"j": {0.0: "ERROR"}})).collect(job("ERROR", "a", "b", "c"))
    assert rig.end[1].kind is Kind.SPLIT
    assert rig.end[1].requeued == (Part(0, to_ranges([0, 1]), shared_bad_jobs=1), Part(0, to_ranges([2]), 0, None, 1))
    assert set(rig.journal.lines.values()) == {b""}


@pytest.mark.parametrize("suspect", [True, False])
async def test_whether_others_are_suspect_is_asked_when_the_job_counts(suspect: bool) -> None:
    """And not when its end was seen: a neighbour may have ended well, or failed, meanwhile."""
    rig = Rig(Server(status={"j": {0.0: "ERROR"}}))
    asked = job("ERROR", "a", shared=2)
    if not suspect:
        rig.suspects.add(asked.attempt.key)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.collect, asked)
        await anyio.sleep(SETTLE_S / 2)
        rig.suspects.symmetric_difference_update({asked.attempt.key})
    assert rig.failed == ({} if suspect else {"a": "job_error"})


@pytest.mark.parametrize("lag_s", [0.0, 3.0])
async def test_an_error_that_becomes_an_answer_is_collected(lag_s: float) -> None:
    """As if it had never failed, late results included: they are counted from when its end was seen anew."""
    server = Server(
        status={"j": {0.0: "ERROR", 5.0: "SUCCESS"}},
        results_of={"j": {0.0: said(), SETTLE_S + lag_s: said("a", "b")}},
    )
    rig = await Rig(server).collect(job("ERROR", "a", "b", bad_jobs=9, shared=9))
    assert (rig.answered, rig.failed, rig.end[1].requeued) == (["a", "b"], {}, ())
    assert rig.end[1].tally.sums == {}  # it is paid
    assert rig.lines(Log.RESULTS)[0]["mode"] == "FAST"


async def test_an_error_that_becomes_half_an_answer_is_waited_for_like_any_other() -> None:
    """Until a settling time after that was seen."""
    server = Server(status={"j": {0.0: "ERROR", 5.0: "PARTIAL_SUCCESS"}}, results_of={"j": {0.0: said("a")}})
    rig = await Rig(server).collect(job("ERROR", "a", "b"))
    assert rig.end[0] == server.times("results")[-1] == 2 * SETTLE_S
    assert rig.end[1].requeued == (Part(0, to_ranges([1]), 1),)


async def test_a_job_that_goes_on_after_its_error_is_waited_for() -> None:
    """Until it ends, or takes too long: then its files are overdue, and nothing is sent again."""
    statuses: dict[float, Status] = {0.0: "ERROR", 5.0: "PENDING", 100.0: "SUCCESS"}
    server = Server(status={"j": statuses}, results_of={"j": {0.0: said("a")}})
    rig = await Rig(server).collect(job("ERROR", "a"))
    assert (rig.answered, rig.failed) == (["a"], {})
    assert 100.0 <= rig.end[0] <= 100.0 + SETTLE_S + 1.0
    del statuses[100.0]
    rig = await Rig(Server(status={"j": statuses})).collect(job("ERROR", "a"))
    assert rig.failed == {"a": "overdue"}
    assert rig.end[1].tally.sums == {}


async def test_a_bad_job_that_shows_itself_no_more_stays_bad() -> None:
    """In the words that it had."""
    for error in (refusal(Verdict.MISSING, "get", 404), refusal(Verdict.REFUSED, "get", 422)):
        rig = await Rig(Server(status={"j": {0.0: error}})).collect(
            job("ERROR", "a", bad_jobs=2, error_message="TIMEOUT")
        )
        assert (rig.failed, rig.lines(Log.FAILURES)[0]["message"]) == ({"a": "job_error"}, "TIMEOUT")


async def test_what_a_bad_job_was_billed_counts() -> None:
    """Where the API tells it: some have a price though they failed."""
    server = Server(status={"j": {0.0: refusal(Verdict.MISSING, "get", 404)}})
    rig = await Rig(server).collect(job("ERROR", "a", credits=2.0))
    assert rig.end[1].tally.sums == {"credits": -3, "billed": 2}


# --- What stops a run ------------------------------------------------------------------------------------------------


async def test_answers_about_other_files_only_stop_the_run() -> None:
    """Once they had time to come: for a person to look at, and the attempt stays open. Nothing is sent again."""
    server = Server(results_of={"j": {0.0: said("B", "C\x1b[31m")}})
    asked = job("SUCCESS", "b", "c")
    rig = await Rig(server).collect(asked)
    assert (rig.ends, rig.left_open) == ([], [asked.attempt.key])
    stop = rig.stopping.stop
    assert stop is not None
    assert (stop.status, stop.collects) == (ExitStatus.PERSON, False)
    assert stop.reason == (
        "job j answers only files that it was not asked for, like 'B'; it was asked for 'b' and others"
    )
    assert server.times("results")[-1] == SETTLE_S


@pytest.mark.parametrize("verdict", [Verdict.KEY_REFUSED, Verdict.DOWN])
@pytest.mark.parametrize("call", ["results", "late results", "get"])
async def test_an_api_that_can_not_be_read_stops_the_run(verdict: Verdict, call: str) -> None:
    """Wherever it happens; what is paid stays open for a later process, and the others are still collected."""
    error = refusal(verdict, call)
    server = Server(
        status={"j": {0.0: error}},
        results_of={"j": {0.0: said() if call == "late results" else error, 0.5: error}, "k": {0.0: said("b")}},
    )
    bad = job("ERROR" if call == "get" else "SUCCESS", "a")
    rig = await Rig(server).collect(bad, job("SUCCESS", "b", job_id="k", chunk=1))
    assert rig.stopping.stop == Stop.from_error(error)
    assert [fact.key.chunk for _, fact in rig.ends] == [1]


@pytest.mark.parametrize("verdict", [Verdict.LATER, Verdict.MISSING])
async def test_a_read_that_fails_for_now_is_made_again(verdict: Verdict) -> None:
    """Also a 404: a job that the list shows as finished may be missing elsewhere for a moment."""
    server = Server(results_of={"j": {0.0: refusal(verdict, "results"), 1e-9: said("a")}})
    rig = await Rig(server).collect(job("SUCCESS", "a"))
    assert (rig.answered, rig.stopping.stop, len(server.asked)) == (["a"], None, 2)


async def test_odd_answers_are_reported_once_a_job() -> None:
    """By its name, in words that are fit for a terminal."""
    server = Server(results_of={"j\x1b[31m": {0.0: said("a", "foreign")}})
    rig = await Rig(server).collect(job("SUCCESS", "a", job_id="j\x1b[31m"))
    assert rig.warned == ["job j [31m: 1 answers are about files that were not asked for; they are ignored"]


# --- Jobs that take too long, and old ones ---------------------------------------------------------------------------


async def test_a_job_that_takes_too_long_is_given_up_without_a_call() -> None:
    """Its files are overdue; an old one that shows itself no more left them unanswered."""
    for recheck, code in ((False, "overdue"), (True, "not_answered")):
        rig = await Rig(Server()).collect(job(None, "a", "b", recheck=recheck))
        assert (rig.failed, rig.end[0]) == ({"a": code, "b": code}, 0.0)


async def test_an_old_jobs_results_are_not_late() -> None:
    """What it left out goes out again at once, as for the first time."""
    server = Server(results_of={"j": {0.0: said("a"), 1.0: said("a", "b")}})
    rig = await Rig(server, attempts=1).collect(job("SUCCESS", "a", "b", recheck=True))
    assert (rig.end[0], rig.answered, rig.end[1].requeued) == (0.0, ["a"], (Part(0, to_ranges([1])),))


async def test_an_old_jobs_results_that_are_gone_leave_it_as_it_was() -> None:
    """They may have been paid: nothing is sent again, and the run goes on. An old job held others, too: answers about
    these are nothing odd."""
    gone = Server(results_of={"j": {0.0: refusal(Verdict.MISSING, "results", 404)}})
    rig = await Rig(gone).collect(job("SUCCESS", "a", recheck=True))
    assert (rig.failed, rig.end[1].requeued) == ({"a": "not_answered"}, ())
    others = Server(results_of={"j": {0.0: said("b", "c")}})
    rig = await Rig(others).collect(job("SUCCESS", "a", recheck=True))
    assert (rig.stopping.stop, rig.end[1].requeued) == (None, (Part(0, to_ranges([0])),))
