"""What the list shows of a project's jobs at one point in time, page by page: pure.

Jobs are kept sorted by *rank*, a number that never changes. A page token holds the last rank shown, so it means the
same position however many jobs are created between two pages. Only the order `changed` differs from one time to the
next,
and its tokens hold an offset: a job that ends between two pages moves to the front, where the reader has already been.
It is missed, and a job that was read already moves on to the next page and is read twice.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import islice
from operator import attrgetter
from typing import NamedTuple
from uuid import UUID

from classify_batch.sandbox.faults.fault_options import Faults
from classify_batch.sandbox.jobs.sandbox_job import SandboxJob
from classify_batch.sandbox.options import ListOrder, Options


class JobsPage(NamedTuple):
    """A page of the list.

    Attributes:
        next_position: where the next page begins; None: this one is the last.
        total: how many jobs the list shows, on all pages.
    """

    jobs: Sequence[SandboxJob]
    next_position: int | None
    total: int


def read_jobs_page(
    jobs: Sequence[SandboxJob], size: int, position: int | None, now_s: float, options: Options
) -> JobsPage:
    """A page of the jobs that the list shows.

    Args:
        jobs: by rank, ascending.
        position: of the page, from the page before; None: it is the first.
    """
    faults = options.faults
    if options.list_order == "changed":
        return page_by_last_change([job for job in jobs if is_listed(job, now_s, faults)], size, position or 0, now_s)
    start = 0 if position is None else bisect_right(jobs, position, key=_by_rank)
    # Without lags every job is listed: no page needs a scan of all jobs.
    if faults.list_lag_s == faults.list_hides_for_s == 0:
        page = jobs[start : start + size + 1]
        total = len(jobs)
    else:
        page = list(islice((job for job in islice(jobs, start, None) if is_listed(job, now_s, faults)), size + 1))
        total = sum(is_listed(job, now_s, faults) for job in jobs)
    return JobsPage(page[:size], page[size - 1].rank if len(page) > size else None, total)


def list_rank(job: SandboxJob, order: ListOrder) -> int:
    """A job's rank in the list. By `changed` no rank lasts, and jobs are kept as by `newest`."""
    match order:
        case "newest" | "changed":
            return -job.number
        case "oldest":
            return job.number
        case "shuffled":
            return UUID(job.job_id).int


def page_by_last_change(jobs: Sequence[SandboxJob], size: int, start: int, now_s: float) -> JobsPage:
    ordered = sorted(jobs, key=lambda job: (job.changed_at_s(now_s), job.number), reverse=True)
    end = start + size
    return JobsPage(ordered[start:end], end if end < len(ordered) else None, len(ordered))


def is_listed(job: SandboxJob, now_s: float, faults: Faults) -> bool:
    age_s = now_s - job.created_at_s
    is_hidden = 0 <= age_s - faults.list_hides_after_s < faults.list_hides_for_s
    return age_s >= faults.list_lag_s and not is_hidden


_by_rank = attrgetter("rank")
