"""A chunk's life: the table of moves, and what follows a job that ended badly."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from itertools import pairwise, product
from math import ceil, log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify_batch.errors import InternalError
from classify_batch.records import AttemptKey, Part, Range, to_ranges
from classify_batch.states import (
    ENDS,
    MOVES,
    Adopted,
    Ended,
    Fact,
    Finished,
    Kind,
    State,
    Submitted,
    Submitting,
    after_bad_job,
    after_missing,
    halves,
    kind_of,
    move,
    remainder,
)

patient = settings(deadline=None)  # a busy machine is no fault

KEY = AttemptKey(0, 1)
POSITIONS = st.sets(st.integers(0, 499), min_size=1).map(sorted)
BAD_JOBS = st.integers(0, 9)
WHOLE = st.integers(1, 500)


def spread(parts: Sequence[Part], size: int = 500) -> list[int]:
    """All positions of some parts, as often as they occur."""
    return sorted(position for part in parts for position in part.positions(size))


# --- The table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "kind"), list(product(State, Kind)), ids=str)
def test_a_move_is_in_the_table_or_impossible(state: State, kind: Kind) -> None:
    """Whoever tries a move that the table doesn't have is told that this is a fault of ours."""
    if (state, kind) in MOVES:
        assert move(state, kind) is MOVES[state, kind]
    else:
        with pytest.raises(InternalError, match=f"{state} can't be {kind}"):
            move(state, kind)


def test_an_end_is_an_end() -> None:
    """Nothing leaves an end, and nothing else is without a way out."""
    assert {state for state in State if not any(start is state for start, _ in MOVES)} == ENDS


def test_every_state_is_on_a_way_from_planned_to_an_end() -> None:
    """No state can't be reached, and from none is an end out of reach."""
    reached, front = {State.PLANNED}, {State.PLANNED}
    while front:
        front = {goal for (start, _), goal in MOVES.items() if start in front} - reached
        reached |= front
    ending = set(ENDS)
    while more := {start for (start, _), goal in MOVES.items() if goal in ending} - ending:
        ending |= more
    assert reached == ending == set(State)


def test_paying_comes_after_the_intent_only() -> None:
    """A job is submitted or adopted under an intent that was written down before, and never twice."""
    assert {start for start, kind in MOVES if kind in (Kind.SUBMITTED, Kind.ADOPTED)} == {State.SUBMITTING}
    assert {start for start, kind in MOVES if kind is Kind.SUBMITTING} == {State.PLANNED, State.SUBMITTING}


@pytest.mark.parametrize(
    ("fact", "kind"),
    [
        (Submitting(KEY, Part(0), 0.0), Kind.SUBMITTING),
        (Submitted(KEY, "j", 0.0), Kind.SUBMITTED),
        (Adopted(KEY, "j", 0.0), Kind.ADOPTED),
        (Finished(KEY, "SUCCESS"), Kind.FINISHED),
        (Ended(KEY, Kind.SPLIT), Kind.SPLIT),
        (Ended(KEY, Kind.REJECTED), Kind.REJECTED),
        (Ended(KEY, Kind.COLLECTED), Kind.COLLECTED),
    ],
)
def test_a_fact_knows_its_kind(fact: Fact, kind: Kind) -> None:
    """Each fact is written under its own name."""
    assert kind_of(fact) is kind


# --- Parts -----------------------------------------------------------------------------------------------------------


@patient
@given(POSITIONS)
def test_ranges_are_the_positions(positions: list[int]) -> None:
    """Ranges hold what was put into them, and never touch each other."""
    ranges = to_ranges(positions)
    assert Part(0, ranges).positions(500) == positions
    assert all(before.stop < after.start for before, after in pairwise(ranges))


@patient
@given(WHOLE)
def test_a_whole_chunk_is_all_of_it(size: int) -> None:
    """A part without ranges picks every file ID, and one with ranges picks those."""
    file_ids = [f"f{number}" for number in range(size)]
    assert list(Part(0).pick(file_ids)) == file_ids
    assert Part(0).positions(size) == list(range(size))
    assert list(Part(0, (Range(0, 1),)).pick(file_ids)) == file_ids[:1]


@patient
@given(POSITIONS, BAD_JOBS)
def test_halves_lose_nothing_and_double_nothing(positions: list[int], bad_jobs: int) -> None:
    """Two parts that differ in size by one file at most, or one part of a single file."""
    parts = halves(Part(3), positions, bad_jobs)
    assert spread(parts) == positions
    assert len(parts) == min(2, len(positions))
    sizes = [len(part.positions(500)) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert all(part.chunk == 3 and part.bad_jobs == bad_jobs for part in parts)


@patient
@given(st.sets(st.integers(0, 499)).map(sorted), BAD_JOBS)
def test_a_remainder_is_what_is_left(positions: list[int], bad_jobs: int) -> None:
    """One part of just these positions; none where nothing is left."""
    parts = remainder(Part(3), positions, bad_jobs)
    assert spread(parts) == positions
    assert len(parts) == bool(positions)


# --- Jobs that ended badly -------------------------------------------------------------------------------------------


@patient
@given(POSITIONS, BAD_JOBS, st.integers(1, 10))
def test_after_a_bad_job_each_file_goes_out_once_or_fails(positions: list[int], bad_jobs: int, attempts: int) -> None:
    """Only a file alone can fail, after `attempts` bad jobs or more; all others go out again, with one more on them."""
    parts = after_bad_job(Part(0, to_ranges(positions), bad_jobs), positions, attempts)
    failed = len(positions) == 1 and bad_jobs + 1 >= attempts
    assert spread(parts) == ([] if failed else positions)
    assert all(part.bad_jobs == bad_jobs + 1 for part in parts)


@patient
@given(st.integers(2, 500), st.integers(1, 10))
def test_a_planned_chunk_goes_out_once_more_as_it_is(size: int, attempts: int) -> None:
    """What was an accident of one job costs one job, not a bisection; the parts of a split are split further."""
    positions = list(range(size))
    assert after_bad_job(Part(0), positions, attempts) == (Part(0, None, 1),)
    assert len(after_bad_job(Part(0, None, 1), positions, attempts)) == 2
    assert len(after_bad_job(Part(0, to_ranges(positions), 1), positions, attempts)) == 2


def bisect(size: int, bad: set[int], attempts: int = 3) -> tuple[int, Counter[int], Counter[int]]:
    """Runs a chunk with some poison in it to its end: jobs made, how often each file was paid, bad jobs per file."""
    jobs, paid, failed = 0, Counter[int](), Counter[int]()
    out = deque([Part(0)])
    while out:
        part = out.popleft()
        positions = part.positions(size)
        jobs += 1
        if bad.isdisjoint(positions):
            paid.update(positions)
            continue
        again = after_bad_job(part, positions, attempts)
        out.extend(again)
        if not again:
            failed[positions[0]] = part.bad_jobs + 1
    return jobs, paid, failed


@patient
@given(st.data(), WHOLE)
def test_one_bad_file_is_found_in_logarithmic_time(data: st.DataObject, size: int) -> None:
    """At most 2 * ceil(log2 n) + 2 jobs beside the first, and its neighbours are paid once."""
    bad = data.draw(st.integers(0, size - 1))
    jobs, paid, failed = bisect(size, {bad})
    assert jobs - 1 <= 2 * ceil(log2(size)) + 2
    assert set(failed) == {bad}
    assert paid == Counter(set(range(size)) - {bad})


@patient
@given(st.integers(1, 64), st.sets(st.integers(0, 63)), st.integers(1, 6))
def test_any_bad_files_are_told_from_the_good_ones(size: int, bad: set[int], attempts: int) -> None:
    """However many are bad, each good file is paid once, and each bad one fails after `attempts` bad jobs or more."""
    bad = {position for position in bad if position < size}
    _, paid, failed = bisect(size, bad, attempts)
    assert paid == Counter(set(range(size)) - bad)
    assert set(failed) == bad
    assert all(bad_jobs >= attempts for bad_jobs in failed.values())


# --- Files that were not answered ------------------------------------------------------------------------------------


@patient
@given(st.data(), POSITIONS, BAD_JOBS, st.integers(1, 10))
def test_what_is_missing_goes_out_again_and_nothing_else(
    data: st.DataObject, asked: list[int], bad_jobs: int, attempts: int
) -> None:
    """The missing files, each once, in parts smaller than what was asked, until the attempts are used up."""
    missing = sorted(data.draw(st.sets(st.sampled_from(asked))))
    parts = after_missing(Part(0, to_ranges(asked), bad_jobs), len(asked), missing, attempts)
    assert spread(parts) == (missing if bad_jobs + 1 < attempts else [])
    assert all(part.bad_jobs == bad_jobs + 1 for part in parts)
    assert all(len(part.positions(500)) < max(2, len(asked)) for part in parts)


@patient
@given(WHOLE, st.integers(1, 6))
def test_a_file_that_is_never_answered_is_asked_for_as_often_as_allowed(size: int, attempts: int) -> None:
    """`attempts` counts the jobs that each file was in, however the parts were cut meanwhile."""
    asked, out = Counter[int](), deque([Part(0)])
    while out:
        part = out.popleft()
        positions = part.positions(size)
        asked.update(positions)
        out.extend(after_missing(part, len(positions), positions, attempts))
    assert asked == Counter(dict.fromkeys(range(size), attempts))
