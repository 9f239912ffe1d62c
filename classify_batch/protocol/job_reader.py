"""How jobs are read, whichever version tells them: one, a page of them, or those of a page that matter."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from classify_batch.model import JobPage, JobView
from classify_batch.protocol.json_shape import Shape, text

Item = TypeVar("Item")


class Page(msgspec.Struct, Generic[Item]):
    """A page of jobs or of results, as it came."""

    items: list[Item]
    next_page_token: Any = None
    total_size: Any = None

    @property
    def token(self) -> str | None:
        return text(self.next_page_token) or None


class SaidJob(Protocol):
    """A job as it came."""

    id: str

    def view(self) -> JobView: ...


Standing = TypeVar("Standing", bound=SaidJob)
Described = TypeVar("Described", bound=SaidJob)


class JobReader(Generic[Standing, Described]):
    """Reads the jobs of one version. Every method raises ValueError for a body of another shape.

    Args:
        jobs: how they stand: what is looked at again and again.
        described: with what they were told to do.
    """

    def __init__(self, job: Shape[Standing], jobs: Shape[Page[Standing]], described: Shape[Page[Described]]) -> None:
        self._job, self._jobs, self._described = job, jobs, described

    def one(self, data: bytes) -> JobView:
        """How a job stands."""
        return self._job.read(data).view()

    def page(self, data: bytes) -> JobPage:
        """A page of jobs, each with what it was told to do."""
        page = self._described.read(data)
        return JobPage(tuple(job.view() for job in page.items), page.token)

    def some(self, data: bytes, job_ids: Collection[str]) -> JobPage:
        """How those of `job_ids` stand that are on a page; of the others nothing is built."""
        page = self._jobs.read(data)
        return JobPage(tuple(job.view() for job in page.items if job.id in job_ids), page.token)
