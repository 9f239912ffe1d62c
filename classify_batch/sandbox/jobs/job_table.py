"""The jobs that the sandbox has accepted: pure, no clock, no disk.

A job's whole future is decided when it is drafted: how long it takes and how it ends. Its state is then a function of
the job and the time. Nothing has to be updated while time passes, and a job that is read back from the ledger goes on
as if the sandbox had never stopped.

What the list shows of the jobs is in `job_listing`.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from random import Random
from uuid import UUID

from classify_batch.sandbox.documents.project import JobConfig, Version
from classify_batch.sandbox.faults.job_endings import decide_ending
from classify_batch.sandbox.jobs.create_request import CreateRequest
from classify_batch.sandbox.jobs.foreign_jobs import faults_of_foreign_jobs, overlapping_create_request
from classify_batch.sandbox.jobs.job_listing import JobsPage, list_rank, read_jobs_page
from classify_batch.sandbox.jobs.sandbox_job import SandboxJob
from classify_batch.sandbox.options import Options

_by_rank = attrgetter("rank")


class JobTable:
    """All jobs of all projects. Each shows only in the version of the API that it was created in.

    Args:
        seed: decides every job's future, in the order in which they come.
    """

    def __init__(self, options: Options, seed: int) -> None:
        self._options = options
        self.seed = seed
        self._jobs: dict[str, SandboxJob] = {}
        self._lists: dict[tuple[Version, str], list[SandboxJob]] = {}
        self._transactions: dict[tuple[str, str], str] = {}
        self._finish_times: list[float] = []
        self._configs: dict[JobConfig, JobConfig] = {}
        self.credits_spent = 0  # by the client under test, not by foreign jobs

    def __iter__(self) -> Iterator[SandboxJob]:
        return iter(self._jobs.values())

    def draft_job(
        self, create_request: CreateRequest, project_id: str, now_s: float, *, by_other: bool = False
    ) -> SandboxJob:
        """The job that a create makes. It is in the table after `add_job` only, so that the ledger can keep it
        first."""
        faults = self._options.faults
        # A random stream for each job, by its number: how one job ends doesn't depend on what else is asked.
        number = len(self._jobs) + 1
        random = Random(f"{self.seed}/{number}")  # noqa: S311
        file_ids = tuple(dict.fromkeys(create_request.file_ids))
        return SandboxJob(
            number=number,
            # The time is part of it: a sandbox that starts anew with the same seed must not give an ID out again.
            job_id=str(UUID(int=Random(f"{self.seed}/{number}/{now_s}").getrandbits(128), version=4)),  # noqa: S311
            project_id=project_id,
            created_at_s=now_s,
            duration_s=self._options.job_duration_s * math.exp(self._options.job_duration_sigma * random.gauss(0, 1)),
            ending=decide_ending(faults_of_foreign_jobs(faults) if by_other else faults, file_ids, random),
            file_ids=file_ids,
            config=create_request.config,
            mode=create_request.mode,
            transaction_id=create_request.transaction_id,
            clock_shift_s=self._clock_shift_s(number),
            by_other=by_other,
        )

    def _clock_shift_s(self, number: int) -> float:
        shift_s_max = self._options.faults.created_at_jitter_s
        return Random(f"{self.seed}/{number}/clock").uniform(-shift_s_max, shift_s_max)  # noqa: S311

    def draft_overlapping_job(self, job: SandboxJob, now_s: float) -> SandboxJob:
        """The job that somebody else makes about some of a job's files."""
        random = Random(f"{self.seed}/{job.number}/overlap")  # noqa: S311
        create_request = overlapping_create_request(job, self._options.faults.overlap_mode, random)
        return self.draft_job(create_request, job.project_id, now_s, by_other=True)

    def add_job(self, job: SandboxJob) -> SandboxJob:
        """Adds a drafted job, or one that was read back. Gives the job as the table holds it."""
        config = self._configs.setdefault(job.config, job.config)  # thousands of jobs share a few configs
        job = replace(job, config=config, rank=list_rank(job, self._options.list_order))
        self._jobs[job.job_id] = job
        heapq.heappush(self._finish_times, finish_time_or_never(job))
        self.credits_spent += self._credits_paid_by_client(job)
        if not job.deleted:
            insort(self._jobs_in_list_order(job), job, key=_by_rank)
            if job.transaction_id is not None:
                self._transactions[job.project_id, job.transaction_id] = job.job_id
        return job

    def _credits_paid_by_client(self, job: SandboxJob) -> int:
        return 0 if job.by_other else job.credits_billed(parse_jobs=self._options.faults.parse_jobs_billed)

    def cancel_job(self, job: SandboxJob, now_s: float) -> SandboxJob:
        """Cancels a job that isn't finished. Gives the job as the table holds it then."""
        cancelled = job.cancelled_at(now_s)
        jobs = self._jobs_in_list_order(job)
        jobs[bisect_left(jobs, job.rank, key=_by_rank)] = cancelled
        self._jobs[job.job_id] = cancelled
        # A cancelled job is finished now, so its later finish time must no longer count.
        self._finish_times.remove(finish_time_or_never(job))
        heapq.heapify(self._finish_times)
        self.credits_spent += self._credits_paid_by_client(cancelled) - self._credits_paid_by_client(job)
        return cancelled

    def delete_job(self, job: SandboxJob) -> None:
        """Hides a finished job. Its transaction ID is free again."""
        jobs = self._jobs_in_list_order(job)
        del jobs[bisect_left(jobs, job.rank, key=_by_rank)]
        self._jobs[job.job_id] = replace(job, deleted=True)
        if job.transaction_id is None:
            return
        key = job.project_id, job.transaction_id
        if self._transactions.get(key) == job.job_id:  # a later job may have it, made when it was forgotten
            del self._transactions[key]

    def find_job(self, job_id: str, project_id: str, now_s: float, version: Version = "v1") -> SandboxJob | None:
        job = self._find_shown_job(job_id, project_id, version)
        return job if job is not None and now_s >= job.created_at_s + self._options.faults.get_lag_s else None

    def latest_job(self, project_id: str, version: Version) -> SandboxJob | None:
        """The job that the client created last in a project, among those that are shown."""
        jobs = (self._find_shown_job(job_id, project_id, version) for job_id in reversed(self._jobs))
        return next((job for job in jobs if job is not None and not job.by_other), None)

    def find_by_transaction(self, transaction_id: str, project_id: str, now_s: float) -> SandboxJob | None:
        """The job that was created by this transaction, unless the transaction is forgotten."""
        job_id = self._transactions.get((project_id, transaction_id))
        if job_id is None:
            return None
        job, kept_s = self._jobs[job_id], self._options.forget_transactions_after_s
        return job if kept_s is None or now_s < job.created_at_s + kept_s else None

    def select_by_id(self, job_ids: Iterable[str], project_id: str, version: Version) -> list[SandboxJob]:
        """The jobs of these IDs that the project has, in the order of its list."""
        found = (self._find_shown_job(job_id, project_id, version) for job_id in frozenset(job_ids))
        return sorted((job for job in found if job is not None), key=_by_rank)

    def read_page(
        self,
        project_id: str,
        size: int,
        position: int | None,
        now_s: float,
        version: Version = "v1",
        among: Sequence[SandboxJob] | None = None,
    ) -> JobsPage:
        """Up to `size` jobs of a project behind `position`: see `job_listing.read_jobs_page`.

        Args:
            among: the jobs to show, in the list's order. None: all of them.
        """
        jobs = self._lists.get((version, project_id), []) if among is None else among
        return read_jobs_page(jobs, size, position, now_s, self._options)

    def select_jobs(self, project_id: str, version: Version, wanted: Callable[[SandboxJob], bool]) -> list[SandboxJob]:
        """The project's jobs that are wanted, in the order of its list."""
        return [job for job in self._lists.get((version, project_id), []) if wanted(job)]

    def count_unfinished(self, now_s: float) -> int:
        """How many jobs are not finished. `now_s` must not decrease between calls: finish times that passed are
        dropped."""
        while self._finish_times and self._finish_times[0] <= now_s:
            heapq.heappop(self._finish_times)
        return len(self._finish_times)

    def _find_shown_job(self, job_id: str, project_id: str, version: Version) -> SandboxJob | None:
        job = self._jobs.get(job_id)
        shown = job is not None and not job.deleted and (job.project_id, job.version) == (project_id, version)
        return job if shown else None

    def _jobs_in_list_order(self, job: SandboxJob) -> list[SandboxJob]:
        return self._lists.setdefault((job.version, job.project_id), [])


def count_billed(jobs: Iterable[SandboxJob]) -> Counter[str]:
    """How often each file ID was billed to the client: once for each of its jobs that answers the file. Failed jobs,
    null results and foreign jobs cost the client nothing. To classify a file in another mode is not the same twice, so
    only the mode counts in which the file was billed most often."""
    own = (job for job in jobs if not job.by_other)
    paid = Counter((file_id, job.mode) for job in own for _, file_id, has_result in job.answered_files() if has_result)
    times_paid: Counter[str] = Counter()
    for (file_id, _), times in paid.items():
        times_paid[file_id] = max(times_paid[file_id], times)
    return times_paid


def finish_time_or_never(job: SandboxJob) -> float:
    return job.finished_at_s if job.ever_finishes else math.inf
