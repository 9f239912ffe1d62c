"""Reads jobs of either version: one job, a page of them, or those jobs of a page that are asked for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from classify_batch.model import JobPage, JobView
from classify_batch.protocol.json_shape import Shape, text_or_none

Item = TypeVar("Item")


class Page(msgspec.Struct, Generic[Item]):
    """A page of jobs or of results, as the server sent it."""

    items: list[Item]
    next_page_token: Any = None
    total_size: Any = None

    @property
    def next_token(self) -> str | None:
        return text_or_none(self.next_page_token) or None


class ParsedJob(Protocol):
    """A job as the server sent it."""

    id: str

    def to_view(self) -> JobView: ...


Summary = TypeVar("Summary", bound=ParsedJob)
Described = TypeVar("Described", bound=ParsedJob)


class JobReader(Generic[Summary, Described]):
    """Reads the jobs of one version. Every method raises ValueError for a body of another shape.

    Args:
        job, jobs: a job, and a page of jobs, without their configuration: what is polled again and again.
        described: a page of jobs with their configuration.
    """

    def __init__(self, job: Shape[Summary], jobs: Shape[Page[Summary]], described: Shape[Page[Described]]) -> None:
        self._job, self._jobs, self._described = job, jobs, described

    def read_job(self, data: bytes) -> JobView:
        """A job without its configuration."""
        return self._job.read(data).to_view()

    def read_jobs_page(self, data: bytes) -> JobPage:
        """A page of jobs, each with its configuration."""
        page = self._described.read(data)
        return JobPage(tuple(job.to_view() for job in page.items), page.next_token)

    def read_jobs_by_id(self, data: bytes, job_ids: Collection[str]) -> JobPage:
        """The jobs of a page that are in `job_ids`, without their configuration; for the others nothing is built."""
        page = self._jobs.read(data)
        return JobPage(tuple(job.to_view() for job in page.items if job.id in job_ids), page.next_token)
