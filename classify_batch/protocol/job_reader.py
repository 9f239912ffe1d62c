"""The jobs of one version: where they are, and how one job, a page of them, or some jobs of a page are read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Generic, Protocol, TypeVar

from classify_batch.file_keys import as_asked
from classify_batch.model import JobPage, JobView
from classify_batch.protocol.answers import AnswerModel, AnswerReader, Identity, Lenient, Page, Text, parse_time_s
from classify_batch.protocol.quick_readers import QuickPage, QuickReader
from classify_batch.protocol.url_parts import quote_step


def fold_status(status: str) -> str:
    """A status as the vendor spells it: servers write it in lower case, too.

    >>> fold_status(" success ")
    'SUCCESS'
    """
    return status.strip().upper()


class JobAnswer(AnswerModel, ABC):
    """What a job of either version shows."""

    id: Identity
    status: Text
    project_id: Lenient[Text] = None
    user_id: Lenient[Text] = None
    created_at: Lenient[Text] = None
    updated_at: Lenient[Text] = None
    error_message: Lenient[Text] = None

    @property
    def created_at_s(self) -> float | None:
        """Seconds since the epoch."""
        return parse_time_s(self.created_at)

    @abstractmethod
    def summary(self) -> JobView:
        """The job without its configuration."""

    @abstractmethod
    def to_view(self) -> JobView:
        """The job with its configuration, by which a job whose create answer was lost is recognised."""


class PolledJob(Protocol):
    """A job as it is read again and again: by its model, or quickly."""

    @property
    def id(self) -> str: ...

    def summary(self) -> JobView: ...


Job_co = TypeVar("Job_co", bound=JobAnswer, covariant=True)
QuickJob_co = TypeVar("QuickJob_co", bound=PolledJob, covariant=True)


class JobReader(Generic[Job_co, QuickJob_co]):
    """Reads the jobs of one version.

    Args:
        jobs_path: of the list, and of creates.

    Attributes:
        job, page: read a job, and a page of jobs, with all their fields.
        quick_job, quick_page: the same, with the few fields that a run needs.
    """

    def __init__(
        self,
        jobs_path: str,
        job: type[Job_co],
        page: type[Page[Job_co]],
        quick_job: type[QuickJob_co],
        quick_page: type[QuickPage[QuickJob_co]],
    ) -> None:
        self.jobs_path = jobs_path
        self.job, self.page = AnswerReader(job), AnswerReader(page)
        self.quick_job = QuickReader(quick_job, self.job)
        self.quick_page = QuickReader(quick_page, self.page)

    def job_path(self, job_id: str) -> str:
        """The path of a job."""
        return f"{self.jobs_path}/{quote_step(job_id)}"

    def read_job(self, data: bytes) -> JobView:
        """A job without its configuration. Raises ValueError for a body of another shape."""
        return self.quick_job.read(data).summary()

    def read_jobs_page(self, data: bytes) -> JobPage:
        """A page of jobs, each with its configuration. Raises ValueError for a body of another shape."""
        page = self.page.read(data)
        return JobPage(tuple(job.to_view() for job in page.items), page.next_token)

    def read_jobs_by_id(self, data: bytes, job_ids: Collection[str]) -> JobPage:
        """The jobs of a page that are in `job_ids`, by the IDs that stand there, and without their configuration; for
        the others nothing is built.

        Raises ValueError for a body of another shape.
        """
        page = self.quick_page.read(data)
        asked = as_asked([job.id for job in page.items], job_ids)
        views = [
            with_asked_id(job.summary(), job_id)
            for job, job_id in zip(page.items, asked, strict=True)
            if job_id is not None
        ]
        return JobPage(tuple(views), page.next_token)


def with_asked_id(view: JobView, job_id: str) -> JobView:
    """A job by the ID by which it was asked for: the server may spell a UUID in another way each time."""
    return view if view.job_id == job_id else view._replace(job_id=job_id)
