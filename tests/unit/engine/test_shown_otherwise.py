"""A list that shows the run's own jobs otherwise than they were created."""

from __future__ import annotations

from typing import Any

import pytest

from classify_batch.engine.reconciler.decisions import SendAgain
from tests.support.evidence_stage import ACCEPT_UNTIL_S, SETTLE_S, EvidenceStage, ambiguous, job

OTHERWISE: list[dict[str, Any]] = [
    {"rules": frozenset({("x", "other words")})},
    {"mode": "fast_v2"},
]


def read_list(world: EvidenceStage, now_s: float, lost: dict[str, Any], own: dict[str, Any]) -> None:
    """The list has the job of the lost create, and one of ours that is known."""
    world.begin_list_reading(now_s)
    world.record_view(job("lost", **lost), now_s)
    world.record_own_job(job("own", **own))
    world.end_list_reading(complete=True)


@pytest.mark.parametrize("otherwise", OTHERWISE)
def test_what_our_own_jobs_show_too_excludes_no_job(otherwise: dict[str, Any]) -> None:
    """All proofs begin anew: the readings before had dropped the job. Then it is a candidate, and waited for."""
    asked = ambiguous("a")
    world = EvidenceStage(asked)
    first_s = ACCEPT_UNTIL_S
    read_list(world, first_s, otherwise, {})
    assert not world.candidates
    for reading in range(1, 4):
        now_s = first_s + reading * SETTLE_S
        read_list(world, now_s, otherwise, otherwise)
        assert world.decide_for_attempt(asked, now_s) is None
    assert world.candidates.keys() == {"lost"}


@pytest.mark.parametrize(("lost", "own"), [OTHERWISE, OTHERWISE[::-1]])
def test_a_field_that_is_shown_as_it_was_sent_still_excludes(lost: dict[str, Any], own: dict[str, Any]) -> None:
    """Each field is judged by itself."""
    asked = ambiguous("a")
    world = EvidenceStage(asked)
    for reading in range(4):
        read_list(world, ACCEPT_UNTIL_S + reading * SETTLE_S, lost, own)
    assert not world.candidates
    assert world.decide_for_attempt(asked, ACCEPT_UNTIL_S + 3 * SETTLE_S) == SendAgain()


def test_a_job_of_the_second_look_is_shown_as_it_was_created() -> None:
    """It has another mode than first looks, and that is no contradiction."""
    asked = ambiguous("a")
    world = EvidenceStage(asked)
    for reading in range(4):
        read_list(world, ACCEPT_UNTIL_S + reading * SETTLE_S, {"mode": "MULTIMODAL"}, {"mode": "MULTIMODAL"})
    assert world.decide_for_attempt(asked, ACCEPT_UNTIL_S + 3 * SETTLE_S) == SendAgain()
