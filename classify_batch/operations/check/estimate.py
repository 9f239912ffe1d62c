"""Estimates a plan: its requests, the least time that it takes, the most that it can cost, and its disk space."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from classify_batch.rundir.cost import Cost, estimate_cost_max
from classify_batch.rundir.disk_space import DiskSpace, estimate_disk_space
from classify_batch.settings import Settings


@dataclass(frozen=True, slots=True)
class UploadSize:
    """What of a folder is brought to the project, at most: what is there already is not sent.

    Attributes:
        documents: contents, each of which is looked up, and uploaded where it isn't there.
        bytes: of all their paths.
    """

    documents: int
    bytes: int

    @property
    def requests(self) -> int:
        """A lookup and an upload for each."""
        return 2 * self.documents


@dataclass(frozen=True, slots=True)
class PlanSize:
    """A plan's size.

    Attributes:
        requests: at least; polls come on top.
        least_s: no run under these limits is faster. The time that jobs take is unknown, and not included.
        follows_from: the limit that `least_s` follows from, as text.
        uploads: where the input is a folder; its lookups are among `requests`.
        times_a_job: the run also takes at least this many times as long as a job; 0 without a limit of jobs in flight.
    """

    files: int
    duplicates: int
    files_per_job: int
    chunks: int
    requests: int
    least_s: float
    follows_from: str
    times_a_job: float
    cost: Cost
    disk: DiskSpace
    uploads: UploadSize | None = None


def estimate_size(
    files: int,
    duplicates: int,
    settings: Settings,
    *,
    id_bytes: int = 0,
    carried_bytes: int = 0,
    uploads: UploadSize | None = None,
) -> PlanSize:
    """A v1 job takes a create and a results call; a v2 job only a create, since its answer comes with a poll.

    `id_bytes`, `carried_bytes`: of all file IDs together, and of what they carry.
    """
    limits, capabilities = settings.limits, settings.api.capabilities
    chunks = ceil(files / settings.files_per_job)
    requests = chunks if capabilities.answers_in_job else 2 * chunks
    requests += 0 if uploads is None else uploads.documents
    creates_per_s = limits.creates_per_s or capabilities.creates_per_s
    least_s, follows_from = requests / limits.requests_per_s, _format_rate(requests, "requests", limits.requests_per_s)
    if creates_per_s is not None and chunks / creates_per_s > least_s:
        least_s, follows_from = chunks / creates_per_s, _format_rate(chunks, "creates", creates_per_s)
    return PlanSize(
        files=files,
        duplicates=duplicates,
        files_per_job=settings.files_per_job,
        chunks=chunks,
        requests=requests,
        least_s=least_s,
        follows_from=follows_from,
        times_a_job=chunks / limits.jobs_in_flight if limits.jobs_in_flight else 0.0,
        cost=estimate_cost_max(files, settings),
        disk=estimate_disk_space(files, chunks, settings, id_bytes=id_bytes, carried_bytes=carried_bytes),
        uploads=uploads,
    )


def format_uploads(uploads: UploadSize) -> str:
    """The line about what is uploaded."""
    most = f"of {uploads.bytes:,} bytes at most, in {uploads.requests:,} requests at most"
    return f"uploads     up to {uploads.documents:,}  ({most}: a lookup and an upload each)"


def _format_rate(count: int, what: str, per_s: float) -> str:
    return f"{count:,} {what} at {per_s:g} a second"
