"""Which jobs may be those of creates without an answer, and when nothing can be left: a test for each rule."""

from __future__ import annotations

from typing import Any

import pytest

from classify_batch.engine.reconciler.ambiguous_attempt import AmbiguousAttempt
from classify_batch.engine.reconciler.decisions import GiveUp, SendAgain, Take
from classify_batch.model import JobView
from classify_batch.ports import NamedFor
from tests.support.evidence_stage import (
    ACCEPT_UNTIL_S,
    GIVE_UP_S,
    SERVER_S,
    SETTLE_S,
    SPREAD_S,
    EvidenceStage,
    ambiguous,
    job,
)

# --- How long a call may be accepted, and what proves that nothing is left -------------------------------------------


@pytest.mark.parametrize(
    ("readings", "sent"),
    [
        ([], False),
        ([(100.0, True)], False),
        ([(100.0, True), (119.9, True)], False),
        ([(100.0, True), (120.0, True)], True),
        ([(99.9, True), (120.0, True)], False),  # a call could be accepted behind the first one
        ([(99.9, True), (120.0, True), (140.0, True)], True),
        ([(0.0, True), (50.0, True), (99.0, True), (100.0, True)], False),
        ([(100.0, False), (120.0, True)], False),
        ([(100.0, True), (120.0, False)], False),
        ([(100.0, True), (110.0, False), (130.0, True)], True),
    ],
)
def test_nothing_is_sent_again_before_two_complete_readings(readings: list[tuple[float, bool]], sent: bool) -> None:
    """One begun when no call can be accepted any more, and one a settling time later."""
    asked = ambiguous("a")
    world = EvidenceStage(asked)
    for now_s, complete in readings:
        world.read_list(now_s, complete=complete)
    assert world.decide_for_attempt(asked, 1000.0) == (SendAgain() if sent else None)


def test_the_list_is_read_to_its_end_when_it_has_to_prove_something() -> None:
    """From the moment at which the first of several calls can't be accepted any more."""
    world = EvidenceStage(ambiguous("a"), ambiguous("b", chunk=1, accept_until_s=70.0))
    assert [world.needs_complete_reading(now_s) for now_s in (0.0, 69.9, 70.0)] == [False, False, True]
    assert not EvidenceStage().needs_complete_reading(1e9)


def test_readings_serve_all_attempts_that_wait() -> None:
    """Each by its own time: what one proves for an early call it doesn't prove for a later one."""
    early, late = ambiguous("a"), ambiguous("b", chunk=1, accept_until_s=ACCEPT_UNTIL_S + 1.0)
    world = EvidenceStage(early, late)
    now_s = world.read_twice()
    assert (world.decide_for_attempt(early, now_s), world.decide_for_attempt(late, now_s)) == (SendAgain(), None)
    world.read_list(140.0)
    assert world.decide_for_attempt(late, 140.0) == SendAgain()


def test_jobs_that_come_after_the_proof_keep_nobody_waiting() -> None:
    """They are others': these may make jobs by the same rules without end. What one of them answers is taken all the
    same, and waited for where it names a file."""
    asked = ambiguous("a", "b")
    world = EvidenceStage(asked)
    now_s = world.read_twice(job("early"))
    world.read_list(now_s + 1.0, job("early", "ERROR"), job("later"))
    world.read_list(now_s + 21.0, job("early", "ERROR"), job("later", "SUCCESS"))
    assert world.decide_for_attempt(asked, now_s + 21.0) == SendAgain()
    world.answer("later", now_s + 21.0, ["a"])
    assert world.decide_for_attempt(asked, now_s + 21.0) is None
    world.answer("later", now_s + 41.0, ["a"])
    assert world.decide_for_attempt(asked, now_s + 41.0) == Take((job("later", "SUCCESS"),))


def test_what_excluded_jobs_by_a_time_that_says_nothing_proves_nothing() -> None:
    """When the server's clocks are seen apart the list is read anew: a job that a time excluded was forgotten."""
    asked = ambiguous("a", server_s=SERVER_S)
    world = EvidenceStage(asked)
    old = job(created_at_s=SERVER_S - 1000.0)
    now_s = world.read_twice(old)
    assert world.decide_for_attempt(asked, now_s) == SendAgain()
    world.clocks_disagree = True
    assert world.decide_for_attempt(asked, now_s) is None
    assert world.decide_for_attempt(asked, world.read_twice(old, from_s=now_s + 1.0)) is None


@pytest.mark.parametrize("repeatable", [False, True])
def test_a_reading_proves_nothing_for_an_attempt_that_came_in_its_middle(repeatable: bool) -> None:
    """What was shown before was not held against it, and was not asked for as far back as it wants."""
    transaction_id = "t" if repeatable else None
    world = EvidenceStage(ambiguous("a", server_s=SERVER_S))
    world.begin_list_reading(ACCEPT_UNTIL_S)
    world.record_view(
        job(created_at_s=SERVER_S - 500.0, transaction_id="t"), ACCEPT_UNTIL_S
    )  # too old for the first one
    later = ambiguous("b", chunk=1, server_s=SERVER_S - 500.0, transaction_id=transaction_id)
    world.add_attempt(later)
    world.end_list_reading(complete=True)
    if not repeatable:
        world.read_list(ACCEPT_UNTIL_S + SETTLE_S)  # a list that lags
    assert world.decide_for_attempt(later, ACCEPT_UNTIL_S + SETTLE_S) is None


# --- Which jobs can be an attempt's ----------------------------------------------------------------------------------


def is_left(
    asked: AmbiguousAttempt, view: JobView, named: NamedFor = frozenset(), *, clocks_disagree: bool = False
) -> bool:
    """Whether a job that is out keeps an attempt from being sent again."""
    world = EvidenceStage(asked, named={view.job_id: named})
    world.clocks_disagree = clocks_disagree
    decision = world.decide_for_attempt(asked, world.read_twice(view))
    assert decision in (None, SendAgain())
    return decision is None


@pytest.mark.parametrize(
    ("server_s", "created_at_s", "left"),
    [
        (SERVER_S, SERVER_S, True),
        (SERVER_S, SERVER_S + 1e6, True),  # younger than anything that we know
        (SERVER_S, SERVER_S - SPREAD_S, True),
        (SERVER_S, SERVER_S - SPREAD_S - 0.001, False),
        (None, SERVER_S - 1e6, True),
        (SERVER_S, None, True),
    ],
)
def test_a_job_is_excluded_by_the_servers_own_times_only(
    server_s: float | None, created_at_s: float | None, left: bool
) -> None:
    """What was made before the last job that was read before the intent, but for the spread of the server's clocks, is
    older than it. Where one of the two times isn't known nothing is excluded, nor where the clocks were seen apart."""
    view = job(created_at_s=created_at_s)
    assert is_left(ambiguous("a", server_s=server_s), view) is left
    assert is_left(ambiguous("a", server_s=server_s), view, clocks_disagree=True)


def test_a_job_may_be_one_attempts_and_not_anothers() -> None:
    """Each is held against its own time: what is too old for a later one may be an earlier one's."""
    early, late = ambiguous("a", server_s=SERVER_S - 1000.0), ambiguous("b", chunk=1, server_s=SERVER_S)
    world = EvidenceStage(early, late)
    now_s = world.read_twice(job(created_at_s=SERVER_S - 500.0))
    assert (world.decide_for_attempt(early, now_s), world.decide_for_attempt(late, now_s)) == (None, SendAgain())


@pytest.mark.parametrize(("intended_s", "left"), [(None, True), (10.0, True), (10.1, False), (99.0, False)])
@pytest.mark.parametrize("early", [True, False])
def test_a_job_that_was_seen_before_the_intent_is_older(intended_s: float | None, left: bool, early: bool) -> None:
    """On the first page that this process read, or since. An intent of another process has no time to compare with."""
    asked = ambiguous("a", intended_s=intended_s)
    world = EvidenceStage(ambiguous("z", chunk=9))
    if early:
        world.record_listed_before_creates(["j"], 10.0)
        world.record_listed_before_creates(["j"], 50.0)  # what counts is the first time
    else:
        world.read_list(10.0, job())
    world.add_attempt(asked)
    assert (world.decide_for_attempt(asked, world.read_twice(job())) is None) is left


@pytest.mark.parametrize(
    ("named", "left"),
    [
        (frozenset(), True),
        (frozenset({1, 7}), True),
        (frozenset({0}), False),
        (frozenset({0, 1}), False),
        (None, False),
    ],
)
def test_a_job_that_the_journal_names_belongs_elsewhere(named: NamedFor, left: bool) -> None:
    """One of our own creates was answered with it, or an earlier attempt of the chunk has taken what it answers. What
    another chunk found in it says nothing of this one's files."""
    assert is_left(ambiguous("a"), job(), named) is left


def test_a_job_of_which_the_journal_was_not_asked_decides_nothing() -> None:
    """It may be another chunk's; until that is known, it is neither read nor passed over."""
    asked = ambiguous("a")
    world = EvidenceStage(asked)
    world.begin_list_reading(ACCEPT_UNTIL_S)
    world.record_view(job(status="PARTIAL_SUCCESS"), ACCEPT_UNTIL_S)
    world.end_list_reading(complete=True)
    assert world.due(1000.0) == []
    world.begin_list_reading(1000.0)
    world.end_list_reading(complete=True)
    assert world.decide_for_attempt(asked, 1000.0) is None
    world.record_named_for("j", None)
    assert world.decide_for_attempt(asked, 1000.0) == SendAgain()


def test_what_contradicts_our_create_is_not_ours() -> None:
    """The first look's create, or the second's: they differ in their mode."""
    for second, mode, left in ((False, "FAST", True), (False, "MULTIMODAL", False), (True, "MULTIMODAL", True)):
        assert is_left(ambiguous("a", second=second), job(mode=mode)) is left
    assert not is_left(ambiguous("a", second=True), job(mode="FAST"))
    assert is_left(ambiguous("a", second=True), job())


def test_only_what_may_concern_an_attempt_is_remembered() -> None:
    """Most of a large project's jobs are not: too old, or of other rules."""
    world = EvidenceStage(ambiguous("a", server_s=SERVER_S))
    others = job("k", rules=frozenset({("y", "other rules")}))
    world.read_list(0.0, job("old", created_at_s=SERVER_S - 1000.0), others, job("j", created_at_s=SERVER_S))
    assert world.candidates.keys() == {"j"}


def test_the_list_is_wanted_from_the_earliest_attempt_on() -> None:
    """All of it, where one of them knows no time, or where times say nothing."""
    world = EvidenceStage(ambiguous("a", server_s=SERVER_S), ambiguous("b", chunk=1, server_s=SERVER_S - 10.0))
    assert world.earliest_created_s() == SERVER_S - 10.0 - SPREAD_S
    world.clocks_disagree = True
    assert world.earliest_created_s() is None
    assert EvidenceStage(ambiguous("a", server_s=SERVER_S), ambiguous("b", chunk=1)).earliest_created_s() is None
    assert EvidenceStage().earliest_created_s() is None


# --- When a candidate is decided -------------------------------------------------------------------------------------


def test_a_candidate_that_is_out_is_waited_for() -> None:
    """However often the list leaves it out: then it is asked for by itself; when time runs out, it is named."""
    asked = ambiguous("a")
    world = EvidenceStage(asked)
    world.read_list(90.0, job())
    assert world.asked() == []
    assert world.decide_for_attempt(asked, world.read_twice()) is None
    assert world.asked() == ["j"]
    world.record_view(job(), 121.0)
    assert world.asked() == []
    assert world.decide_for_attempt(asked, GIVE_UP_S - 0.1) is None
    assert world.decide_for_attempt(asked, GIVE_UP_S) == GiveUp((), "its job may be one of: j")


def test_a_candidate_that_failed_is_seen_again_before_it_counts_as_not_paid() -> None:
    """A settling time later: some show an error first, and then answers."""
    for status in ("ERROR", "CANCELLED"):
        asked = ambiguous("a")
        world = EvidenceStage(asked)
        world.read_list(100.0, job(status=status))
        world.read_list(119.0, job(status=status))
        assert world.due(1000.0) == []
        world.read_list(120.0)
        assert world.decide_for_attempt(asked, 120.0) is None
        assert world.asked() == ["j"]
        world.record_view(job(status=status), 120.5)
        assert world.asked() == []
        assert world.decide_for_attempt(asked, 120.5) == SendAgain()


def test_an_error_that_becomes_an_answer_begins_anew() -> None:
    """As failed as it was: it may hold the files. And the other way round: from when it fails. So does one that goes on
    after all."""
    asked = ambiguous("a")
    world = EvidenceStage(asked)
    world.read_list(100.0, job(status="ERROR"))
    world.read_list(121.0, job(status="SUCCESS"))
    assert (world.decide_for_attempt(asked, 121.0), world.due(121.0)) == (None, ["j"])
    world.read_list(122.0, job(status="ERROR"))
    world.read_list(141.0, job(status="ERROR"))
    assert world.decide_for_attempt(asked, 141.0) is None
    world.read_list(142.0, job(status="ERROR"))
    assert world.decide_for_attempt(asked, 142.0) == SendAgain()
    world.read_list(150.0, job())
    world.read_list(160.0, job(status="ERROR"))
    assert world.decide_for_attempt(asked, 160.0) is None
    world.read_list(180.0, job(status="ERROR"))
    assert world.decide_for_attempt(asked, 180.0) == SendAgain()


def test_results_are_read_late_enough_to_believe_what_is_missing() -> None:
    """They may lag: what a job of ours leaves out counts only a settling time after its end was first seen."""
    asked = ambiguous("a", "b")
    world = EvidenceStage(asked)
    view = job(status="PARTIAL_SUCCESS")
    now_s = world.read_twice(view)  # its end was seen at 100 s
    world.answer("j", 119.9, ["a"])
    assert world.decide_for_attempt(asked, now_s) is None
    world.answer("j", 120.0, ["a"])
    assert world.decide_for_attempt(asked, now_s) == Take((view,))


def test_results_that_name_no_file_say_nothing() -> None:
    """A job that ended well has answers: whose it is, is not known. One that ended half well may have none."""
    for status, decision in (("SUCCESS", None), ("PARTIAL_SUCCESS", SendAgain())):
        asked = ambiguous("a")
        world = EvidenceStage(asked)
        now_s = world.read_twice(job(status=status))
        world.answer("j", now_s, [])
        assert world.decide_for_attempt(asked, now_s) == decision


def test_another_files_job_is_nobodys_here() -> None:
    """Its results, read late enough, prove that."""
    asked = ambiguous("a")
    world = EvidenceStage(asked)
    now_s = world.read_twice(job(status="SUCCESS"))
    world.answer("j", now_s, ["others'"])
    assert world.decide_for_attempt(asked, now_s) == SendAgain()


def test_what_the_list_showed_of_a_job_stays_known() -> None:
    """A job that is asked for by itself shows how it stands, and not how it was to be done."""
    world = EvidenceStage(ambiguous("a"))
    told: dict[str, Any] = {"created_at_s": SERVER_S, "project_id": "p", "mode": "FAST", "transaction_id": None}
    told |= {"parsing_configuration": {"lang": "en"}}
    rules = frozenset({("x", "anything at all")})
    world.read_list(0.0, job(rules=rules, **told))
    world.record_view(job(status="SUCCESS"), 1.0)
    assert world.candidates["j"].view == job(status="SUCCESS", rules=rules, **told)
