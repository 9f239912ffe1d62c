"""Nothing is paid twice, in every state that small worlds can come to; and the old decisions fail in the same worlds.

Each world combines a few of the things that may not be trusted: moments, clocks, single readings, other people's jobs,
results that lag. They are explored to their end, under the very decisions of the program (see protocol_model.py), and
then under those of version 0.2, and under today's with one rule taken away: so the explorer is seen to find the faults
that it is there for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest

from classify_batch.engine.reconciler.ambiguous_attempt import AmbiguousAttempt
from classify_batch.engine.reconciler.candidate import Candidate
from classify_batch.engine.reconciler.evidence import Evidence
from classify_batch.engine.reconciler.found import FoundJob, Settlement, decide_found_jobs
from classify_batch.model import Attempt
from tests.explorer.decisions import PRESENT, SPECS, Decisions
from tests.explorer.decisions_0_2 import DECISIONS_0_2
from tests.explorer.explore import Exploration, explore
from tests.explorer.promises import OPEN_ONLY, PAID_ONCE, PROVEN_ATTEMPTS, PROVEN_MODE
from tests.explorer.protocol_model import ProtocolModel
from tests.explorer.server_model import Scenario, Stranger

WORLDS = {
    "a call outlives its process": Scenario(
        accept_s=2, settle_s=1, accepts_within_s=2, lists_within_s=1, kills=1, downtime_s_max=1
    ),
    "two processes, two clocks": Scenario(
        chunks=(("a",),),
        accept_s=1,
        settle_s=1,
        shown_times=True,
        kills=1,
        wall_offsets=((0, 0), (8, 0), (0, 8), (-8, 0)),
    ),
    "the Date header has its own clock": Scenario(
        chunks=(("a",),), accept_s=1, settle_s=1, shown_times=True, date_offsets=(0, 8, -8)
    ),
    "the server has several clocks": Scenario(
        chunks=(("a",), ("b",)), accept_s=1, settle_s=1, clock_spread_s=1, shown_times=True, skews=(0, -1), losses=2
    ),
    "a stranger's job answers other files": Scenario(
        accept_s=1, settle_s=1, ends=("+-", "0+"), bad_ends=1, strangers=(Stranger(("a", "b"), ("+0", "-+")),)
    ),
    "a stranger's job and a kill": Scenario(
        accept_s=1, settle_s=1, kills=1, ends=("+-",), bad_ends=1, strangers=(Stranger(("a", "b"), ("-+",)),)
    ),
    "a list that shows a job and then not": Scenario(
        chunks=(("a",),), accept_s=1, settle_s=1, vanishes=True, job_s_max=3, gets_404=1
    ),
    "a list that lags and shifts": Scenario(
        chunks=(("a",), ("b",)), accept_s=1, settle_s=2, lists_within_s=2, losses=2, job_s_max=1
    ),
    "results that lag": Scenario(
        accept_s=1, settle_s=2, results_within_s=2, late_results=("-", "0", "+"), ends=("+-",), bad_ends=1
    ),
    "a mode that is not shown": Scenario(
        chunks=(("a",),),
        accept_s=1,
        settle_s=1,
        modes_shown=False,
        rechecks=(0,),
        strangers=(Stranger(("a",), ("+",)),),
    ),
    "an error that becomes an answer": Scenario(
        accept_s=1, settle_s=2, errs_within_s=2, job_s_max=3, ends=("E",), bad_ends=1
    ),
    "a stranger's job answers more": Scenario(
        chunks=(("a", "b", "c"),),
        accept_s=1,
        settle_s=1,
        ends=("+--",),
        bad_ends=1,
        strangers=(Stranger(("a", "b", "c"), ("-++",)),),
    ),
    "others make jobs without end": Scenario(
        chunks=(("a",),),
        accept_s=0,
        settle_s=1,
        job_timeout_s=3,
        job_s_max=3,
        strangers=(Stranger(("x",), ("+",)), Stranger(("x",), ("+",))),
    ),
    "a list that fails": Scenario(
        chunks=(("a",),), accept_s=1, settle_s=1, job_timeout_s=6, outages=3, cut_readings=2, kills=1, retries=1
    ),
}

STATES_MAX = 60_000

_seen: dict[str, Exploration] = {}


def explored(name: str) -> Exploration:
    """What today's decisions come to in a world; each is explored once."""
    if name not in _seen:
        _seen[name] = explore(ProtocolModel(WORLDS[name]), states_max=STATES_MAX)
    return _seen[name]


@pytest.mark.parametrize("name", WORLDS)
def test_every_promise_holds_in_every_state(name: str) -> None:
    """No create holds a file that is, or may be, paid; no attempt is used up unproven; each file ends once."""
    seen = explored(name)
    assert seen.broken is None, str(seen)


def test_each_explored_world_reaches_its_events() -> None:
    """What they are there for does happen in them, and they are as large as they were when they were made."""
    all_seen = [explored(name) for name in WORLDS]
    reached = set().union(*(seen.reached for seen in all_seen))
    wanted = {
        "killed with a create in flight",
        "lost answer",
        "found",
        "sent again",
        "missed",
        "seen later",
        "left out",
    }
    wanted |= {"late results", "partial answers", "a stranger's job", "shown as failed", "not_answered", "tried anew"}
    assert wanted <= reached
    assert all(seen.states >= 50 for seen in all_seen)
    assert sum(seen.states for seen in all_seen) > 10_000


HOLES = {
    "a call outlives its process": PAID_ONCE,
    "two processes, two clocks": PAID_ONCE,
    "the Date header has its own clock": PAID_ONCE,
    "a stranger's job answers other files": PROVEN_ATTEMPTS,
    "a list that shows a job and then not": PAID_ONCE,
    "a list that lags and shifts": PAID_ONCE,
    "results that lag": PROVEN_ATTEMPTS,
    "a mode that is not shown": PROVEN_MODE,
    "an error that becomes an answer": PROVEN_ATTEMPTS,
}


@pytest.mark.parametrize("name", HOLES)
def test_the_old_decisions_have_the_holes(name: str) -> None:
    """The explorer finds in version 0.2 what directed probes found in it."""
    seen = explore(ProtocolModel(WORLDS[name], DECISIONS_0_2), states_max=STATES_MAX)
    assert seen.broken == HOLES[name], str(seen)


@pytest.mark.parametrize("name", ["a stranger's job answers more", "results that lag"])
def test_the_old_decisions_pay_twice_there_too(name: str) -> None:
    """Asked for that promise alone."""
    seen = explore(ProtocolModel(WORLDS[name], DECISIONS_0_2, [PAID_ONCE]), states_max=STATES_MAX)
    assert seen.broken == PAID_ONCE, str(seen)


# --- One rule taken away ----------------------------------------------------------------------------------------------


class OneReading(Evidence):
    """Believes the first complete reading."""

    def _is_list_proof_complete(self, ambiguous: AmbiguousAttempt) -> bool:
        return ambiguous.first_complete_s is not None


class Forgetful(Evidence):
    """Drops a candidate that a reading leaves out."""

    def end_list_reading(self, *, complete: bool) -> None:
        super().end_list_reading(complete=complete)
        left_out = [each.job_id for each in self.candidates.values() if each.seen_s < self._reading_s]
        for job_id in left_out:
            del self.candidates[job_id]


class Credulous(Evidence):
    """Believes results as soon as a job has ended."""

    def record_results(
        self, job_id: str, begun_s: float, named: Iterable[str], answered: Iterable[str], *, withheld: bool = False
    ) -> None:
        super().record_results(job_id, math.inf, named, answered)


class ByTheSendersClock(Evidence):
    """Takes a job for too old that was made before the intent, as the sender's clock had it."""

    def is_possible(self, candidate: Candidate, ambiguous: AmbiguousAttempt) -> bool:
        made_s = candidate.view.created_at_s
        too_old = made_s is not None and made_s < ambiguous.attempt.since_s - self._clock_spread_s
        return not too_old and super().is_possible(candidate, ambiguous)


class WithoutSpread(Evidence):
    """Takes the server's clocks for one."""

    def _earliest_created_s(self, ambiguous: AmbiguousAttempt) -> float | None:
        return ambiguous.attempt.server_s


class WaitsForAll(Evidence):
    """Waits for jobs that come when it is known that there is none of its own."""

    def _may_still_answer(self, candidate: Candidate, ambiguous: AmbiguousAttempt) -> bool:
        return not candidate.journal_asked or not candidate.is_decided(self._settle_s)


class EarlyFailures(Evidence):
    """Takes a job that shows an error for one that was not paid."""

    def record_view(self, view: object, now_s: float) -> None:
        super().record_view(view, now_s)  # type: ignore[arg-type]
        for candidate in self.candidates.values():
            if candidate.failed_s is not None:
                candidate.failed_s = -math.inf


def by(kind: type[Evidence]) -> Decisions:
    def make(scenario: Scenario, _wall_offset_s: int, _date_offset_s: int) -> Evidence:
        return kind(SPECS, settle_s=scenario.settle_s, clock_spread_s=scenario.clock_spread_s)

    return replace(PRESENT, evidence=make)


def best_only(attempt: Attempt, found: Sequence[FoundJob], attempts: int, unresolved: str = "") -> Settlement:
    """Takes the answers of one job."""
    return decide_found_jobs(attempt, found[-1:], attempts, unresolved)


def told_mode(attempt: Attempt, found: Sequence[FoundJob], attempts: int, unresolved: str = "") -> Settlement:
    """Tells the mode that was asked for."""
    settlement = decide_found_jobs(attempt, found, attempts, unresolved)
    mode = SPECS.spec_of_part(attempt.part).mode
    return replace(settlement, answers=[each._replace(mode=mode) for each in settlement.answers])


WITHOUT = {
    "waiting for calls that left": ("a call outlives its process", replace(PRESENT, accept_s=lambda _: 0), PAID_ONCE),
    "a second reading": ("a list that lags and shifts", by(OneReading), PAID_ONCE),
    "keeping candidates": ("a list that shows a job and then not", by(Forgetful), PAID_ONCE),
    "waiting for results of found jobs": ("results that lag", by(Credulous), PAID_ONCE),
    "waiting for results of our own": (
        "results that lag",
        replace(PRESENT, answers_late_s=lambda _scenario, _status: 0),
        PROVEN_ATTEMPTS,
    ),
    "mistrust of the sender's clock": ("two processes, two clocks", by(ByTheSendersClock), PAID_ONCE),
    "mistrust of the server's clocks": ("the server has several clocks", by(WithoutSpread), PAID_ONCE),
    "all jobs that answer": (
        "a stranger's job answers more",
        replace(PRESENT, decide_found_jobs=best_only),
        PAID_ONCE,
    ),
    "a mode that is null": ("a mode that is not shown", replace(PRESENT, decide_found_jobs=told_mode), PROVEN_MODE),
    "an end of waiting for others": ("others make jobs without end", by(WaitsForAll), OPEN_ONLY),
    "a second look at failures": ("an error that becomes an answer", by(EarlyFailures), PAID_ONCE),
}


@pytest.mark.parametrize("rule", WITHOUT)
def test_no_rule_is_there_for_nothing(rule: str) -> None:
    """Without it the explorer finds a way to break a promise."""
    name, decisions, promise = WITHOUT[rule]
    seen = explore(ProtocolModel(WORLDS[name], decisions, [promise]), states_max=STATES_MAX)
    assert seen.broken == promise, str(seen)
