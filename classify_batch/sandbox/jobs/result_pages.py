"""What a finished job's results hold, page by page: pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import NAMESPACE_URL, uuid5

from classify_batch.sandbox.faults.fault_options import ResultsLag
from classify_batch.sandbox.jobs.sandbox_job import SandboxJob


class Entry(NamedTuple):
    """An item of a job's results.

    Attributes:
        place: tells the items of a job apart; one that comes twice has the same.
        file_id: what the item says that it is about.
        about: the file that the answer is drawn from.
    """

    place: int
    file_id: str | None
    about: str
    has_result: bool


class Page(NamedTuple):
    """A page of results; no next one: it is the last."""

    entries: Sequence[Entry]
    next_start: int | None
    total: int


def result_entries(job: SandboxJob) -> list[Entry]:
    """Each file that the job answers once, and behind them whatever is odd about it."""
    entries = [Entry(place, file_id, file_id, has_result) for place, file_id, has_result in job.answered_files()]
    if not entries:
        return entries
    odd, first, count = job.ending.oddities, entries[0], len(job.file_ids)
    if "doubled" in odd:
        entries.append(first)
    if "unasked" in odd:
        unasked = str(uuid5(NAMESPACE_URL, f"unasked/{job.job_id}"))
        entries.append(first._replace(place=count, file_id=unasked))
    if "nameless" in odd:
        entries.append(first._replace(place=count + 1, file_id=None))
    return entries


def hold_back_entries(entries: list[Entry], lag: ResultsLag) -> list[Entry]:
    """What is shown of a job's entries while its results lag."""
    match lag:
        case "nothing":
            return []
        case "null":
            return [entry._replace(has_result=False) for entry in entries]
        case "half":
            return entries[: len(entries) // 2]


def read_results_page(job: SandboxJob, start: int, size: int | None, lag: ResultsLag | None = None) -> Page:
    """Up to `size` entries (None: all of them) from `start` on, of what is shown of them while they lag, if they do."""
    entries = result_entries(job)
    if lag is not None:
        entries = hold_back_entries(entries, lag)
    endless = "endless_results" in job.ending.oddities
    if endless:
        start = 0
    end = len(entries) if size is None else start + size
    following = 0 if endless else end
    return Page(entries[start:end], following if endless or end < len(entries) else None, len(entries))
