"""Jobs that were shown once and are gone: they left the list, or failed after they had ended well."""

from __future__ import annotations

import pytest

from classify_batch.engine.reconciler import evidence as module
from classify_batch.engine.reconciler.decisions import SendAgain, Take
from tests.support.evidence_stage import EvidenceStage, ambiguous, job


def test_a_job_nobody_awaited_is_asked_for_when_its_attempt_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was first shown after the proof of one attempt, and left the list before the other's create was ambiguous:
    without a call by its ID, its files would be sent again."""
    monkeypatch.setattr(module, "CANDIDATES_MAX", 1)
    world = EvidenceStage(ambiguous("a", chunk=1, accept_until_s=50.0))
    for now_s in (60.0, 81.0, 102.0):
        world.read_list(now_s, other := job("other"))
    world.read_list(123.0, other, job("ours"))
    assert [*world.candidates] == ["other"]
    world.add_attempt(asked := ambiguous("b", chunk=2, intended_s=110.0, accept_until_s=130.0))
    polled = set[str]()
    for now_s in range(144, 400, 21):
        world.read_list(float(now_s), job("other", "ERROR"))
        polled |= set(world.asked())
        assert world.decide_for_attempt(asked, float(now_s)) is None
    assert polled == {"ours"}


def test_what_others_jobs_hold_is_known_when_they_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that was read, left the list and can't be had by its ID keeps no later attempt waiting."""
    monkeypatch.setattr(module, "CANDIDATES_MAX", 2)
    world = EvidenceStage(ambiguous("a", chunk=1, accept_until_s=5000.0))
    others = [job("j0", "SUCCESS"), job("j1", "SUCCESS")]
    for now_s in (60.0, 81.0, 102.0):
        world.read_list(now_s, *others)
        for job_id in world.due(now_s):
            world.answer(job_id, now_s, ["others'"])
    assert not world.candidates
    world.add_attempt(asked := ambiguous("b", chunk=2, intended_s=55.0, accept_until_s=110.0))
    for now_s in (123.0, 144.0, 165.0):
        world.read_list(now_s)
    assert world.decide_for_attempt(asked, 165.0) == SendAgain()


def test_a_job_that_fails_for_good_after_success_ends_its_attempts_wait() -> None:
    """It named the file without an answer. A failed job isn't paid, and its results can't be had any more: nobody waits
    for them for ever."""
    world = EvidenceStage(asked := ambiguous("a"))
    world.read_list(100.0, job("j", "SUCCESS"))
    world.answer("j", 100.0, [], null=["a"])
    for now_s in (121.0, 142.0):
        world.read_list(now_s, failed := job("j", "ERROR"))
    assert world.decide_for_attempt(asked, 142.0) == Take((failed,))
    world.record_unreadable("j", 143.0)
    assert world.decide_for_attempt(asked, 143.0) == SendAgain()


def test_a_job_that_only_seems_to_fail_is_waited_for() -> None:
    """As long as it may show its results again."""
    world = EvidenceStage(asked := ambiguous("a"))
    world.read_list(100.0, job("j", "SUCCESS"))
    world.answer("j", 100.0, [], null=["a"])
    world.read_list(121.0, job("j", "SUCCESS"))
    world.record_unreadable("j", 121.0)
    world.read_list(130.0, job("j", "ERROR"))
    assert world.decide_for_attempt(asked, 130.0) is None
    world.read_list(151.0, ended := job("j", "SUCCESS"))
    world.answer("j", 151.0, ["a"])
    assert world.decide_for_attempt(asked, 151.0) == Take((ended,))
