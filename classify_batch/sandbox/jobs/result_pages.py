"""What a finished job's results hold, page by page: pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import NAMESPACE_URL, uuid5

from classify_batch.sandbox.faults.fault_options import ResultsLag
from classify_batch.sandbox.jobs.sandbox_job import SandboxJob


class ResultEntry(NamedTuple):
    """An item of a job's results.

    Attributes:
        position: distinguishes the items of a job; an item that comes twice has the same one.
        file_id: the file that the item names.
        about: the file that the answer is drawn from.
    """

    position: int
    file_id: str | None
    about: str
    has_result: bool


class ResultsPage(NamedTuple):
    """A page of results; `next_start` None: it is the last."""

    entries: Sequence[ResultEntry]
    next_start: int | None
    total: int


def result_entries(job: SandboxJob) -> list[ResultEntry]:
    """Each file that the job answers, once, and behind them the items that its oddities add."""
    entries = [
        ResultEntry(position, file_id, file_id, has_result) for position, file_id, has_result in job.answered_files()
    ]
    if not entries:
        return entries
    odd, first, count = job.ending.oddities, entries[0], len(job.file_ids)
    if "doubled" in odd:
        entries.append(first)
    if "unasked" in odd:
        unasked = str(uuid5(NAMESPACE_URL, f"unasked/{job.job_id}"))
        entries.append(first._replace(position=count, file_id=unasked))
    if "nameless" in odd:
        entries.append(first._replace(position=count + 1, file_id=None))
    return entries


def hold_back_entries(entries: list[ResultEntry], lag: ResultsLag) -> list[ResultEntry]:
    """The entries that a job shows while its results lag."""
    match lag:
        case "nothing":
            return []
        case "null":
            return [entry._replace(has_result=False) for entry in entries]
        case "half":
            return entries[: len(entries) // 2]


def read_results_page(job: SandboxJob, start: int, size: int | None, lag: ResultsLag | None = None) -> ResultsPage:
    """Up to `size` entries (None: all) from `start` on; while they lag, of those that are shown."""
    entries = result_entries(job)
    if lag is not None:
        entries = hold_back_entries(entries, lag)
    endless = "endless_results" in job.ending.oddities
    if endless:
        start = 0
    end = len(entries) if size is None else start + size
    # An endless job's every page is the first, with a token for a next one.
    following = 0 if endless else end
    return ResultsPage(entries[start:end], following if endless or end < len(entries) else None, len(entries))
