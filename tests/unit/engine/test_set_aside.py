"""Jobs that aren't held are remembered, each with its standing and its time."""

from __future__ import annotations

import math
from random import Random
from uuid import UUID

import pytest

from classify_batch.engine.reconciler.set_aside import JobsSetAside, Standing
from tests.support.evidence_stage import job


def test_what_is_set_aside_is_found_again() -> None:
    """Each with its standing and its time, whatever was put or removed in between."""
    random, aside, known = Random(1), JobsSetAside(), dict[str, tuple[Standing, float]]()
    for number in range(5000):
        job_id = str(UUID(int=number)) if number % 2 else f"job {number}"
        known[job_id] = random.choice(list(Standing)), float(number)
        aside.set_job_aside(job_id, *known[job_id])
        if number % 3 == 0:
            gone = random.choice(list(known))
            aside.remove_job(gone)
            del known[gone]
            assert aside.find_job(gone) is None
    assert {job_id: aside.find_job(job_id) for job_id in known} == known
    assert aside.waiting_count == sum(standing in (Standing.WAITING, Standing.NEXT) for standing, _ in known.values())
    aside.reconsider((Standing.READ,), 2500.0)
    waiting = {
        (job_id, first_s)
        for job_id, (standing, first_s) in known.items()
        if standing in (Standing.WAITING, Standing.NEXT) or (standing is Standing.READ and first_s >= 2500.0)
    }
    assert {*aside.with_standing(Standing.WAITING), *aside.with_standing(Standing.NEXT)} == waiting
    assert aside.waiting_count == aside.waiting_between(None, math.inf) == len(waiting)
    assert aside.waiting_between(1000.0, 3000.0) == sum(1000.0 <= first_s < 3000.0 for _, first_s in waiting)
    aside.clear()
    assert (aside.waiting_count, aside.find_job(next(iter(known)))) == (0, None)


def test_a_job_is_set_aside_in_any_spelling() -> None:
    """And told by the one that came first, by which the server can be asked for it."""
    aside, upper = JobsSetAside(), "0A6B7C1E-3D2F-4A5B-8C9D-0E1F2A3B4C5D"
    aside.set_job_aside(upper, Standing.WAITING, 1.0)
    assert aside.find_job(upper.lower()) == aside.find_job(upper) == (Standing.WAITING, 1.0)
    assert [*aside.with_standing(Standing.WAITING)] == [(upper, 1.0)]
    aside.remove_job(upper.lower())
    assert (aside.find_job(upper), aside.waiting_count) == (None, 0)


@pytest.mark.parametrize(
    ("standing", "quiet"),
    [
        (Standing.ELSEWHERE, {"PENDING", "SUCCESS", "PARTIAL_SUCCESS", "ERROR"}),
        (Standing.READ, {"PENDING", "SUCCESS", "PARTIAL_SUCCESS"}),
        (Standing.SILENT, {"PARTIAL_SUCCESS"}),
        (Standing.FAILED, {"ERROR"}),
        (Standing.WAITING, set()),
        (Standing.NEXT, set()),
        (Standing.UNAWAITED, set()),
    ],
)
def test_a_job_is_looked_at_again_where_it_no_longer_stands_as_it_did(standing: Standing, quiet: set[str]) -> None:
    """A job that failed, and then shows answers, may be the one that is looked for."""
    aside = JobsSetAside()
    aside.set_job_aside("j", standing, 0.0)
    found = aside.find_job("j")
    assert found is not None
    statuses = ("PENDING", "SUCCESS", "PARTIAL_SUCCESS", "ERROR")
    assert {status for status in statuses if found.is_still_decided(job("j", status))} == quiet
