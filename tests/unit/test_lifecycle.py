"""A chunk's life: the table of moves, and what follows a job that ended badly."""

from __future__ import annotations

import copy
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import pairwise, product
from math import ceil, log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify_batch.errors import InternalError
from classify_batch.lifecycle import (
    ENDS,
    MOVES,
    Adopted,
    Ended,
    Fact,
    Finished,
    Submitted,
    Submitting,
    Tally,
    after_bad_job,
    after_missing,
    kind_of,
    next_state,
    remainder,
    split_in_halves,
)
from classify_batch.model import AttemptKey, Part, Range, to_ranges
from classify_batch.rundir.journal.replay import RunSnapshot
from classify_batch.vocabulary import Kind, State

patient = settings(deadline=None)  # a busy machine is no fault

KEY = AttemptKey(0, 1)
POSITIONS = st.sets(st.integers(0, 499), min_size=1).map(sorted)
BAD_JOBS = st.integers(0, 9)
PARTS = st.builds(Part, st.just(3), st.none(), BAD_JOBS, st.none(), BAD_JOBS, BAD_JOBS)
WHOLE = st.integers(1, 500)
ACCIDENTS = st.lists(st.sampled_from(["bad", "", "null"]), max_size=40)
LOTS = st.lists(st.integers(0, 1 << 20), max_size=80)


def spread(parts: Sequence[Part], size: int = 500) -> list[int]:
    """All positions of some parts, as often as they occur."""
    return sorted(position for part in parts for position in part.positions(size))


# --- The table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "kind"), list(product(State, Kind)), ids=str)
def test_a_move_is_in_the_table_or_impossible(state: State, kind: Kind) -> None:
    """A move that the table doesn't have is an internal error."""
    if (state, kind) in MOVES:
        assert next_state(state, kind) is MOVES[state, kind]
    else:
        with pytest.raises(InternalError, match=f"{state} can't be {kind}"):
            next_state(state, kind)


def test_nothing_leaves_a_final_state() -> None:
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
    assert list(Part(0).pick_file_ids(file_ids)) == file_ids
    assert Part(0).positions(size) == list(range(size))
    assert list(Part(0, (Range(0, 1),)).pick_file_ids(file_ids)) == file_ids[:1]


@patient
@given(POSITIONS, PARTS, BAD_JOBS)
def test_halves_lose_nothing_and_double_nothing(positions: list[int], part: Part, bad_jobs: int) -> None:
    """Two parts that differ in size by one file at most, or one part of a single file; each counts what it is given,
    and else what the whole part counted."""
    parts = split_in_halves(part, positions, bad_jobs=bad_jobs)
    assert spread(parts) == positions
    assert len(parts) == min(2, len(positions))
    sizes = [len(each.positions(500)) for each in parts]
    assert max(sizes) - min(sizes) <= 1
    assert all(replace(each, ranges=None) == replace(part, ranges=None, bad_jobs=bad_jobs) for each in parts)


@patient
@given(st.sets(st.integers(0, 499)).map(sorted), PARTS, BAD_JOBS)
def test_a_remainder_is_what_is_left(positions: list[int], part: Part, unnamed: int) -> None:
    """One part of just these positions, counted like the whole but for what is given; none where nothing is left."""
    parts = remainder(part, positions, unnamed=unnamed)
    assert spread(parts) == positions
    assert len(parts) == bool(positions)
    assert all(replace(each, ranges=None) == replace(part, ranges=None, unnamed=unnamed) for each in parts)


# --- Jobs that ended badly -------------------------------------------------------------------------------------------


@patient
@given(POSITIONS, PARTS, st.integers(1, 20), st.booleans())
def test_after_a_bad_job_each_file_goes_out_once_or_fails(
    positions: list[int], counted: Part, attempts: int, other_file_suspected: bool
) -> None:
    """Only a file alone can fail: after `attempts` bad jobs of its own, to which those that it shared are added where
    no other file can have been their reason. All others go out again, with one more on them."""
    part = replace(counted, ranges=to_ranges(positions))
    parts = after_bad_job(part, positions, attempts, other_file_suspected=other_file_suspected)
    alone = len(positions) == 1
    count = part.bad_jobs + 1 + (0 if other_file_suspected else part.shared_bad_jobs)
    assert spread(parts) == ([] if alone and count >= attempts else positions)
    assert {(each.bad_jobs, each.shared_bad_jobs) for each in parts} <= {
        (part.bad_jobs + alone, part.shared_bad_jobs + (not alone))
    }


@patient
@given(st.integers(2, 500), st.integers(1, 10), st.booleans())
def test_a_planned_chunk_goes_out_once_more_as_it_is(size: int, attempts: int, other_file_suspected: bool) -> None:
    """What was an accident of one job costs one job, not a bisection; the parts of a split are split further."""
    positions = list(range(size))

    def after(part: Part) -> tuple[Part, ...]:
        return after_bad_job(part, positions, attempts, other_file_suspected=other_file_suspected)

    assert after(Part(0)) == (Part(0, shared_bad_jobs=1),)
    assert len(after(Part(0, shared_bad_jobs=1))) == 2
    assert len(after(Part(0, to_ranges(positions), shared_bad_jobs=1))) == 2
    assert len(after(Part(0, to_ranges(positions)))) == 2


class ChunkLife:
    """The jobs of a chunk, side by side in whatever order, as the journal's snapshot counts them.

    Attributes:
        paid: how often each file was answered; failed: the files that failed, each with its attempts.
        own: for each file, the attempts that it used up without a poisoned file to explain it.
    """

    def __init__(self, size: int, poison: Collection[int], attempts: int) -> None:
        self.snapshot = RunSnapshot(1)
        self.size = size
        self.poison = frozenset(poison)
        self.attempts = attempts
        self.jobs = 0
        self.paid, self.own, self.used_up = Counter[int](), Counter[int](), Counter[int]()
        self.failed: dict[int, int] = {}

    @property
    def choices(self) -> list[Part | AttemptKey]:
        """What can happen next: a part goes out, or a job ends."""
        snapshot = self.snapshot
        return [*([Part(0)] if snapshot.is_planned(0) else []), *snapshot.waiting_parts(), *snapshot.open_attempts]

    @property
    def state(self) -> object:
        """What its future depends on, and what is judged."""
        snapshot = self.snapshot
        parts = [open_attempt.part for open_attempt in snapshot.open_attempts.values()], snapshot.waiting_parts()
        counts = [sorted(each.items()) for each in (self.own, self.used_up, self.failed)]
        guilty = not snapshot.is_done(0) and not snapshot.is_planned(0) and snapshot._active_chunks[0].guilty
        return repr(([sorted(map(repr, each)) for each in parts], counts, guilty))

    def positions(self, choice: Part | AttemptKey) -> list[int]:
        part = choice if isinstance(choice, Part) else self.snapshot.open_attempts[choice].part
        return part.positions(self.size)

    def go_on(self, choice: Part | AttemptKey, accident: str = "") -> None:
        """A part goes out, or a job ends: badly, where a poisoned file is in it, or by accident ("bad"); or it leaves
        every second file without an answer ("null")."""
        if isinstance(choice, Part):
            self._send(choice)
            return
        positions, part = self.positions(choice), self.snapshot.open_attempts[choice].part
        explained = not self.poison.isdisjoint(positions)
        if explained or accident == "bad":
            suspect = self.snapshot.other_file_suspected(choice)
            used_up, again = positions, after_bad_job(part, positions, self.attempts, other_file_suspected=suspect)
        else:
            used_up = positions[::2] if accident == "null" else []
            again = after_missing(part, len(positions), used_up, self.attempts)
        self.used_up.update(used_up)
        self.own.update(() if explained else used_up)
        self.paid.update(set(positions) - set(used_up))
        self._end(choice, () if again else used_up, again)

    def _end(self, key: AttemptKey, failed: Sequence[int], again: tuple[Part, ...]) -> None:
        self.failed |= {position: self.used_up[position] for position in failed}
        tally = Tally(codes={"job_error": len(failed)} if failed else {})
        self.snapshot.apply_fact(Ended(key, Kind.COLLECTED, tally=tally, requeued=again), 0)

    def _send(self, part: Part) -> None:
        key = AttemptKey(0, self.snapshot.next_attempt(0))
        self.jobs += 1
        self.snapshot.apply_fact(Submitting(key, part, 0.0), 0)
        self.snapshot.apply_fact(Submitted(key, f"job-{key.attempt}", 0.0), 0)
        self.snapshot.apply_fact(Finished(key, "ERROR"), 0)

    def live(self, choose: Callable[[int], int], accident: Callable[[], str] = str) -> None:
        """To its end. `choose`: which of so many choices comes next."""
        while choices := self.choices:
            self.go_on(choices[choose(len(choices))], accident())


def judge(life: ChunkLife) -> None:
    """No good file has failed for its neighbours' sake."""
    assert all(life.own[position] >= life.attempts for position in life.failed.keys() - life.poison)
    assert all(used_up >= life.attempts for used_up in life.failed.values())
    if not life.choices:
        assert life.poison <= life.failed.keys()
        assert life.paid == Counter(set(range(life.size)) - life.failed.keys())


@patient
@given(st.integers(1, 24), st.sets(st.integers(0, 23)), st.integers(1, 5), LOTS, ACCIDENTS)
def test_a_good_file_fails_by_attempts_of_its_own_only(
    size: int, poison: set[int], attempts: int, lots: list[int], accidents: list[str]
) -> None:
    """Whatever its poisoned neighbours do, and in whatever order their jobs end: a bad job that one of them explains
    costs no good file an attempt. And every file has one end: it is paid once, or fails."""
    order, happens = iter(lots), iter(accidents)
    life = ChunkLife(size, {each for each in poison if each < size}, attempts)
    life.live(lambda choices: next(order, 0) % choices, lambda: next(happens, ""))
    judge(life)


@pytest.mark.parametrize(
    ("size", "poison", "attempts"), [(2, {1}, 3), (3, {0}, 2), (3, {0, 2}, 2), (3, set(), 2)], ids=str
)
def test_no_order_of_jobs_and_no_accident_fails_a_good_file_early(size: int, poison: set[int], attempts: int) -> None:
    """All lives that a small chunk can have: whatever goes out next, ends next, and fails by accident."""
    seen, front = set[object](), [ChunkLife(size, poison, attempts)]
    while front:
        life = front.pop()
        for number, accident in product(range(len(life.choices)), ("", "bad")):
            later = copy.deepcopy(life)
            later.go_on(later.choices[number], accident)
            judge(later)
            if (state := later.state) not in seen:
                seen.add(state)
                front.append(later)
    assert len(seen) > 50


@patient
@given(st.data(), WHOLE, st.integers(1, 6), LOTS)
def test_one_bad_file_is_found_in_logarithmic_time(
    data: st.DataObject, size: int, attempts: int, lots: list[int]
) -> None:
    """At most 2 * ceil(log2 n) + 1 jobs beside the first, and `attempts` more where it can't be distinguished from
    neighbours in flight; these are paid once."""
    order = iter(lots)
    life = ChunkLife(size, {data.draw(st.integers(0, size - 1))}, attempts)
    life.live(lambda choices: next(order, 0) % choices)
    assert life.jobs - 1 <= 2 * ceil(log2(size)) + 1 + attempts
    assert life.failed.keys() == life.poison
    assert life.paid == Counter(set(range(size)) - life.poison)


@patient
@given(st.data(), st.integers(2, 500))
def test_a_bad_file_whose_neighbours_have_ended_costs_no_further_attempts(data: st.DataObject, size: int) -> None:
    """With 3 attempts: what it shared counts, as soon as nobody else can have been the reason."""
    bad = data.draw(st.integers(0, size - 1))
    life = ChunkLife(size, {bad}, 3)
    while choices := life.choices:
        life.go_on(min(choices, key=lambda choice: bad in life.positions(choice)))
    assert life.jobs - 1 <= 2 * ceil(log2(size)) + 1
    assert life.failed.keys() == {bad}


@patient
@given(st.integers(1, 64), st.sets(st.integers(0, 63)), st.integers(1, 6))
def test_splitting_fails_the_bad_files_and_no_other(size: int, bad: set[int], attempts: int) -> None:
    """However many are bad, each good file is paid once, and each bad one fails after `attempts` bad jobs or more."""
    life = ChunkLife(size, {position for position in bad if position < size}, attempts)
    life.live(lambda _: 0)
    assert life.paid == Counter(set(range(size)) - life.poison)
    assert life.failed.keys() == life.poison
    assert all(used_up >= attempts for used_up in life.failed.values())


# --- Files that were not answered ------------------------------------------------------------------------------------


@patient
@given(st.data(), POSITIONS, PARTS, st.integers(1, 10))
def test_what_is_missing_goes_out_again_and_nothing_else(
    data: st.DataObject, asked: list[int], part: Part, attempts: int
) -> None:
    """The missing files, each once, in parts smaller than what was asked, until the attempts are used up. The job ended
    well and named them: nothing that they shared before speaks against them."""
    missing = sorted(data.draw(st.sets(st.sampled_from(asked))))
    parts = after_missing(replace(part, ranges=to_ranges(asked)), len(asked), missing, attempts)
    assert spread(parts) == (missing if part.bad_jobs + 1 < attempts else [])
    counted = {(each.bad_jobs, each.shared_bad_jobs, each.unnamed) for each in parts}
    assert counted <= {(part.bad_jobs + 1, 0, 0)}
    assert all(len(each.positions(500)) < max(2, len(asked)) for each in parts)


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
