"""What is read of the jobs that may be those of creates without an answer, and what follows from it."""

from __future__ import annotations

import pytest

from classify_batch.engine.reconciler import contents as module
from classify_batch.engine.reconciler.decisions import Adopt, GiveUp, SendAgain, Take
from classify_batch.engine.reconciler.evidence import NEVER_READ
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

# --- When results are read -------------------------------------------------------------------------------------------


def test_results_are_read_at_once_and_then_at_growing_distances() -> None:
    """Until all is said, where they concern an attempt; the last time when everything that lags must have come."""
    asked = ambiguous("a", "b")
    world = EvidenceStage(asked)
    world.read_list(10.0, job(status="PARTIAL_SUCCESS"))
    read_at: list[float] = []
    for tenth in range(100, 400):
        if world.due(tenth / 10):
            read_at.append(tenth / 10)
            world.answer("j", tenth / 10, ["a"])
    assert read_at == [10.0, 11.0, 12.0, 14.0, 18.0, 26.0, 30.0]


def test_others_results_are_read_twice() -> None:
    """At once, and when everything that lags must have come."""
    world = EvidenceStage(ambiguous("a"))
    world.read_list(10.0, job(status="SUCCESS"))
    read_at: list[float] = []
    for tenth in range(100, 400):
        if world.due(tenth / 10):
            read_at.append(tenth / 10)
            world.answer("j", tenth / 10, ["others'"])
    assert read_at == [10.0, 30.0]


def test_results_that_stay_nameless_are_read_now_and_then() -> None:
    """They may name their files later: at growing distances, and no more than once a minute in the end."""
    world = EvidenceStage(ambiguous("a"))
    world.read_list(0.0, job(status="SUCCESS"))
    read_at: list[float] = []
    for now_s in range(600):
        if world.due(now_s):
            read_at.append(now_s)
            world.answer("j", now_s, [])
    assert read_at[-3:] == [read_at[-1] - 120, read_at[-1] - 60, read_at[-1]]
    assert read_at[:5] == [0, 1, 2, 4, 8]
    assert len(read_at) < 20


def test_results_are_read_in_the_order_of_their_jobs() -> None:
    """Those first that were made after what was known before the intent; those without a time at last."""
    world = EvidenceStage(ambiguous("a", server_s=SERVER_S))
    made = {"old": -30.0, "older": -40.0, "second": 5.0, "first": 1.0, "timeless": None}
    views = [
        job(job_id, "SUCCESS", created_at_s=None if after_s is None else SERVER_S + after_s)
        for job_id, after_s in made.items()
    ]
    world.read_list(0.0, *views)
    assert world.due(0.0) == ["first", "second", "timeless", "older", "old"]


def test_nothing_is_read_for_an_attempt_that_is_settled() -> None:
    """Nor asked for: only what concerns those that are left."""
    first, second = ambiguous("a"), ambiguous("b", chunk=1, second=True)
    world = EvidenceStage(first, second)
    world.read_list(0.0, job("j", "SUCCESS", mode="FAST"), job("k", mode="FAST"), job("l", mode="MULTIMODAL"))
    world.begin_list_reading(1.0)
    assert (world.due(1.0), world.asked()) == (["j"], ["k", "l"])
    world.remove_attempt(first)
    assert (world.due(1.0), world.asked()) == ([], ["l"])


# --- Every job that answers counts -----------------------------------------------------------------------------------


def test_a_job_that_answers_all_files_is_taken_at_once() -> None:
    """Whoever made it, before anything is proven of others; of several, one whose mode is known, then the oldest."""
    asked = ambiguous("a", "b")
    world = EvidenceStage(asked)
    views = [
        job("modeless", "SUCCESS", created_at_s=1.0),
        job("late", "SUCCESS", created_at_s=3.0, mode="FAST"),
        job("early", "SUCCESS", created_at_s=2.0, mode="FAST"),
        job("out"),
    ]
    world.read_list(0.0, *views, complete=False)
    for job_id, taken in (("modeless", 0), ("late", 1), ("early", 2)):
        world.answer(job_id, 0.0, ["a", "b", "c"])
        assert world.decide_for_attempt(asked, 0.0) == Take((views[taken],))


def test_jobs_that_answer_all_files_together_are_taken_at_once() -> None:
    """With all that name any of them."""
    asked = ambiguous("a", "b", "c")
    world = EvidenceStage(asked)
    one, other, empty = (job(job_id, "PARTIAL_SUCCESS", mode="FAST") for job_id in ("1", "2", "3"))
    world.read_list(0.0, one, other, empty, job("out"), complete=False)
    world.answer("1", 0.0, ["a"], null=["c"])
    world.answer("3", 0.0, [], null=["b"])
    assert world.decide_for_attempt(asked, 0.0) is None
    world.answer("2", 0.0, ["b", "c"])
    assert world.decide_for_attempt(asked, 0.0) == Take((one, other, empty))


def test_what_jobs_answer_is_taken_when_no_other_can_be_left() -> None:
    """Not before: another job may answer the rest. Those that are about other files are not among them."""
    asked = ambiguous("a", "b")
    world = EvidenceStage(asked)
    ours, others = job("1", "PARTIAL_SUCCESS"), job("2", "SUCCESS")
    world.read_list(100.0, ours, others)
    world.answer("1", 120.0, ["a"], null=["b"])
    world.answer("2", 120.0, ["others'"])
    assert world.decide_for_attempt(asked, 120.0) is None
    world.read_list(120.0, ours, others)
    assert world.decide_for_attempt(asked, 120.0) == Take((ours,))


def test_a_job_that_names_our_files_without_an_answer_held_them() -> None:
    """It is taken: what became of them is known."""
    asked = ambiguous("a")
    world = EvidenceStage(asked)
    view = job(status="PARTIAL_SUCCESS")
    now_s = world.read_twice(view)
    world.answer("j", now_s, [], null=["a"])
    assert world.decide_for_attempt(asked, now_s) == Take((view,))


def test_a_job_some_of_whose_results_are_withheld_may_hold_any_file() -> None:
    """It is waited for, and asked again; where it names one of the files, no more is expected of it."""
    asked, other = ambiguous("a", "b"), ambiguous("c", chunk=1)
    world = EvidenceStage(asked, other)
    view = job(status="SUCCESS")
    now_s = world.read_twice(view)
    world.record_results("j", now_s - 0.1, ["a"], ["a"], withheld=True)
    assert world.decide_for_attempt(asked, now_s) is None  # more may come within settle_s
    world.record_results("j", now_s, ["a"], ["a"], withheld=True)
    assert world.decide_for_attempt(asked, now_s) == Take((view,))
    assert world.decide_for_attempt(other, now_s) is None
    assert world.due(now_s + 60.0) == ["j"]
    assert not world.has_answered_all_it_will("j")
    assert world.decide_for_attempt(other, GIVE_UP_S) == GiveUp((), "its job may be one of: j")
    world.record_results("j", GIVE_UP_S, ["a"], ["a"])
    assert world.decide_for_attempt(other, GIVE_UP_S) == SendAgain()


# --- When time runs out ----------------------------------------------------------------------------------------------


def test_when_time_runs_out_found_answers_are_taken_and_the_rest_is_given_up() -> None:
    """Naming those of whom it isn't known, as many as anybody reads."""
    asked = ambiguous("a", "b")
    world = EvidenceStage(asked)
    found = job("found", "PARTIAL_SUCCESS")
    out = [job(f"out-{number}") for number in range(12)]
    now_s = world.read_twice(found, *out)
    world.answer("found", now_s, ["a"])
    assert world.decide_for_attempt(asked, GIVE_UP_S - 1.0) is None
    listed = ", ".join(each.job_id for each in out[:10])
    assert world.decide_for_attempt(asked, GIVE_UP_S) == GiveUp((found,), f"its job may be one of: {listed}, …")


def test_time_alone_gives_nothing_up() -> None:
    """How old an attempt is, a wall clock may tell wrongly: first the list is read as for a proof. One that never comes
    to its end proves nothing, and ends it."""
    asked = ambiguous("a", give_up_s=0.0)
    world = EvidenceStage(asked)
    world.read_list(99.0, job(), complete=False)
    world.read_list(100.0, job())
    assert world.decide_for_attempt(asked, 1e9) is None
    world.read_list(101.0, job(), complete=False)
    assert world.decide_for_attempt(asked, 1e9) is None
    world.read_list(102.0, job(), complete=False)
    assert world.decide_for_attempt(asked, 1e9) == GiveUp((), "its job may be one of: j")


def test_without_a_list_an_attempt_is_given_up_when_its_time_is_over() -> None:
    """And not before, nor because the list could not be read once."""
    asked = ambiguous("a")
    world = EvidenceStage(asked)
    world.begin_list_reading(ACCEPT_UNTIL_S)
    world.fail_list_reading()
    assert world.decide_for_attempt(asked, GIVE_UP_S) is None
    world.begin_list_reading(ACCEPT_UNTIL_S + 1.0)
    world.fail_list_reading()
    assert world.decide_for_attempt(asked, GIVE_UP_S - 0.1) is None
    assert world.decide_for_attempt(asked, GIVE_UP_S) == GiveUp((), NEVER_READ)


def test_without_a_list_found_answers_are_taken_all_the_same() -> None:
    """When time runs out only the rest is unresolved."""
    asked = ambiguous("a", "b")
    world = EvidenceStage(asked)
    found = job(status="PARTIAL_SUCCESS")
    world.answer("j", world.read_twice(found, job("out")), ["a"])
    world.begin_list_reading(GIVE_UP_S)
    world.fail_list_reading()
    assert world.decide_for_attempt(asked, GIVE_UP_S) == GiveUp((found,), "its job may be one of: out")


# --- An API that knows transactions ----------------------------------------------------------------------------------


def test_a_transaction_tells_its_job() -> None:
    """Whatever else the list shows of it, and however old it is: it is watched like any other."""
    asked = ambiguous("a", transaction_id="t", server_s=SERVER_S, intended_s=50.0)
    world = EvidenceStage(asked, named={"ours": None})
    ours = job("ours", mode="MULTIMODAL", created_at_s=SERVER_S, transaction_id="t")
    world.read_list(0.0, job("another", transaction_id="u"), job("silent"), ours, complete=False)
    assert world.candidates.keys() == {"ours"}
    assert world.decide_for_attempt(asked, 0.0) == Adopt(ours)


def test_without_its_job_a_call_is_made_again_under_its_transaction() -> None:
    """Once the list was looked at: a second call gives the same job."""
    asked = ambiguous("a", transaction_id="t")
    world = EvidenceStage(asked)
    assert world.decide_for_attempt(asked, 0.0) is None
    world.read_list(0.0, job("another", transaction_id="u"), complete=False)
    assert world.decide_for_attempt(asked, 0.0) == SendAgain()


def test_a_refusal_after_a_call_that_may_have_been_accepted_proves_nothing() -> None:
    """Its job is looked for as long as a call may be accepted, and a settling time longer; then it is unresolved: paid,
    perhaps."""
    asked = ambiguous("a", transaction_id="t", refusal="HTTP 400: the file expired")
    world = EvidenceStage(asked)
    world.read_list(50.0)
    world.read_list(100.0)
    assert world.decide_for_attempt(asked, 119.0) is None
    world.read_list(120.0)
    words = "a call may have been accepted before this one was refused (HTTP 400: the file expired)"
    assert world.decide_for_attempt(asked, 120.0) == GiveUp((), words)
    ours = job(transaction_id="t")
    world.read_list(121.0, ours)
    assert world.decide_for_attempt(asked, 121.0) == Adopt(ours)


def test_a_refused_call_is_the_only_job_that_looks_like_it() -> None:
    """Where the list shows no transaction IDs: by its file in any spelling, its rules and its time, and once both
    readings have shown all that there can be."""
    upper, lower = "0A6B7C1E-3D2F-4A5B-8C9D-0E1F2A3B4C5D", "0a6b7c1e-3d2f-4a5b-8c9d-0e1f2a3b4c5d"
    asked = ambiguous(upper, transaction_id="t", refusal="HTTP 409", server_s=SERVER_S, intended_s=50.0)
    world = EvidenceStage(asked, named={"claimed": None})
    ours = job("ours", file_id=lower, created_at_s=SERVER_S)
    others = [
        job("claimed", file_id=lower),
        job("another file's", file_id="b"),
        job("nobody's"),
        job("older", file_id=lower, created_at_s=SERVER_S - SPREAD_S - 1),
        job("by other rules", file_id=lower, rules=frozenset({("y", "something else")})),
        job("another transaction's", file_id=lower, transaction_id="u"),
    ]
    world.read_list(100.0, *others, ours)
    assert world.decide_for_attempt(asked, 100.0) is None
    world.read_list(120.0, *others, ours)
    assert world.decide_for_attempt(asked, 120.0) == Adopt(ours)


def test_of_two_jobs_that_look_like_a_refused_call_none_is_taken() -> None:
    """One of them is somebody else's, or was made for nothing: a person can tell."""
    asked = ambiguous("a", transaction_id="t", refusal="HTTP 409")
    world = EvidenceStage(asked)
    now_s = world.read_twice(job("j", file_id="a"), job("k", file_id="a"))
    words = "a call may have been accepted before this one was refused (HTTP 409); its job may be one of: j, k"
    assert world.decide_for_attempt(asked, now_s) == GiveUp((), words)


def test_what_can_be_repeated_is_not_compared_by_its_file() -> None:
    """A second call gives the very job, and another's may look like it."""
    asked = ambiguous("a", transaction_id="t")
    world = EvidenceStage(asked)
    now_s = world.read_twice(job("j", file_id="a"))
    assert world.decide_for_attempt(asked, now_s) == SendAgain()


# --- Spellings --------------------------------------------------------------------------------------------------------


def test_a_candidate_is_one_in_any_spelling() -> None:
    """Its first one is told; and a job that was listed before the creates is none in another."""
    upper, early = "0A6B7C1E-3D2F-4A5B-8C9D-0E1F2A3B4C5D", "1A6B7C1E-3D2F-4A5B-8C9D-0E1F2A3B4C5D"
    asked = ambiguous("a", intended_s=50.0)
    world = EvidenceStage(asked)
    world.record_listed_before_creates([early], 0.0)
    world.read_list(60.0, job(upper), job(early.lower()))
    world.read_list(61.0, job(upper.lower(), "SUCCESS"))
    assert world.due(61.0) == [upper]
    world.answer(upper.lower(), 61.0, ["a"])
    assert world.decide_for_attempt(asked, 61.0) == Take((job(upper, "SUCCESS"),))


# --- What is remembered ----------------------------------------------------------------------------------------------


def test_what_others_jobs_hold_is_remembered_from_one_attempt_to_the_next() -> None:
    """Once it was read late enough: in a crowded project they are candidates again and again."""
    world = EvidenceStage(first := ambiguous("a"))
    views = [job("decided", "SUCCESS"), job("read early", "SUCCESS"), job("failed", "ERROR"), job("out")]
    world.read_list(0.0, *views)
    world.answer("decided", SETTLE_S, ["others'", "b"])
    world.answer("read early", 0.0, ["others'"])
    world.remove_attempt(first)
    assert not world.candidates
    world.add_attempt(ambiguous("c", chunk=1))
    world.read_list(1000.0, *views)
    assert world.due(1000.0) == ["read early"]
    second = ambiguous("b", chunk=2)
    world.add_attempt(second)
    assert world.decide_for_attempt(second, 1000.0) == Take((views[0],))


def test_what_was_read_first_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read first is forgotten first, and is read again."""
    monkeypatch.setattr(module, "REMEMBERED_DIGESTS_MAX", 10)
    world = EvidenceStage()
    views = [job(f"j{number}", "SUCCESS") for number in range(5)]
    for view in views:  # four digests each
        world.add_attempt(asked := ambiguous("a"))
        world.read_list(0.0, view)
        world.answer(view.job_id, SETTLE_S, ["x", "y"])
        world.remove_attempt(asked)
    assert world._contents.digests == 8
    world.add_attempt(ambiguous("a"))
    world.read_list(1000.0, *views)
    assert world.due(1000.0) == ["j0", "j1", "j2"]
    assert world._contents.digests == 8


def test_a_job_that_is_recalled_is_out_until_its_end_is_seen() -> None:
    """What it holds is known; that it has ended is for the server to say."""
    world = EvidenceStage(first := ambiguous("a"))
    world.read_list(0.0, job(status="SUCCESS"))
    world.answer("j", SETTLE_S, ["others'"])
    world.remove_attempt(first)
    world.add_attempt(second := ambiguous("b", chunk=1))
    now_s = world.read_twice(job(), from_s=1000.0)
    assert (world.decide_for_attempt(second, now_s), world.due(now_s)) == (None, [])
    world.read_list(1030.0, job(status="SUCCESS"))
    assert world.decide_for_attempt(second, 1030.0) == SendAgain()
