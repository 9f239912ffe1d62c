"""The watch: pure decisions about which job to look at, held against worlds of jobs and lists."""

from __future__ import annotations

from collections.abc import Collection
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify_batch.records import Attempt, AttemptKey, Job, Part
from classify_batch.stages.poller.watch import (
    GAP_S_MAX,
    LIST_REST_S_MAX,
    Look,
    Sweep,
    Wait,
    Watch,
)

patient = settings(deadline=None)  # a busy machine is no fault


def job(number: int, *, timed: bool = True) -> Job:
    attempt = Attempt(AttemptKey(number, 1), Part(number), (f"f{number}",), (0,))
    return Job(attempt, f"job-{number}", 0.0, timed=timed)


class World:
    """Jobs that end at their time, a list that shows some of them, and a clock that the watch moves.

    Args:
        listed: which jobs the list shows at all.
        jobs_per_page: how many of ours are on a page of it.
    """

    def __init__(self, watch: Watch, *, listed: Collection[int], jobs_per_page: int) -> None:
        self.watch = watch
        self.now_s = 0.0
        self.ends_s: dict[str, float] = {}
        self.noticed_s: dict[str, float] = {}
        self.listed = {f"job-{number}" for number in listed}
        self.jobs_per_page = jobs_per_page
        self.requests = self.sweeps = self.looks = 0

    def add(self, number: int, duration_s: float) -> None:
        self.ends_s[f"job-{number}"] = self.now_s + duration_s
        self.watch.add(job(number), self.now_s)

    def step(self) -> None:
        match self.watch.next(self.now_s):
            case Sweep(pages_max):
                self._sweep(pages_max)
            case Look(job_ids):
                self.looks += len(job_ids)
                self._spend(len(job_ids))
                for job_id in job_ids:
                    self._see(job_id)
            case Wait(until_s):
                assert until_s > self.now_s
                self.now_s = until_s

    def _sweep(self, pages_max: int) -> None:
        self.sweeps += 1
        expected = set(self.watch.jobs)
        in_list = sorted(expected & self.listed)
        pages = max(1, min(pages_max, -(-len(in_list) // self.jobs_per_page)))
        shown = set(in_list[: pages * self.jobs_per_page])
        self._spend(pages)
        for job_id in shown:
            self._see(job_id)
        self.watch.swept(shown, expected, pages, self.now_s)

    def _spend(self, requests: int) -> None:
        self.requests += requests
        self.now_s += 0.01 * requests

    def _see(self, job_id: str) -> None:
        if self.ends_s[job_id] <= self.now_s:
            self.watch.finish(job_id, self.now_s)
            self.noticed_s[job_id] = self.now_s
        else:
            self.watch.looked(job_id, self.now_s)

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
    world = World(Watch(requests_per_s=20.0), listed=listed, jobs_per_page=jobs_per_page)
    for number, duration_s in enumerate(durations):
        world.add(number, duration_s)
        world.step()
    world.run()
    assert world.noticed_s.keys() == world.ends_s.keys()


@patient
@given(DURATIONS, st.sets(st.integers(0, 24)), st.integers(1, 10))
def test_an_end_is_noticed_in_time(durations: list[float], listed: set[int], jobs_per_page: int) -> None:
    """No end goes unnoticed for longer than the longest gap, and the share of the rate that all looks take together."""
    world = World(Watch(requests_per_s=20.0), listed=listed, jobs_per_page=jobs_per_page)
    for number, duration_s in enumerate(durations):
        world.add(number, duration_s)
    world.run()
    slack_s = GAP_S_MAX + len(durations) * (1 / 10 + 0.02) + 1
    assert max(world.noticed_s[name] - world.ends_s[name] for name in world.ends_s) <= slack_s


def steady(watch: Watch, *, jobs: int, in_flight: int, listed: bool, jobs_per_page: int = 20) -> World:
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
    """With twenty jobs in flight a sweep tells of all: fewer than four requests a job, hardly any of them single."""
    world = steady(Watch(requests_per_s=20.0), jobs=400, in_flight=20, listed=True)
    assert world.requests / 400 < 4
    assert world.looks < 0.1 * world.requests
    waits_s = [world.noticed_s[name] - world.ends_s[name] for name in world.ends_s]
    assert sum(waits_s) / len(waits_s) < 0.15 * 2.4


def test_a_useless_list_is_left_alone() -> None:
    """A list that shows none of our jobs is asked seldom, and each job by its id; hardly dearer than it must be."""
    world = steady(Watch(requests_per_s=1000.0), jobs=400, in_flight=20, listed=False)
    assert world.sweeps < 0.05 * world.requests
    assert world.requests / 400 < 9


def test_a_list_that_gets_useful_again_is_used_again() -> None:
    """A rest is no farewell: after it, the list is tried, and what it is worth is learned anew."""
    watch = Watch(requests_per_s=1000.0)
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


def test_looking_leaves_room_for_the_rest() -> None:
    """Of a slow rate, looking takes its share and no more."""
    watch = Watch(requests_per_s=2.0)
    world = World(watch, listed=(), jobs_per_page=1)
    for number in range(50):
        world.add(number, 1e9)
    while world.now_s < 2000:
        world.step()
    assert world.requests / world.now_s <= 2.0 * 0.5 * 1.3


@patient
@given(st.lists(st.floats(0.1, 100.0), min_size=1, max_size=50))
def test_durations_are_learned_from_jobs_that_were_seen_from_their_beginning(durations: list[float]) -> None:
    """A job that was taken up or adopted teaches nothing; of the others the mean is learned, and follows a drift."""
    watch = Watch(requests_per_s=20.0)
    for number, duration_s in enumerate(durations):
        watch.add(job(number), 1000.0)
        watch.add(job(-number - 1, timed=False), 1000.0)
        assert watch.finish(f"job-{-number - 1}", 5000.0)[1] is None
        assert watch.finish(f"job-{number}", 1000.0 + duration_s)[1] == pytest.approx(duration_s)
    assert not watch.jobs


def test_a_known_mean_decides_when_to_look_first() -> None:
    """A run that goes on knows how long jobs take, and doesn't look at a new one before a good part of that is over."""
    watch = Watch(requests_per_s=20.0, mean_duration_s=1000.0)
    watch.add(job(1), 0.0)
    assert watch.next(0.0) == Wait(300.0)


def test_a_job_that_was_taken_up_is_looked_at_at_once() -> None:
    """It may have ended long ago."""
    watch = Watch(requests_per_s=20.0, mean_duration_s=1000.0)
    watch.add(job(1, timed=False), 5.0)
    assert watch.next(5.0) == Look(("job-1",))
    watch.add(job(2, timed=False), 5.0)
    assert watch.next(5.0) == Sweep(1)


def test_nothing_out_is_nothing_to_do() -> None:
    """Then only news can wake the poller."""
    assert Watch(requests_per_s=20.0).next(5.0) == Wait(float("inf"))
