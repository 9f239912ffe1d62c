"""What both versions of the API behind ports.Api share: a job is created, got and listed, and secrets are hidden."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from classify_batch.file_keys import same_id
from classify_batch.llamacloud.client import ApiClient, wrong_shape_error
from classify_batch.llamacloud.file_client import find_project_of_file
from classify_batch.llamacloud.http_time import has_age
from classify_batch.model import JobPage, JobView
from classify_batch.protocol.job_reader import JobAnswer, JobReader, PolledJob, with_asked_id
from classify_batch.protocol.requests import NO_PARAMS, QueryParams, RequestModel


class BatchApi:
    """The calls that a run makes. Every method raises ApiError.

    Args:
        jobs: reads the jobs of the version.
        get_params: of a call that gets one job.
    """

    def __init__(
        self, client: ApiClient, jobs: JobReader[JobAnswer, PolledJob], get_params: QueryParams = NO_PARAMS
    ) -> None:
        self._client, self._jobs, self._get_params = client, jobs, get_params

    @property
    def requests(self) -> int:
        return self._client.requests

    async def project_of_file(self, file_id: str) -> str | None:
        return await find_project_of_file(self._client, file_id)

    async def get(self, job_id: str) -> JobView:
        path = self._jobs.job_path(job_id)
        job = await self._client.send_request("get", "GET", path, self._jobs.read_job, params=self._get_params)
        return self._client.secrets.hide_in_job(require_job("get", job, job_id))

    async def _send_create(self, body: RequestModel, about_to_send: Callable[[], Awaitable[None]]) -> JobView:
        job = await self._client.send_request(
            "create", "POST", self._jobs.jobs_path, self._jobs.read_job, body=body, about_to_send=about_to_send
        )
        return self._client.secrets.hide_in_job(job)

    async def _list_jobs(self, read: Callable[[bytes], JobPage], params: QueryParams) -> JobPage:
        headers: dict[str, str] = {}  # their names are in lower case
        page = await self._client.send_request(
            "list", "GET", self._jobs.jobs_path, read, params=params, got_headers=headers.update
        )
        return replace(self._client.secrets.hide_in_page(page), from_cache=has_age(headers))


def require_job(call: str, job: JobView, job_id: str) -> JobView:
    """The job that was asked for, by the ID by which it was. Raises ApiError for another one: its status and its answer
    would be taken for this one's."""
    if not same_id(job.job_id, job_id):
        raise wrong_shape_error(call, ValueError("another job's id"))
    return with_asked_id(job, job_id)
