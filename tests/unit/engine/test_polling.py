"""The watch in a simulation: thousands of jobs in virtual time, many kinds of durations, held against the ideal.

The simulation is sequential as the poller is: it does what the watch decides, and each request takes its time. Creates
and results are other people's work: they use the rate, and a slot is filled again a request after it was found free.
The figures asserted here are what the README promises, with a little air.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from random import Random

import pytest

from classify_batch.engine.poller.watch import PollJobs, PollList, PollSchedule, Wait
from classify_batch.limits import Headroom
from classify_batch.model import Attempt, AttemptKey, Job, Part

LATENCY_S = 0.004
MEAN_S = 2.4


def lognormal(random: Random) -> Iterator[float]:
    while True:
        yield random.lognormvariate(0.0, 0.6)


def bimodal(random: Random) -> Iterator[float]:
    while True:
        yield random.gauss(1, 0.1) if random.random() < 0.7 else random.gauss(4, 0.3)


def heavy_tail(random: Random) -> Iterator[float]:
    while True:
        yield 0.5 * random.paretovariate(1.8)


def all_at_once(_random: Random) -> Iterator[float]:
    while True:
        yield 1.0


def exponential(random: Random) -> Iterator[float]:
    while True:
        yield random.expovariate(1)


def drifting(random: Random) -> Iterator[float]:
    """Three times as long at the end as at the beginning."""
    for number in range(1_000_000):
        yield (1 + number / 1000) * random.lognormvariate(0.0, 0.4)


KINDS = [lognormal, bimodal, heavy_tail, all_at_once, exponential, drifting]


@dataclass
class Figures:
    ratio: float
    requests: float
    delay: float
    delay_p95: float


@dataclass
class Simulation:
    """Args:
    page_size: jobs on a page of the list, newest first; 0: there is no list.
    interval_s: between two requests, by the rate.
    """

    durations_s: list[float]
    slots: int
    page_size: int = 100
    interval_s: float = 0.0005
    watch: PollSchedule = field(default_factory=PollSchedule)
    now_s: float = 0.0
    requests: int = 0
    created: list[str] = field(default_factory=list)
    ends_s: dict[str, float] = field(default_factory=dict)
    noticed_s: dict[str, float] = field(default_factory=dict)
    free_at_s: list[float] = field(default_factory=list)
    paced_s: float = 0.0

    def run(self) -> Figures:
        self.free_at_s = [0.0] * self.slots
        while len(self.noticed_s) < len(self.durations_s):
            self._create()
            self._step()
        mean_s = sum(self.durations_s) / len(self.durations_s)
        delays = sorted(self.noticed_s[job] - self.ends_s[job] for job in self.ends_s)
        return Figures(
            (self.now_s + LATENCY_S) / self._ideal_s(),
            self.requests / len(self.durations_s),
            sum(delays) / len(delays) / mean_s,
            delays[int(0.95 * len(delays))] / mean_s,
        )

    def _ideal_s(self) -> float:
        free_at_s = [0.0] * self.slots
        for duration_s in self.durations_s:
            heapq.heapreplace(free_at_s, free_at_s[0] + duration_s)
        return max(free_at_s)

    def _create(self) -> None:
        """Fills the slots that are free by now: the job begins when its request arrives, by the rate."""
        while self.free_at_s and self.free_at_s[0] <= self.now_s and len(self.created) < len(self.durations_s):
            begin_s = self._send(heapq.heappop(self.free_at_s))
            job_id = f"job-{len(self.created)}"
            self.ends_s[job_id] = begin_s + self.durations_s[len(self.created)]
            self.created.append(job_id)
            number = len(self.created)
            attempt = Attempt(AttemptKey(number, 1), Part(number), ("f",), (0,))
            self.watch.add_job(Job(attempt, job_id, 0.0), self.now_s)

    def _send(self, at_s: float) -> float:
        self.requests += 1
        self.paced_s = max(self.paced_s, at_s) + self.interval_s
        return self.paced_s + LATENCY_S

    def _step(self) -> None:
        backlog_s = max(0.0, self.paced_s - self.now_s)
        match self.watch.choose_action(self.now_s, Headroom(self.interval_s, backlog_s)):
            case PollList(pages_max):
                self._sweep(pages_max)
            case PollJobs(job_ids):
                for job_id in job_ids:
                    self.now_s = max(self.now_s, self._send(self.now_s) - LATENCY_S)
                    self._see(job_id)
                self.now_s += LATENCY_S
            case Wait(until_s):
                to_fill = len(self.created) < len(self.durations_s) and bool(self.free_at_s)
                self.now_s = min(until_s, self.free_at_s[0]) if to_fill else until_s

    def _sweep(self, pages_max: int) -> None:
        began_s, expected, shown = self.now_s, set(self.watch.jobs), list[set[str]]()
        if not self.page_size:
            self.now_s = self._send(self.now_s)
            self.watch.rest_from_list(self.now_s)
            return
        for number in range(pages_max):
            self.now_s = self._send(self.now_s)
            end = len(self.created) - number * self.page_size
            page = self.created[max(0, end - self.page_size) : max(0, end)]
            shown.append(expected.intersection(page))
            for job_id in filter(shown[-1].__contains__, reversed(page)):
                self._see(job_id)
            if not expected.difference(*shown) or end <= self.page_size:
                break
        self.watch.record_list_poll(shown, expected, self.now_s, self.now_s - began_s)

    def _see(self, job_id: str) -> None:
        if self.ends_s[job_id] > self.now_s:
            self.watch.record_job_poll(job_id, self.now_s)
            return
        self.watch.remove_finished(job_id, self.now_s)
        self.noticed_s[job_id] = self.now_s
        heapq.heappush(self.free_at_s, self.now_s)
        self._send(self.now_s)  # its results


def simulate(kind: Callable[[Random], Iterator[float]], jobs: int, slots: int, **more: float) -> Figures:
    drawn = [max(0.01, each) for each in islice(kind(Random(1)), jobs)]
    scale = MEAN_S * jobs / sum(drawn)
    return Simulation([scale * each for each in drawn], slots, **more).run()  # type: ignore[arg-type]


def described(figures: Figures) -> str:
    return (
        f"÷ ideal {figures.ratio:.3f}, requests a job {figures.requests:.2f}, "
        f"delay {100 * figures.delay:.1f} %, p95 {100 * figures.delay_p95:.1f} % of the mean duration"
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("slots", "jobs"), [(20, 2000), pytest.param(100, 4000, marks=pytest.mark.slow)])
def test_sweeps_are_close_to_the_ideal(kind: Callable[[Random], Iterator[float]], slots: int, jobs: int) -> None:
    """A list of pages of 100: about three requests a job, of which two are the floor."""
    figures = simulate(kind, jobs, slots)
    assert figures.ratio <= 1.08, described(figures)
    assert figures.requests <= 3.05, described(figures)
    assert figures.delay <= 0.05, described(figures)
    if kind is lognormal:
        assert figures.ratio <= 1.045, described(figures)
        assert figures.delay <= 0.032, described(figures)
        assert figures.delay_p95 <= 0.065, described(figures)


def test_fifty_in_flight_cost_less_than_a_poll_a_job() -> None:
    """At most 2.9 requests a job, of which two are the floor, and 1.03 times the ideal makespan."""
    figures = simulate(lognormal, 2000, 50)
    assert figures.requests <= 2.9, described(figures)
    assert figures.ratio <= 1.03, described(figures)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slots", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_without_a_list_jobs_are_asked_for_when_they_may_end(
    kind: Callable[[Random], Iterator[float]], slots: int
) -> None:
    """Jobs are asked for one by one: what the distribution of durations says is used."""
    figures = simulate(kind, 3000, slots, page_size=0)
    assert figures.ratio <= 1.18, described(figures)
    assert figures.requests <= 8.2, described(figures)
    if kind in (bimodal, all_at_once):
        assert figures.ratio <= 1.08, described(figures)
        assert figures.requests <= 6.8, described(figures)


def test_small_pages_cost_few_requests_more() -> None:
    """Pages of 20 and a hundred jobs in flight: few more requests a job, and still near the ideal."""
    small = simulate(lognormal, 2000, 100, page_size=20)
    assert small.requests <= 3.6, described(small)
    assert small.ratio <= 1.12, described(small)


@pytest.mark.slow
def test_a_thousand_jobs_in_flight_cost_no_more_requests() -> None:
    """A thousand jobs in flight: no more requests a job, and still near the ideal."""
    many = simulate(lognormal, 10_000, 1000, interval_s=0.0001)
    assert many.requests <= 3.0, described(many)
    assert many.ratio <= 1.15, described(many)


def test_a_scarce_rate_is_not_spent_on_polling() -> None:
    """Twenty requests a minute, five jobs in flight: they are done before anybody can poll, and one poll shows all."""
    figures = simulate(lognormal, 20, 5, interval_s=3.0)
    assert figures.requests <= 2.6, described(figures)


def test_polls_take_what_creates_and_results_leave_of_the_rate() -> None:
    """Where creates and results need most of the rate, sweeps take what they leave: nothing is late for want of it."""
    durations = list(islice(lognormal(Random(1)), 2000))
    needs_per_s = 2 * 20 / (sum(durations) / len(durations))
    figures = Simulation(durations, 20, interval_s=1 / (1.15 * needs_per_s)).run()
    assert figures.requests <= 2.5, described(figures)
    assert figures.ratio <= 1.2, described(figures)
