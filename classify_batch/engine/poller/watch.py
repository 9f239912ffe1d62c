"""Decides when to poll what: the job list, or single jobs. Pure: no clock and no I/O.

One request for a page of the job list gives the states of many jobs, so the list is polled while more than a few jobs
are in flight. The gap between two polls of the list is such that about one job ends in it for each page that is read:
then polling costs about one request a job, however many jobs are in flight. A further page is read only while it shows
several watched jobs. Jobs that the pages don't show are polled by their IDs, and so are all jobs where the list is of
no use.

Polling may use half of the request rate. While other requests wait for their turn it lets them go first, because a slot
that is found free sooner would have to wait as well; but a part of the rate is always left to it.
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
LIST_PAGES_PER_JOB_OF_MANY = 0.78
"""What polling the list may cost, in pages a job; the lower one where so many jobs are in flight (`MANY_JOBS`) that an
end is seen soon all the same. With the create, the results call and the polls of single jobs, a simulation of 50 in
flight has 2.85 requests a job, and 1.027 times the ideal makespan."""

MANY_JOBS = 30

LIST_POLL_SHARE_MIN = 0.02
LIST_POLL_SHARE_MAX = 0.075
"""Bounds of the gap between two polls of the list, as a share of the mean duration. On average a job's end is seen half
a gap late."""

LIST_POLL_REST = 1.0
"""After a poll of the list, at least so many times as long as it took are left to other requests."""

PAGE_WORTH = 0.1
"""So many ended jobs a page must be expected to show at each poll; else polling its jobs by their IDs costs less."""

GROWN = 1.1
"""While the list is polled, the gap to its next poll is computed anew when so many times as many jobs are in flight."""

GAP_S_MIN = 0.005
GAP_S_MAX = 30.0
FAILED_GAP_S_MIN = 1.0
RATE_SHARE = 0.5
RATE_SHARE_PRESSED = 0.09

AGES_MAX = 1000
"""How many of the youngest jobs an estimate of the time left uses, and the oldest one: the youngest end last."""

LIST_REST_S_MIN = 5.0
LIST_REST_S_MAX = 300.0


@dataclass(frozen=True, slots=True)
class PollList:
    """Poll the list, at most `pages_max` pages of it."""

    pages_max: int


@dataclass(frozen=True, slots=True)
class PollJobs:
    """Poll these jobs by their IDs."""

    job_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is to be polled before `until_s`; where it is infinite, nothing at all."""

    until_s: float


@dataclass(slots=True)
class Watched:
    """A job in flight. All times are the event loop's, in seconds.

    Attributes:
        since_s: when it was added to the schedule.
        seen_in_flight_s: when it was last seen in flight.
        next_poll_s: when to poll it by its ID; infinite while the list shows it.
        listed: whether the list shows it, as far as is known.
        missing_since_s: since when the API answers 404 for it.
        earlier_s: for how many seconds it had been in flight when it was added.
    """

    job: Job
    since_s: float
    seen_in_flight_s: float
    next_poll_s: float = math.inf
    listed: bool = True
    missing_since_s: float | None = None
    earlier_s: float = 0.0

    def observed_age(self, now_s: float) -> Age:
        seen = self.seen_in_flight_s > self.since_s
        return Age(
            self.seen_in_flight_s - self.since_s + self.earlier_s if seen else 0.0,
            now_s - self.since_s + self.earlier_s,
        )


class PollSchedule:
    """The jobs in flight, and what was learned from those that have ended."""

    def __init__(self, durations: Durations | None = None) -> None:
        self._durations = Durations() if durations is None else durations
        self.jobs: dict[str, Watched] = {}
        self._polls: list[tuple[float, str]] = []
        self._unlisted = 0
        self._polling_list = False
        self._chosen_for_jobs = 0
        self._pages = 1
        self._list_polled_s = -math.inf
        self._list_poll_took_s = 0.0
        self._no_list_poll_before_s = 0.0
        self._list_rests = 0
        self._list_rest = Backoff(LIST_REST_S_MIN, LIST_REST_S_MAX, jitter=0.0)
        self._room = Headroom(0.0, 0.0)

    def add_job(self, job: Job, now_s: float, earlier_s: float = 0.0) -> bool:
        """Watches a job. Returns whether what was chosen last has to be chosen anew: to poll the list, one job more
        changes next to nothing, and to choose costs more than to add."""
        watched = Watched(job, now_s, now_s, earlier_s=earlier_s)
        first_s = now_s + (self._durations.poll_gap_s(0.0) if job.timed else 0.0)
        if not self.jobs:
            # Nothing was in flight: before this job can have ended, the list has no news.
            self._no_list_poll_before_s = max(self._no_list_poll_before_s, first_s)
        self.jobs[job.job_id] = watched
        # Where the list is polled, it is expected to show this one.
        if not self._polling_list:
            self._schedule_poll(watched, first_s)
        return not self._polling_list or len(self.jobs) > GROWN * self._chosen_for_jobs

    def remove_finished(self, job_id: str, now_s: float) -> tuple[Job, float | None]:
        """Removes a job that ended by itself. Returns it with its duration in seconds, by which it is estimated how
        long others
        take: its end is taken to lie in the middle between the last two polls. None for a job that another process
        made."""
        watched = self.jobs.pop(job_id)
        if not watched.job.timed:
            return watched.job, None
        duration_s = (watched.seen_in_flight_s + now_s) / 2 - watched.since_s
        self._durations.add_duration(duration_s)
        return watched.job, duration_s

    def remove_unfinished(self, job_id: str) -> Job:
        """Removes a job that did not end by itself: nothing is learned of how long jobs take."""
        return self.jobs.pop(job_id).job

    def jobs_left_s(self, now_s: float, to_be_made: int, *, none_follow: bool) -> float | None:
        """How many seconds the watched jobs and `to_be_made` new ones will still take; None where that is unknown.

        `none_follow`: no other jobs will come. Until then, jobs that take longer than every known duration are left
        out: in a long run there always is one, and the rest of the run takes longer than it.
        """
        asked = [*islice(reversed(self.jobs.values()), AGES_MAX)]
        asked += islice(self.jobs.values(), min(1, len(self.jobs) - len(asked)))
        ages = [watched.observed_age(now_s) for watched in asked]
        if not none_follow:
            ages = [age for age in ages if not self._durations.is_longer(age)]
        return self._durations.all_end_in_s(ages, to_be_made)

    def choose_action(self, now_s: float, room: Headroom) -> PollList | PollJobs | Wait:
        """What to do now; what is due is taken from the schedule. `room`: what the request rate leaves to polling."""
        self._room = room
        self._chosen_for_jobs = len(self.jobs)
        self._choose_list_or_jobs(now_s)
        list_poll_s = self._next_list_poll_s() if self._polling_list else math.inf
        if list_poll_s <= now_s and room.backlog_s > room.interval_s:
            most_s = self._list_polled_s + self._pages * room.interval_s / RATE_SHARE_PRESSED
            # Other requests wait: the poll lets them go first, but keeps its least share of the rate.
            list_poll_s = max(list_poll_s, min(most_s, now_s + room.backlog_s))
        if list_poll_s <= now_s:
            # After a rest our jobs may have moved far down the list.
            return PollList(self._pages if not self._list_rests else max(1, len(self.jobs) // 4))
        job_poll_s = self._polls[0][0] if self._polls else math.inf
        if job_poll_s <= now_s and room.backlog_s > room.interval_s:
            job_poll_s = min(job_poll_s + room.interval_s / RATE_SHARE_PRESSED, now_s + room.backlog_s)
        if job_poll_s <= now_s and (due := self._pop_due_job_ids(now_s)):
            return PollJobs(due)
        if job_poll_s <= now_s:  # only outdated entries were due, and they are gone now
            job_poll_s = self._polls[0][0] if self._polls else math.inf
        return Wait(min(list_poll_s, job_poll_s))

    def record_list_poll(
        self, shown: Sequence[Collection[str]], expected: Collection[str], now_s: float, took_s: float
    ) -> None:
        """Learns from a poll of the list: the watched jobs that each page showed, and those that were expected."""
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
                watched.seen_in_flight_s, watched.next_poll_s, watched.missing_since_s = now_s, math.inf, None
            else:
                self._unlisted += 1
                if watched.next_poll_s == math.inf:
                    self._schedule_poll(watched, self._poll_time_of_unlisted(watched, now_s))
        # Fewer jobs than pages: polls by their IDs cost less.
        if expected and len(listed) < len(shown):
            self.rest_from_list(now_s)
        else:
            self._list_rests = 0

    def record_job_poll(self, job_id: str, now_s: float) -> None:
        """A job was polled by its ID and is still in flight."""
        if (watched := self.jobs.get(job_id)) is not None:
            watched.seen_in_flight_s, watched.missing_since_s = now_s, None
            self._schedule_poll(watched, now_s + self._poll_gap_s(watched, now_s))

    def record_failed_job_poll(self, job_id: str, now_s: float) -> None:
        """A poll of a job by its ID failed: nothing is known of it that wasn't known before."""
        if (watched := self.jobs.get(job_id)) is not None:
            self._schedule_poll(watched, now_s + max(FAILED_GAP_S_MIN, self._poll_gap_s(watched, now_s)))

    def record_list_failure(self, now_s: float) -> None:
        """The list couldn't be read this time."""
        self._list_polled_s = now_s  # the gap counts from here: a failing list isn't asked any faster

    def rest_from_list(self, now_s: float) -> None:
        """The list can't be read, or isn't worth its pages: it is polled again after a rest that grows each time."""
        self._list_rests += 1
        self._no_list_poll_before_s = now_s + self._list_rest.wait_s(self._list_rests)
        self._pages = 1

    def rates_changed(self, now_s: float, room: Headroom) -> None:
        """The rate limits were changed: polls that were put off for the old rates come earlier. One that is too early
        for a lower rate waits for its turn like every request."""
        self._room = room
        for watched in self.jobs.values():
            if watched.next_poll_s != math.inf:
                at_s = watched.seen_in_flight_s + self._poll_gap_s(watched, watched.seen_in_flight_s)
                watched.next_poll_s = min(watched.next_poll_s, max(now_s, at_s))
        self._polls = [
            (watched.next_poll_s, job_id) for job_id, watched in self.jobs.items() if watched.next_poll_s != math.inf
        ]
        heapq.heapify(self._polls)

    # --- When ---------------------------------------------------------------------------------------------------------

    def _choose_list_or_jobs(self, now_s: float) -> None:
        """Polls the list or single jobs. When the list is not polled any more, each of its jobs gets a time of its
        own."""
        rests = self._no_list_poll_before_s > now_s and self._list_rests > 0
        worthwhile = len(self.jobs) > 2 * self._pages and not rests
        if self._polling_list and not worthwhile:
            for watched in self.jobs.values():
                if watched.next_poll_s == math.inf:
                    self._schedule_poll(watched, max(now_s, watched.since_s + self._durations.poll_gap_s(0.0)))
        self._polling_list = worthwhile

    def _poll_time_of_unlisted(self, watched: Watched, now_s: float) -> float:
        """When to poll a job that the list didn't show: its gap began when it was last seen, not now."""
        gap_s = self._poll_gap_s(watched, now_s)
        if watched.seen_in_flight_s == watched.since_s or gap_s > GAP_S_MAX:
            return now_s + gap_s
        return min(now_s + gap_s, max(now_s, watched.seen_in_flight_s + GAP_S_MAX))

    def _next_list_poll_s(self) -> float:
        mean_s = self._durations.mean_s
        gap_s = self._durations.poll_gap_s(self._oldest_job_s()) if mean_s is None else mean_s * self._list_poll_share()
        gap_s = max(gap_s, LIST_POLL_REST * self._list_poll_took_s)
        return max(
            self._no_list_poll_before_s, self._list_polled_s + self._within_rate_share_s(gap_s, self._pages, RATE_SHARE)
        )

    def _list_poll_share(self) -> float:
        """The gap between two polls of the list, as a share of the mean duration."""
        per_job = LIST_PAGES_PER_JOB if len(self.jobs) < MANY_JOBS else LIST_PAGES_PER_JOB_OF_MANY
        share = self._pages / (per_job * max(1, len(self.jobs)))
        return min(LIST_POLL_SHARE_MAX, max(LIST_POLL_SHARE_MIN, share))

    def _oldest_job_s(self) -> float:
        """How old the oldest job was at the last poll of the list; jobs are kept in the order in which they were
        added."""
        first = next(iter(self.jobs.values()))
        return max(UNKNOWN_S, self._list_polled_s - first.since_s)

    def _poll_gap_s(self, watched: Watched, now_s: float) -> float:
        gap_s = self._durations.poll_gap_s(now_s - watched.since_s)
        share = RATE_SHARE_PRESSED if self._room.backlog_s > gap_s else RATE_SHARE
        return self._within_rate_share_s(gap_s, self._unlisted if self._polling_list else len(self.jobs), share)

    def _within_rate_share_s(self, gap_s: float, requests: int, share: float) -> float:
        """A gap in which so many requests fit into a share of the rate."""
        return max(min(GAP_S_MAX, max(GAP_S_MIN, gap_s)), requests * self._room.interval_s / share)

    # --- Single jobs --------------------------------------------------------------------------------------------------

    def _schedule_poll(self, watched: Watched, at_s: float) -> None:
        watched.next_poll_s = at_s
        heapq.heappush(self._polls, (at_s, watched.job.job_id))

    def _pop_due_job_ids(self, now_s: float) -> tuple[str, ...]:
        """The jobs that are due. Entries that a later schedule replaced are dropped: a heap can't remove them
        earlier."""
        due: list[str] = []
        while self._polls:
            at_s, job_id = self._polls[0]
            watched = self.jobs.get(job_id)
            if watched is not None and watched.next_poll_s == at_s:
                if at_s > now_s:
                    break
                watched.next_poll_s = math.inf  # until `record_job_poll` schedules it again
                # Popped below either way: an entry is used once.
                due.append(job_id)
            heapq.heappop(self._polls)
        return tuple(due)
