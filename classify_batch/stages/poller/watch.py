"""Which job to look at next: pure, no clock and no I/O.

A sweep of the job list tells the states of a page of jobs with one request, so it is the first choice. It is worth its
pages while it shows at least one watched job a page; a list that is long, oldest first or full of other people's jobs
is left alone for a while, and each job is asked for by its id instead.

Timing is learned from this run's durations. A gap of a fixed share (0.05) of the mean duration between sweeps finds a
finished job after 2.5 % of the mean; a single look every 0.15 of the mean costs about as much as it is worth.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from classify_batch.records import Job

SWEEP_GAP_SHARE = 0.05
LOOK_GAP_SHARE = 0.15
FIRST_LOOK_SHARE = 0.3
"""Hardly any job is finished before this share of the mean duration."""

GAP_S_MIN = 0.02
GAP_S_MAX = 30.0
RATE_SHARE = 0.5
"""The most of the request rate that looking may use; the rest belongs to creates and results."""

UNKNOWN_S = 1.0
"""What a job is taken to last until one has finished."""

LIST_REST_S_MIN = 5.0
LIST_REST_S_MAX = 300.0

LEARN_SHARE_MIN = 0.05
"""What the newest duration counts for once twenty have been seen: the mean follows a drift."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Read the list, at most `pages_max` pages of it."""

    pages_max: int


@dataclass(frozen=True, slots=True)
class Look:
    """Ask for these jobs by id."""

    job_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before `until_s`; never, where it is infinite."""

    until_s: float


@dataclass(slots=True)
class Watched:
    """A job that is out. All times are the event loop's.

    Attributes:
        next_look_s: when to ask for it by its id, if the list doesn't tell.
        listed: whether sweeps tell of it, as far as is known.
        missing_since_s: since when the API says 404 to it.
    """

    job: Job
    since_s: float
    next_look_s: float
    listed: bool = True
    missing_since_s: float | None = None


class Watch:
    """The jobs that are out, and what was learned from those that are not any more."""

    def __init__(self, *, requests_per_s: float, mean_duration_s: float | None = None) -> None:
        self._request_s = 1 / (requests_per_s * RATE_SHARE)
        self._mean_s = mean_duration_s
        self._learned = 0 if mean_duration_s is None else 1
        self.jobs: dict[str, Watched] = {}
        self._next_sweep_s = 0.0
        self._list_rests_until_s = 0.0
        self._list_rest_s = LIST_REST_S_MIN
        self._pages = 1

    def add(self, job: Job, now_s: float) -> None:
        first_s = now_s + (FIRST_LOOK_SHARE * self._expected_s(now_s) if job.timed else 0.0)
        if not self.jobs:
            self._next_sweep_s = max(self._next_sweep_s, first_s)
        self.jobs[job.job_id] = Watched(job, now_s, first_s)

    def finish(self, job_id: str, now_s: float) -> tuple[Job, float | None]:
        """Takes a finished job out; returns it with its duration in seconds, where that teaches anything."""
        watched = self.jobs.pop(job_id)
        if not watched.job.timed:
            return watched.job, None
        duration_s = now_s - watched.since_s
        self._learned += 1
        weight = max(LEARN_SHARE_MIN, 1 / self._learned)
        self._mean_s = duration_s if self._mean_s is None else self._mean_s + weight * (duration_s - self._mean_s)
        return watched.job, duration_s

    def next(self, now_s: float) -> Sweep | Look | Wait:
        """What to do now."""
        sweeping = len(self.jobs) > self._pages and now_s >= self._list_rests_until_s
        if sweeping and self._next_sweep_s <= now_s:
            return Sweep(max(1, len(self.jobs) // 2))
        looks = {job_id: w.next_look_s for job_id, w in self.jobs.items() if not (sweeping and w.listed)}
        due = tuple(job_id for job_id, look_s in looks.items() if look_s <= now_s)
        if due:
            return Look(due)
        return Wait(min([*looks.values(), self._next_sweep_s if sweeping else math.inf]))

    def swept(self, shown: Collection[str], expected: Collection[str], pages: int, now_s: float) -> None:
        """Learns from a sweep of so many pages: the watched jobs it showed, and those it should have shown."""
        self._pages = max(1, pages)
        self._next_sweep_s = now_s + max(self._gap_s(SWEEP_GAP_SHARE, now_s), pages * self._request_s)
        for job_id in expected:
            if job_id in self.jobs:
                self.jobs[job_id].listed = job_id in shown
        for job_id in shown:
            self._told(job_id, now_s)
        if expected and len(shown) < pages:
            self.leave_list_alone(now_s)
        else:
            self._list_rest_s = LIST_REST_S_MIN

    def looked(self, job_id: str, now_s: float) -> None:
        """A job was asked for by its id and is still out."""
        self._told(job_id, now_s)

    def leave_list_alone(self, now_s: float) -> None:
        """The list can't be read, or isn't worth its pages: asked again after a rest that grows."""
        self._list_rests_until_s = now_s + self._list_rest_s
        self._list_rest_s = min(LIST_REST_S_MAX, 2 * self._list_rest_s)

    def _told(self, job_id: str, now_s: float) -> None:
        if (watched := self.jobs.get(job_id)) is not None:
            watched.missing_since_s = None
            gap_s = max(self._gap_s(LOOK_GAP_SHARE, now_s), len(self.jobs) * self._request_s)
            watched.next_look_s = now_s + gap_s

    def _expected_s(self, now_s: float) -> float:
        if self._mean_s is not None:
            return self._mean_s
        oldest_s = min((watched.since_s for watched in self.jobs.values()), default=now_s)
        return max(UNKNOWN_S, now_s - oldest_s)

    def _gap_s(self, share: float, now_s: float) -> float:
        return min(GAP_S_MAX, max(GAP_S_MIN, share * self._expected_s(now_s)))
