"""Simulates the workers of one key, which share its rate and its job list, in virtual time.

Each worker polls by the product's own `PollSchedule`. The server is a list of all jobs, newest first, and the time at
which each ends. A worker has an equal share of the rate, and sends one request after the other.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import cast

from classify_batch.engine.poller.stage import PAGE_JOBS, PAGE_SIZE_MIN, token_to_begin_with
from classify_batch.engine.poller.watch import PollJobs, PollList, PollSchedule
from classify_batch.limits import Headroom
from classify_batch.model import Attempt, Job

PAGE_SIZE_MAX = 100
CREATES_WAITING_MAX = 16
"""As many as `limits.requests_in_flight`."""

SIGMA = 0.5
"""Of the lognormal durations: one job in fifty takes three times as long as the median."""


@dataclass(frozen=True, slots=True)
class OneKey:
    """What is simulated.

    Attributes:
        workers: that share the key.
        requests_per_s: that the key is allowed.
        slots: jobs that each worker may have in flight.
        mean_s: how long a job takes.
        fetches_results: whether an ended job costs one more request, as on v1.
    """

    workers: int
    requests_per_s: float
    slots: int
    mean_s: float
    fetches_results: bool


@dataclass(frozen=True, slots=True)
class Reached:
    """What all workers of the key reached together, once each had found its pace.

    Attributes:
        requests_by_call: requests a job, by call.
        in_flight: jobs, on average.
    """

    jobs_per_s: float
    requests_by_call: dict[str, float]
    in_flight: float


@dataclass(slots=True)
class _Server:
    """All jobs that were ever made, and when each ends."""

    ends_s: list[float] = field(default_factory=list)

    def create(self, ends_s: float) -> int:
        self.ends_s.append(ends_s)
        return len(self.ends_s) - 1


@dataclass(slots=True)
class _Worker:
    free: int
    schedule: PollSchedule = field(default_factory=PollSchedule)
    numbers: dict[str, int] = field(default_factory=dict)  # of its jobs in flight, by ID: as the server numbers them
    ended: int = 0  # jobs whose results wait to be fetched
    first_token: str | None = None


class Simulation:
    """Runs until so many jobs were collected; what happens before `warm` of them doesn't count."""

    def __init__(self, key: OneKey, seed: int = 1) -> None:
        self._key = key
        self._interval_s = key.workers / key.requests_per_s
        self._random = random.Random(seed)
        self._server = _Server()
        self._requests: Counter[str] = Counter()
        self._collected = 0
        self._in_flight = 0

    def run(self, jobs: int, warm: int) -> Reached:
        """Simulates until `jobs` were collected after the first `warm`."""
        workers = [_Worker(self._key.slots) for _ in range(self._key.workers)]
        order = count()
        turns = [(self._random.uniform(0, self._interval_s), next(order), worker) for worker in workers]
        heapq.heapify(turns)
        began_s, busy_s, last_s = math.inf, 0.0, 0.0
        while self._collected < warm + jobs:
            now_s, _, worker = heapq.heappop(turns)
            if began_s == math.inf and self._collected >= warm:
                began_s = last_s = now_s
                self._requests.clear()
            if began_s < math.inf:
                busy_s += self._in_flight * (now_s - last_s)
                last_s = now_s
            heapq.heappush(turns, (self._take_turn(worker, now_s), next(order), worker))
        took_s = last_s - began_s
        by_call = {call: requests / jobs for call, requests in sorted(self._requests.items())}
        return Reached(jobs / took_s, by_call, busy_s / took_s)

    def _take_turn(self, worker: _Worker, now_s: float) -> float:
        """Sends what is next; returns when the worker may send again, or has something to do."""
        if worker.ended:
            worker.ended -= 1
            self._collect(worker)
            return self._after(now_s, "results")
        backlog_s = min(worker.free, CREATES_WAITING_MAX) * self._interval_s
        match worker.schedule.choose_action(now_s, Headroom(self._interval_s, backlog_s)):
            case PollList(pages_max):
                return self._poll_list(worker, now_s, pages_max)
            case PollJobs(job_ids):
                for job_id in job_ids:
                    self._look_at(worker, job_id, now_s)
                    worker.schedule.record_job_poll(job_id, now_s)
                return self._after(now_s, "poll", len(job_ids))
            case wait:
                if not worker.free:
                    return max(wait.until_s, now_s + 1e-3)
                self._create(worker, now_s)
                return self._after(now_s, "create")

    def _after(self, now_s: float, call: str, requests: int = 1) -> float:
        self._requests[call] += requests
        return now_s + requests * self._interval_s

    def _create(self, worker: _Worker, now_s: float) -> None:
        median_s = self._key.mean_s / math.exp(SIGMA**2 / 2)
        number = self._server.create(now_s + self._random.lognormvariate(math.log(median_s), SIGMA))
        job_id = str(number)
        worker.free -= 1
        self._in_flight += 1
        worker.numbers[job_id] = number
        worker.schedule.add_job(Job(cast(Attempt, None), job_id, now_s), now_s)

    def _poll_list(self, worker: _Worker, now_s: float, pages_max: int) -> float:
        """Reads pages as `Poller` does: from the page on that showed a job of ours last time."""
        expected = list(worker.schedule.jobs)  # no set: its order changes from process to process
        unseen, shown = set(expected), list[set[str]]()
        tokens = [worker.first_token]
        size = min(PAGE_SIZE_MAX, max(PAGE_SIZE_MIN, PAGE_JOBS * len(expected)))
        while len(shown) < pages_max and unseen and (not shown or tokens[-1] is not None):
            newest = len(self._server.ends_s) - 1 if tokens[-1] is None else int(tokens[-1])
            page = {job_id for job_id, number in worker.numbers.items() if newest - size < number <= newest} & unseen
            tokens.append(str(newest - size) if newest >= size else None)
            shown.append(page)
            unseen -= page
            for job_id in sorted(page):
                self._look_at(worker, job_id, now_s)
        worker.first_token = token_to_begin_with(tokens, shown, len(expected))
        took_s = len(shown) * self._interval_s
        worker.schedule.record_list_poll(shown, expected, now_s + took_s, took_s)
        return self._after(now_s, "list", len(shown))

    def _look_at(self, worker: _Worker, job_id: str, now_s: float) -> None:
        if self._server.ends_s[worker.numbers[job_id]] > now_s:
            return
        worker.schedule.remove_finished(job_id, now_s)
        del worker.numbers[job_id]
        if self._key.fetches_results:
            worker.ended += 1
        else:
            self._collect(worker)

    def _collect(self, worker: _Worker) -> None:
        worker.free += 1
        self._in_flight -= 1
        self._collected += 1
