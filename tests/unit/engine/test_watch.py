"""The watch: pure decisions about which job to poll, held against worlds of jobs and lists."""

from __future__ import annotations

from collections.abc import Collection
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from classify_batch.engine.poller.durations import FIRST_POLL_SHARE, KEPT, KNOWN_FROM, POLL_SHARE, UNKNOWN_S, Durations
from classify_batch.engine.poller.watch import (
    GAP_S_MAX,
    LIST_REST_S_MAX,
    RATE_SHARE,
    RATE_SHARE_PRESSED,
    PollJobs,
    PollList,
    PollSchedule,
    Wait,
)
from classify_batch.limits import Headroom
from classify_batch.model import Attempt, AttemptKey, Job, Part

FREE = Headroom(0.0, 0.0)
patient = settings(deadline=None)  # a busy machine is no fault


def job(number: int, *, timed: bool = True) -> Job:
    attempt = Attempt(AttemptKey(number, 1), Part(number), (f"f{number}",), (0,))
    return Job(attempt, f"job-{number}", 0.0, timed=timed)


class World:
    """Jobs that end at their time, a list that shows some of them, and a clock that the watch moves.

    Args:
        listed: which jobs the list shows at all.
        jobs_per_page: how many of ours are on a page of it.
        room: what the request rate leaves.
    """

    def __init__(
        self, watch: PollSchedule, *, listed: Collection[int], jobs_per_page: int, room: Headroom | None = None
    ) -> None:
        self.room = Headroom(0.05, 0.0) if room is None else room
        self.watch = watch
        self.now_s = 0.0
        self.ends_s: dict[str, float] = {}
        self.noticed_s: dict[str, float] = {}
        self.listed = {f"job-{number}" for number in listed}
        self.jobs_per_page = jobs_per_page
        self.requests = self.sweeps = self.looks = 0

    def add(self, number: int, duration_s: float) -> None:
        self.ends_s[f"job-{number}"] = self.now_s + duration_s
        self.watch.add_job(job(number), self.now_s)

    def step(self) -> None:
        match self.watch.choose_action(self.now_s, self.room):
            case PollList(pages_max):
                self._sweep(pages_max)
            case PollJobs(job_ids):
                self.looks += len(job_ids)
                self._spend(len(job_ids))
                for job_id in job_ids:
                    self._see(job_id)
            case Wait(until_s):
                assert until_s > self.now_s
                self.now_s = until_s

    def _sweep(self, pages_max: int) -> None:
        self.sweeps += 1
        began_s, expected = self.now_s, set(self.watch.jobs)
        in_list = sorted(expected & self.listed)
        shown: list[set[str]] = []
        while len(shown) < pages_max and (not shown or expected.difference(*shown)):
            start = len(shown) * self.jobs_per_page
            shown.append(set(in_list[start : start + self.jobs_per_page]))
            self._spend(1)
            for job_id in shown[-1]:
                self._see(job_id)
        self.watch.record_list_poll(shown, expected, self.now_s, self.now_s - began_s)

    def _spend(self, requests: int) -> None:
        self.requests += requests
        self.now_s += 0.01 * requests

    def _see(self, job_id: str) -> None:
        if self.ends_s[job_id] <= self.now_s:
            self.watch.remove_finished(job_id, self.now_s)
            self.noticed_s[job_id] = self.now_s
        else:
            self.watch.record_job_poll(job_id, self.now_s)

    def run(self, steps_max: int = 200_000) -> None:
        for _ in range(steps_max):
            if not self.watch.jobs:
                return
            self.step()
        raise AssertionError(f"{len(self.watch.jobs)} jobs are forgotten")


DURATIONS = st.lists(st.floats(0.0, 600.0), min_size=1, max_size=25)


@patient
@given(DURATIONS, st.sets(st.integers(0, 24)), st.integers(1, 10))
def test_no_job_is_ever_forgotten(durations: list[float], listed: set[int], jobs_per_page: int) -> None:
    """Each job is seen to be finished, whatever of them the list shows, and in whatever order they end."""
    world = World(PollSchedule(), listed=listed, jobs_per_page=jobs_per_page)
    for number, duration_s in enumerate(durations):
        world.add(number, duration_s)
        world.step()
    world.run()
    assert world.noticed_s.keys() == world.ends_s.keys()


@patient
@given(DURATIONS, st.sets(st.integers(0, 24)), st.integers(1, 10))
@example([161.0, 161.0, 151.0, 161.0, 151.0], {0, 1, 3}, 2)  # sweeps end while some are out, and durations are known
def test_an_end_is_noticed_in_time(durations: list[float], listed: set[int], jobs_per_page: int) -> None:
    """No end goes unnoticed for longer than the longest gap, and the share of the rate that all looks take together."""
    world = World(PollSchedule(), listed=listed, jobs_per_page=jobs_per_page)
    for number, duration_s in enumerate(durations):
        world.add(number, duration_s)
    world.run()
    slack_s = GAP_S_MAX + len(durations) * (1 / 10 + 0.02) + 1
    assert max(world.noticed_s[name] - world.ends_s[name] for name in world.ends_s) <= slack_s


def steady(watch: PollSchedule, *, jobs: int, in_flight: int, listed: bool, jobs_per_page: int = 20) -> World:
    """A run of jobs of two seconds, so many at once."""
    random = Random(3)
    world = World(watch, listed=range(jobs) if listed else (), jobs_per_page=jobs_per_page)
    for number in range(jobs):
        while len(watch.jobs) >= in_flight:
            world.step()
        world.add(number, random.lognormvariate(0.7, 0.6))
    world.run()
    return world


def test_a_good_list_is_cheap() -> None:
    """With twenty jobs in flight one list poll shows all: fewer than four requests a job, hardly any of them single."""
    world = steady(PollSchedule(), jobs=400, in_flight=20, listed=True)
    assert world.requests / 400 < 4
    assert world.looks < 0.1 * world.requests
    waits_s = [world.noticed_s[name] - world.ends_s[name] for name in world.ends_s]
    assert sum(waits_s) / len(waits_s) < 0.15 * 2.4


def test_a_useless_list_is_left_alone() -> None:
    """A list that shows none of our jobs is asked seldom, and each job by its id; hardly dearer than it must be."""
    world = steady(PollSchedule(), jobs=400, in_flight=20, listed=False)
    assert world.sweeps < 0.05 * world.requests
    assert world.requests / 400 < 9


def test_a_list_that_gets_useful_again_is_used_again() -> None:
    """A rest is no farewell: after it, the list is tried, and what it is worth is learned anew."""
    watch = PollSchedule()
    world = World(watch, listed=(), jobs_per_page=100)
    for number in range(30):
        world.add(number, 1e9)
    while world.now_s < 2000:
        world.step()
    useless = world.sweeps
    assert 0 < useless < 40
    world.listed = set(world.ends_s)
    while world.now_s < 2000 + 2 * LIST_REST_S_MAX:
        world.step()
    looks, sweeps = world.looks, world.sweeps
    assert sweeps > useless
    while world.now_s < 2000 + 4 * LIST_REST_S_MAX:
        world.step()
    assert world.sweeps - sweeps >= 2 * LIST_REST_S_MAX / GAP_S_MAX - 2
    assert world.looks == looks


@pytest.mark.parametrize("jobs_per_page", [0, 1, 100], ids=["no list", "a poor list", "a good list"])
@pytest.mark.parametrize(("backlog_s", "share"), [(0.0, RATE_SHARE), (1e9, RATE_SHARE_PRESSED)])
def test_looking_leaves_room_for_the_rest(backlog_s: float, share: float, jobs_per_page: int) -> None:
    """Of a slow rate looking takes its share and no more; a smaller one, while others wait."""
    listed = range(50) if jobs_per_page else ()
    world = World(PollSchedule(), listed=listed, jobs_per_page=max(1, jobs_per_page), room=Headroom(0.5, backlog_s))
    for number in range(50):
        world.add(number, 1e9)
    while world.now_s < 20_000:
        world.step()
    assert world.requests / world.now_s <= 2.0 * share * 1.3


def test_no_burst_after_a_stall() -> None:
    """A machine that slept for an hour looks once, not as often as it would have looked meanwhile."""
    world = World(PollSchedule(Durations([2.0] * 20)), listed=range(20), jobs_per_page=100)
    for number in range(20):
        world.add(number, 1e9)
    while world.sweeps < 5:
        world.step()
    world.now_s += 3600
    before = world.requests
    until_s = world.now_s + 1
    while world.now_s < until_s:
        world.step()
    assert world.requests - before <= 12


def test_few_jobs_are_asked_for_one_by_one() -> None:
    """A page of a hundred jobs is a lot of bytes for one or two."""
    for jobs, sweeps in ((1, False), (2, False), (3, True)):
        world = World(PollSchedule(), listed=range(9), jobs_per_page=100)
        for number in range(jobs):
            world.add(number, 100.0)
        world.run()
        assert (world.sweeps > 0) is sweeps


def test_further_pages_are_read_while_they_are_worth_it() -> None:
    """Of a hundred jobs, forty on each page of ours: three pages are read, in one sweep; a fourth is not tried."""
    watch = PollSchedule(Durations([2.0] * 20))
    world = World(watch, listed=range(100), jobs_per_page=40)
    for number in range(100):
        world.add(number, 1e9)
    while world.sweeps < 10:
        world.step()
    assert watch.choose_action(world.now_s + GAP_S_MAX, Headroom(0.0, 0.0)) == PollList(3)


@patient
@given(st.lists(st.floats(0.1, 100.0), min_size=1, max_size=50))
def test_durations_are_learned_from_jobs_that_were_seen_from_their_beginning(durations: list[float]) -> None:
    """A job that was taken up or adopted teaches nothing; the others ended between two looks."""
    watch = PollSchedule()
    for number, duration_s in enumerate(durations):
        watch.add_job(job(number), 1000.0)
        watch.add_job(job(-number - 1, timed=False), 1000.0)
        assert watch.remove_finished(f"job-{-number - 1}", 5000.0)[1] is None
        watch.record_job_poll(f"job-{number}", 1000.0 + 0.9 * duration_s)
        assert watch.remove_finished(f"job-{number}", 1000.0 + duration_s)[1] == pytest.approx(0.95 * duration_s)
    assert not watch.jobs


def test_a_known_mean_decides_when_to_look_first() -> None:
    """A run that goes on knows how long jobs take, and doesn't look at a new one before a good part of that is over."""
    watch = PollSchedule(Durations([1000.0]))
    watch.add_job(job(1), 0.0)
    assert watch.choose_action(0.0, FREE) == Wait(1000.0 * FIRST_POLL_SHARE)


def test_a_job_that_was_taken_up_is_looked_at_at_once() -> None:
    """It may have ended long ago."""
    watch = PollSchedule(Durations([1000.0]))
    watch.add_job(job(1, timed=False), 5.0)
    assert watch.choose_action(5.0, FREE) == PollJobs(("job-1",))
    watch = PollSchedule(Durations([1000.0]))
    for number in range(3):
        watch.add_job(job(number, timed=False), 5.0)
    assert watch.choose_action(5.0, FREE) == PollList(1)


def test_while_the_list_is_polled_one_job_more_changes_no_choice() -> None:
    """A tenth more do; and where jobs are polled by their IDs, each new one does."""
    watch = PollSchedule(Durations([1000.0]))
    assert watch.add_job(job(0), 0.0)
    for number in range(1, 100):
        watch.add_job(job(number), 0.0)
    watch.choose_action(0.0, FREE)
    more = [watch.add_job(job(number), 0.0) for number in range(100, 115)]
    assert more == [False] * 10 + [True] * 5
    watch.choose_action(0.0, FREE)
    assert not watch.add_job(job(200), 0.0)
    watch.rest_from_list(0.0)
    watch.choose_action(0.0, FREE)
    assert watch.add_job(job(201), 0.0)


def test_nothing_out_is_nothing_to_do() -> None:
    """Then only news can wake the poller."""
    assert PollSchedule().choose_action(5.0, FREE) == Wait(float("inf"))


# --- What is known of durations ---------------------------------------------------------------------------------------


@patient
@given(st.lists(st.floats(0.01, 1000.0), max_size=300), st.floats(0.0, 5000.0))
def test_a_gap_is_always_a_time(known_s: list[float], age_s: float) -> None:
    """Whatever was learned, and however old a job: it is looked at again, in a time that its age or the mean bounds."""
    durations = Durations(known_s)
    gap_s = durations.poll_gap_s(age_s)
    assert 0 < gap_s <= 0.5 * max(UNKNOWN_S, age_s, durations.mean_s or 0.0) or not durations.mean_s


def test_looks_are_dense_where_jobs_end() -> None:
    """Where all jobs take nearly the same time, no look is made before; of two kinds, none between them."""
    durations = Durations([10.0 + 0.01 * number for number in range(KNOWN_FROM)])
    assert 5 <= durations.poll_gap_s(0.0) <= 5.1  # half of the mean is the longest gap
    assert durations.poll_gap_s(9.0) == pytest.approx(1.1, abs=0.1)
    two_kinds = Durations([10.0, 20.0] * KNOWN_FROM)
    assert two_kinds.poll_gap_s(9.5) == pytest.approx(0.95, abs=0.5)
    assert two_kinds.poll_gap_s(10.5) > 6


def test_unknown_durations_are_looked_for_ever_more_seldom() -> None:
    """Until a job has finished, the gaps grow with its age."""
    durations, now_s, looks = Durations(), 0.0, 0
    while now_s < 3600:
        now_s += durations.poll_gap_s(now_s)
        looks += 1
    assert looks < 70
    assert durations.poll_gap_s(1000.0) == POLL_SHARE * 1000


def test_old_durations_are_forgotten() -> None:
    """What is known of is what happened of late."""
    durations = Durations([1000.0] * KEPT + [1.0] * KEPT)
    assert durations.mean_s == pytest.approx(1.0, rel=0.01)
    assert durations.poll_gap_s(0.9) < 0.2
