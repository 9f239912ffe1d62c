"""Which job to look at next: pure, no clock and no I/O.

A sweep of the job list tells the states of a page of jobs with one request, so it is the first choice while more than a
few jobs are out. Its gap is such that about one job ends in it for each page that it reads: then a look costs about one
request a job, however many jobs are out. A further page is read only while it shows several watched jobs; those that
the pages don't show are asked for by their id, and so are all where the list is of no use.

Looking leaves room for the rest: it may use half of the request rate. While other requests wait for theirs it lets them
go first, because then a slot that is found free sooner has to wait, too; but a part of the rate is always its own.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice

from classify_batch.engine.poller.durations import UNKNOWN_S, Age, Durations
from classify_batch.limits import Headroom
from classify_batch.limits.retry import Backoff
from classify_batch.model import Job

LIST_PAGES_PER_JOB = 0.87
"""What sweeps may cost, in pages a job, where a job has many files."""

LIST_POLL_SHARE_MIN = 0.02
LIST_POLL_SHARE_MAX = 0.075
"""The gap between sweeps as a share of the mean duration: an end is found after half of that, in the mean."""

LIST_POLL_REST = 1.0
"""After a sweep, that many times as long as it took belong to others."""

PAGE_WORTH = 0.1
"""A page that is expected to show fewer ends than this costs more than asking for its jobs by their ids."""

GAP_S_MIN = 0.005
GAP_S_MAX = 30.0
RATE_SHARE = 0.5
RATE_SHARE_PRESSED = 0.09

AGES_MAX = 1000
"""The youngest jobs decide when all of them have ended: beside these only the oldest one is asked for its age."""

LIST_REST_S_MIN = 5.0
LIST_REST_S_MAX = 300.0


@dataclass(frozen=True, slots=True)
class PollList:
    """Read the list, at most `pages_max` pages of it."""

    pages_max: int


@dataclass(frozen=True, slots=True)
class PollJobs:
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
        out_s: when it was last known to be out.
        next_look_s: when to ask for it by its id; infinite while the list tells.
        listed: whether sweeps tell of it, as far as is known.
        missing_since_s: since when the API says 404 to it.
        earlier_s: for how many seconds it was in flight before it was watched.
    """

    job: Job
    since_s: float
    out_s: float
    next_poll_s: float = math.inf
    listed: bool = True
    missing_since_s: float | None = None
    earlier_s: float = 0.0

    def age(self, now_s: float) -> Age:
        seen = self.out_s > self.since_s
        return Age(self.out_s - self.since_s + self.earlier_s if seen else 0.0, now_s - self.since_s + self.earlier_s)


class PollSchedule:
    """The jobs that are out, and what was learned from those that are not any more."""

    def __init__(self, durations: Durations | None = None) -> None:
        self._durations = Durations() if durations is None else durations
        self.jobs: dict[str, Watched] = {}
        self._polls: list[tuple[float, str]] = []
        self._unlisted = 0
        self._polling_list = False
        self._pages = 1
        self._list_polled_s = -math.inf
        self._list_poll_took_s = 0.0
        self._no_list_poll_before_s = 0.0
        self._list_rests = 0
        self._list_rest = Backoff(LIST_REST_S_MIN, LIST_REST_S_MAX, jitter=0.0)
        self._room = Headroom(0.0, 0.0)

    def add(self, job: Job, now_s: float, earlier_s: float = 0.0) -> None:
        watched = Watched(job, now_s, now_s, earlier_s=earlier_s)
        first_s = now_s + (self._durations.poll_gap_s(0.0) if job.timed else 0.0)
        if not self.jobs:
            self._no_list_poll_before_s = max(self._no_list_poll_before_s, first_s)
        self.jobs[job.job_id] = watched
        if not self._polling_list:
            self._schedule_poll(watched, first_s)

    def finish(self, job_id: str, now_s: float) -> tuple[Job, float | None]:
        """Takes a finished job out; returns it with its duration in seconds, where that teaches anything: it ended
        somewhere between the last two looks."""
        watched = self.jobs.pop(job_id)
        if not watched.job.timed:
            return watched.job, None
        duration_s = (watched.out_s + now_s) / 2 - watched.since_s
        self._durations.learn(duration_s)
        return watched.job, duration_s

    def jobs_left_s(self, now_s: float, to_be_made: int, *, none_follow: bool) -> float | None:
        """How long the watched jobs, and so many new ones, will still take; None where nobody knows.

        `none_follow`: no other jobs will come. Before that a job that takes longer than all that are known is no reason
        to say nothing: in a long run there always is one, and the rest of the run takes longer.
        """
        asked = [*islice(reversed(self.jobs.values()), AGES_MAX)]
        asked += islice(self.jobs.values(), min(1, len(self.jobs) - len(asked)))
        ages = [watched.age(now_s) for watched in asked]
        if not none_follow:
            ages = [age for age in ages if not self._durations.is_longer(age)]
        return self._durations.all_end_in_s(ages, to_be_made)

    def next(self, now_s: float, room: Headroom) -> PollList | PollJobs | Wait:
        """What to do now. `room`: what the request rate leaves."""
        self._room = room
        self._choose_list_or_jobs(now_s)
        sweep_s = self._next_list_poll_s() if self._polling_list else math.inf
        if sweep_s <= now_s and room.backlog_s > room.interval_s:
            most_s = self._list_polled_s + self._pages * room.interval_s / RATE_SHARE_PRESSED
            sweep_s = max(sweep_s, min(most_s, now_s + room.backlog_s))
        if sweep_s <= now_s:
            return PollList(self._pages if not self._list_rests else max(1, len(self.jobs) // 4))
        look_s = self._polls[0][0] if self._polls else math.inf
        if look_s <= now_s and room.backlog_s > room.interval_s:
            look_s = min(look_s + room.interval_s / RATE_SHARE_PRESSED, now_s + room.backlog_s)
        if look_s <= now_s and (due := self._due_job_ids(now_s)):
            return PollJobs(due)
        if look_s <= now_s:
            look_s = self._polls[0][0] if self._polls else math.inf
        return Wait(min(sweep_s, look_s))

    def record_list_poll(
        self, shown: Sequence[Collection[str]], expected: Collection[str], now_s: float, took_s: float
    ) -> None:
        """Learns from a sweep: the watched jobs that each page showed, and those that were expected."""
        listed = {job_id for page in shown for job_id in page}
        self._list_polled_s, self._list_poll_took_s = now_s, took_s
        jobs_worth = PAGE_WORTH / self._list_poll_share()
        worth = [len(page) >= jobs_worth for page in shown]
        useful = worth.index(False) if False in worth else len(worth)
        more = useful == len(shown) == self._pages and len(listed) + jobs_worth <= len(expected)
        self._pages = max(1, useful + more)
        self._unlisted = 0
        for job_id in expected:
            if (watched := self.jobs.get(job_id)) is None:
                continue
            watched.listed = job_id in listed
            if watched.listed:
                watched.out_s, watched.next_poll_s, watched.missing_since_s = now_s, math.inf, None
            else:
                self._unlisted += 1
                if watched.next_poll_s == math.inf:
                    self._schedule_poll(watched, self._seconds_unseen(watched, now_s))
        if expected and len(listed) < len(shown):
            self.rest_from_list(now_s)
        else:
            self._list_rests = 0

    def record_job_poll(self, job_id: str, now_s: float) -> None:
        """A job was asked for by its id and is still out."""
        if (watched := self.jobs.get(job_id)) is not None:
            watched.out_s, watched.missing_since_s = now_s, None
            self._schedule_poll(watched, now_s + self._poll_gap_s(watched, now_s))

    def record_list_failure(self, now_s: float) -> None:
        """The list couldn't be read this time."""
        self._list_polled_s = now_s

    def rest_from_list(self, now_s: float) -> None:
        """The list can't be read, or isn't worth its pages: asked again after a rest that grows."""
        self._list_rests += 1
        self._no_list_poll_before_s = now_s + self._list_rest.wait_s(self._list_rests)
        self._pages = 1

    def rates_changed(self, now_s: float, room: Headroom) -> None:
        """Other rates are told: a look that was put off for the old ones isn't put off any more. One that comes too
        early now waits for its turn like every request."""
        self._room = room
        for watched in self.jobs.values():
            if watched.next_poll_s != math.inf:
                at_s = watched.out_s + self._poll_gap_s(watched, watched.out_s)
                watched.next_poll_s = min(watched.next_poll_s, max(now_s, at_s))
        self._polls = [
            (watched.next_poll_s, job_id) for job_id, watched in self.jobs.items() if watched.next_poll_s != math.inf
        ]
        heapq.heapify(self._polls)

    # --- When ---------------------------------------------------------------------------------------------------------

    def _choose_list_or_jobs(self, now_s: float) -> None:
        """Sweeps, or single looks at all? A job that no sweep will tell of any more is looked at by its own time."""
        rests = self._no_list_poll_before_s > now_s and self._list_rests > 0
        sweeping = len(self.jobs) > 2 * self._pages and not rests
        if self._polling_list and not sweeping:
            for watched in self.jobs.values():
                if watched.next_poll_s == math.inf:
                    self._schedule_poll(watched, max(now_s, watched.since_s + self._durations.poll_gap_s(0.0)))
        self._polling_list = sweeping

    def _seconds_unseen(self, watched: Watched, now_s: float) -> float:
        """When to look at a job that a sweep didn't show: its gap began when it was last seen, not now."""
        gap_s = self._poll_gap_s(watched, now_s)
        if watched.out_s == watched.since_s or gap_s > GAP_S_MAX:
            return now_s + gap_s
        return min(now_s + gap_s, max(now_s, watched.out_s + GAP_S_MAX))

    def _next_list_poll_s(self) -> float:
        mean_s = self._durations.mean_s
        gap_s = self._durations.poll_gap_s(self._oldest_job_s()) if mean_s is None else mean_s * self._list_poll_share()
        gap_s = max(gap_s, LIST_POLL_REST * self._list_poll_took_s)
        return max(
            self._no_list_poll_before_s, self._list_polled_s + self._within_rate_share_s(gap_s, self._pages, RATE_SHARE)
        )

    def _list_poll_share(self) -> float:
        """The gap between two sweeps as a share of the mean duration."""
        share = self._pages / (LIST_PAGES_PER_JOB * max(1, len(self.jobs)))
        return min(LIST_POLL_SHARE_MAX, max(LIST_POLL_SHARE_MIN, share))

    def _oldest_job_s(self) -> float:
        """How old the oldest job was at the last sweep; jobs are kept in the order in which they came."""
        first = next(iter(self.jobs.values()))
        return max(UNKNOWN_S, self._list_polled_s - first.since_s)

    def _poll_gap_s(self, watched: Watched, now_s: float) -> float:
        gap_s = self._durations.poll_gap_s(now_s - watched.since_s)
        share = RATE_SHARE_PRESSED if self._room.backlog_s > gap_s else RATE_SHARE
        return self._within_rate_share_s(gap_s, self._unlisted if self._polling_list else len(self.jobs), share)

    def _within_rate_share_s(self, gap_s: float, requests: int, share: float) -> float:
        """A gap in which so many requests are made, within a share of the rate."""
        return max(min(GAP_S_MAX, max(GAP_S_MIN, gap_s)), requests * self._room.interval_s / share)

    # --- Single looks -------------------------------------------------------------------------------------------------

    def _schedule_poll(self, watched: Watched, at_s: float) -> None:
        watched.next_poll_s = at_s
        heapq.heappush(self._polls, (at_s, watched.job.job_id))

    def _due_job_ids(self, now_s: float) -> tuple[str, ...]:
        """The jobs whose time has come. What else lies before the next one is forgotten: it was looked at since."""
        due: list[str] = []
        while self._polls:
            at_s, job_id = self._polls[0]
            watched = self.jobs.get(job_id)
            if watched is not None and watched.next_poll_s == at_s:
                if at_s > now_s:
                    break
                watched.next_poll_s = math.inf
                due.append(job_id)
            heapq.heappop(self._polls)
        return tuple(due)
