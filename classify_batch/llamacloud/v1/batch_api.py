"""v1 of the classifier's API behind ports.Api."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Any

from classify_batch.errors import ApiError, Verdict
from classify_batch.file_keys import file_key
from classify_batch.limits.retry import retry_transient
from classify_batch.llamacloud.client import ApiClient, wrong_shape_error
from classify_batch.model import Answers, Attempt, JobPage, JobView
from classify_batch.protocol import file_bodies as files
from classify_batch.protocol import v1
from classify_batch.protocol.json_shape import text
from classify_batch.settings.job_spec import JobSpec, JobSpecs
from classify_batch.vocabulary import FILES_PER_JOB_MAX

RESULT_PAGES_MAX = 2 * FILES_PER_JOB_MAX
"""A page holds at least one answer; twice that many pages is a server that never ends."""

PAGE_ATTEMPTS_MAX = 4
"""A page behind the first is tried again by itself: who begins again with many pages may never come to the end."""

STALE_PAGES_MAX = 5
"""So many pages in a row that bring nothing new are one page, answered for ever; fewer may be answers given twice."""


class ApiV1:
    """Jobs of many files. No cancel, no filter, no idempotency key."""

    def __init__(self, client: ApiClient, spec: JobSpec, second: JobSpec | None = None) -> None:
        """`second`: what a second look is asked for with."""
        self._client = client
        self._specs = JobSpecs(spec, second)

    @property
    def requests(self) -> int:
        return self._client.requests

    @property
    def idempotent(self) -> bool:
        return False

    def transaction_id(self, attempt: Attempt) -> str | None:  # noqa: ARG002 - v1 knows no such thing
        return None

    async def project_of_file(self, file_id: str) -> str | None:
        return await project_of_file(self._client, file_id)

    async def create(self, attempt: Attempt, about_to_send: Callable[[], Awaitable[None]]) -> JobView:
        body = v1.create_body(self._specs.of(attempt.part), attempt.file_ids)
        job = await self._client.send_request(
            "create", "POST", v1.JOBS_PATH, v1.read_job, body=body, about_to_send=about_to_send
        )
        return self._client.secrets.hide_in_job(job)

    async def get(self, job_id: str) -> JobView:
        job = await self._client.send_request("get", "GET", v1.job_path(job_id), v1.read_job)
        if job.job_id != job_id:
            raise wrong_shape_error("get", ValueError("another job's id"))
        return self._client.secrets.hide_in_job(job)

    async def list_page(
        self,
        *,
        page_size: int,
        page_token: str | None = None,
        job_ids: Collection[str] = (),
        created_from_s: float | None = None,  # noqa: ARG002 - v1 can't filter
    ) -> JobPage:
        """v1 can't filter: the whole page comes, and of the jobs that nobody asked for nothing is built."""
        params: dict[str, Any] = {"page_size": page_size}
        if page_token is not None:
            params["page_token"] = page_token
        read = partial(v1.read_some_jobs, job_ids=job_ids) if job_ids else v1.read_job_page
        page = await self._client.send_request("list", "GET", v1.JOBS_PATH, read, params=params)
        return self._client.secrets.hide_in_page(page)

    async def results(self, job: JobView, asked: Collection[str]) -> Answers:
        """All pages, as far as they can be had: a server may give out tokens and refuse to take them back, or answer
        the same page for ever. Only where `total_size` says that everything has come is a token left over no matter."""
        page = await self._results_page(job.job_id, None)
        if page.next_page_token is None:
            return Answers(tuple(item.answer() for item in page.items))
        return await self._all_results(job.job_id, page, asked)

    async def _all_results(self, job_id: str, page: v1.ResultPage, asked: Collection[str]) -> Answers:
        answers = [item.answer() for item in page.items]
        seen = {item.identity for item in page.items}
        missing = set(asked)
        stale = 0
        for _ in range(RESULT_PAGES_MAX):
            missing.difference_update(answer.file_id for answer in answers if answer.answered)
            all_came = stale and page.total_size is not None and len(seen) >= page.total_size
            if page.next_page_token is None or (asked and not missing) or all_came:
                return Answers(tuple(answers))
            if stale == STALE_PAGES_MAX:
                break
            try:
                page = await retry_transient(
                    partial(self._results_page, job_id, page.next_page_token), attempts_max=PAGE_ATTEMPTS_MAX
                )
            except ApiError as error:
                if error.verdict is not Verdict.REFUSED:
                    raise
                return Answers(tuple(answers), f"the API gave out a page token and refuses to take it back ({error})")
            fresh = [item for item in page.items if item.identity not in seen]
            seen.update(item.identity for item in fresh)
            answers.extend(item.answer() for item in fresh)
            stale = 0 if fresh else stale + 1
        return Answers(tuple(answers), "the API answers pages of results without end")

    async def _results_page(self, job_id: str, token: str | None) -> v1.ResultPage:
        params = None if token is None else {"page_token": token}
        path = v1.job_path(job_id) + "/results"
        return await self._client.send_request("results", "GET", path, v1.read_result_page, params=params)


async def project_of_file(client: ApiClient, file_id: str) -> str | None:
    """The project that holds a file, by the file list, which both versions share."""
    params = {"file_ids": [file_id], "page_size": 1}
    found = await client.send_request("files", "GET", files.FILES_PATH, files.read_stored_files, params=params)
    here = (text(each.project_id) for each in found if file_key(each.id) == file_key(file_id))
    return next(here, None)


class FileList:
    """The project's files, a page at a time."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def page(self, token: str | None) -> tuple[list[str], str | None]:
        """The file IDs of a page and the token of the next."""
        params: dict[str, Any] = {"page_size": files.PAGE_SIZE_MAX}
        if token is not None:
            params["page_token"] = token
        return await self._client.send_request("files", "GET", files.FILES_PATH, files.read_file_page, params=params)
