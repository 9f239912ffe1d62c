"""What the single calls of both versions share: one call about one job, for a person.

A run needs of a job what `ports.Api` gives, and no more. A single call gives the JSON as the server sent it
(`raw_bodies`).
"""

from __future__ import annotations

import json
import shlex
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from classify_batch.errors import ApiError, Verdict
from classify_batch.file_keys import same_id
from classify_batch.limits.retry import retry_transient
from classify_batch.llamacloud.client import ApiClient, wrong_shape_error
from classify_batch.llamacloud.raw_bodies import Body, RawAnswer, make_body_reader
from classify_batch.llamacloud.results_pages import read_all_pages
from classify_batch.protocol.answers import ResultsPage
from classify_batch.protocol.job_reader import JobAnswer, JobReader, PolledJob
from classify_batch.protocol.requests import NO_PARAMS, QueryParams, QueryValue, RequestModel
from classify_batch.protocol.sanitize import printable_line

Answer = TypeVar("Answer")
Job = TypeVar("Job", bound=JobAnswer)

CALLS_MAX = 5
"""A person waits for a single call: that the API is down is reported after seconds, and not after a run's patience."""


class Results(NamedTuple):
    """A job's results as one page, and why there may be more; empty where everything came."""

    page: Body
    withheld: str = ""


class CreateRequest(NamedTuple):
    """What one create call asks for.

    Attributes:
        transaction_id: v2's idempotency key; empty on v1, which has none.
    """

    file_ids: tuple[str, ...]
    transaction_id: str = ""


class SingleCalls(ABC, Generic[Job]):
    """What the single calls of both versions are made of. Every method raises ApiError.

    Args:
        jobs: reads the jobs of the version.
        get_params: of a call that gets one job.
    """

    def __init__(self, client: ApiClient, jobs: JobReader[Job, PolledJob], get_params: QueryParams = NO_PARAMS) -> None:
        self._client, self._jobs, self._get_params = client, jobs, get_params
        self._read_job_body = make_body_reader(jobs.job.read, client.secrets)

    async def get_job(self, job_id: str) -> Body:
        return (await self._get_job_answer(job_id)).body

    async def list_jobs(self, *, page_size: int | None = None, page_token: str | None = None) -> Body:
        return await self._list_jobs({"page_size": page_size, "page_token": page_token})

    async def get_results(self, job_id: str) -> Results:
        """The results of all pages, as far as they can be had. LATER: the job isn't finished."""
        first = await self._read_results_page(job_id, None)
        found = await read_all_pages(first, partial(self._read_results_page, job_id), identify_result)
        page = {"items": found.items, "next_page_token": found.next_page_token, "total_size": first.total_size}
        return Results(page, found.incomplete)

    @abstractmethod
    async def _read_results_page(self, job_id: str, page_token: str | None) -> ResultsPage[Body]:
        """A page of a job's results; None: the first."""

    async def _get_job_answer(self, job_id: str) -> RawAnswer[Job]:
        path = self._jobs.job_path(job_id)
        job = await self._read_with_retries("get", path, self._read_job_body, self._get_params)
        return require_job_id("get", job, job_id)

    async def _list_jobs(self, params: Mapping[str, QueryValue | None]) -> Body:
        read = make_body_reader(self._jobs.page.read, self._client.secrets)
        return (await self._read_with_retries("list", self._jobs.jobs_path, read, params)).body

    async def _send_create(self, body: RequestModel, about_to_send: Callable[[], Awaitable[None]]) -> RawAnswer[Job]:
        """Sends a create once."""
        return await self._client.send_request(
            "create", "POST", self._jobs.jobs_path, self._read_job_body, body=body, about_to_send=about_to_send
        )

    async def _read_with_retries(
        self, call: str, path: str, read: Callable[[bytes], Answer], params: Mapping[str, QueryValue | None]
    ) -> Answer:
        """A read, which may always be tried again. Parameters that are None or empty are left out."""
        given = {name: value for name, value in params.items() if value is not None and value != ()}
        return await retry_transient(
            partial(self._client.send_request, call, "GET", path, read, params=given), calls_max=CALLS_MAX
        )


def unfinished_job_error(job_id: str, status: str, message: str = "results: the job is not finished") -> ApiError:
    """The error for results of a job that has none yet."""
    hint = f"`classify-batch jobs get {shlex.quote(job_id)}` shows when it is finished; then give the same command"
    return ApiError("results", Verdict.LATER, f"{message}; the job is {printable_line(status)}", hint=hint)


def require_job_id(call: str, job: RawAnswer[Job], job_id: str) -> RawAnswer[Job]:
    """The job, if it is the one that was asked for. Raises ApiError."""
    if not same_id(job.answer.id, job_id):
        raise wrong_shape_error(call, ValueError("another job's id"))
    return job


def identify_result(item: Body) -> str:
    """What identifies a result: its id, or all of it where the server gives none."""
    return str(item["id"]) if item.get("id") else json.dumps(item, sort_keys=True)
