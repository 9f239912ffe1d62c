"""v1 of the classifier's API behind ports.Api."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial

from classify_batch.errors import ApiError, Verdict
from classify_batch.limits.retry import retry_transient
from classify_batch.llamacloud.batch_api import BatchApi
from classify_batch.llamacloud.client import ApiClient
from classify_batch.llamacloud.results_pages import read_all_pages
from classify_batch.model import Answers, Attempt, JobPage, JobView
from classify_batch.protocol import v1
from classify_batch.protocol.answers import ResultsPage
from classify_batch.protocol.requests import QueryParams
from classify_batch.settings.job_spec import JobSpec, JobSpecs

PAGE_CALLS_MAX = 4
"""A page behind the first is tried again by itself: to begin again with the first page might never come to an end."""


class ApiV1(BatchApi):
    """Jobs of many files. v1 has no cancel, no filter and no idempotency key."""

    def __init__(self, client: ApiClient, spec: JobSpec, second: JobSpec | None = None) -> None:
        """`second`: what jobs for second answers are created with."""
        super().__init__(client, v1.JOBS)
        self._specs = JobSpecs(spec, second)
        self._names_jobs_by_id: bool | None = None

    @property
    def idempotent(self) -> bool:
        return False

    def transaction_id(self, attempt: Attempt) -> str | None:  # noqa: ARG002 - v1 has no idempotency key
        return None

    async def create(self, attempt: Attempt, about_to_send: Callable[[], Awaitable[None]]) -> JobView:
        body = v1.make_create_body(self._specs.spec_of_part(attempt.part), attempt.api_ids)
        return await self._send_create(body, about_to_send)

    async def list_page(
        self,
        *,
        page_size: int,
        page_token: str | None = None,
        job_ids: Collection[str] = (),
        created_from_s: float | None = None,  # noqa: ARG002 - v1 can't filter
    ) -> JobPage:
        """v1 can't filter: the whole page comes, and jobs that are not in `job_ids` are dropped while it is decoded."""
        params: QueryParams = {"page_size": page_size}
        if page_token is not None:
            params = {**params, "page_token": page_token}
        read = partial(v1.read_jobs_by_id, job_ids=job_ids) if job_ids else v1.read_jobs_page
        return await self._list_jobs(read, params)

    async def cancel(self, job_id: str) -> JobView:  # noqa: ARG002 - no job of v1 can be cancelled
        raise ApiError("cancel", Verdict.PERSON, "v1 of the API can't cancel a job")

    async def results(self, job: JobView, asked: Collection[str]) -> Answers:
        """The answers of all pages, as far as they can be had; the pages end early when all that was asked for came.

        Something between here and the API may answer with the results of another job. The job's own are withheld then,
        and may come by asking again. An API whose results name no job by its ID shows so by answering all that was
        asked for.
        """
        page = await self._read_results_page(job.job_id, None)
        of_another_job = self._is_of_another_job(page, job.job_id)
        is_last = not page.next_page_token and len(page.items) >= (page.total_size or 0)
        if is_last and not of_another_job:  # nearly always
            return Answers(tuple(v1.answers_of(page.items)))
        missing = set(asked)

        def is_enough(fresh: Sequence[v1.AnyItem]) -> bool:
            answers = [item.answer() for item in fresh]
            missing.difference_update(answer.file_id for answer in answers if answer.answered)
            return bool(asked) and not missing  # with nothing asked for, every page is read

        async def read_page(token: str) -> ResultsPage[v1.AnyItem]:
            nonlocal of_another_job
            page = await retry_transient(partial(self._read_results_page, job.job_id, token), calls_max=PAGE_CALLS_MAX)
            of_another_job = self._is_of_another_job(page, job.job_id) or of_another_job
            return page

        found = await read_all_pages(page, read_page, lambda item: item.identity, is_enough)
        answers = tuple(item.answer() for item in found.items)
        if of_another_job and not (asked and not missing):
            words = "the API answers with the results of another job"
            return Answers(answers, words, may_come=True, of_another_job=True)
        if of_another_job and self._names_jobs_by_id is None:
            self._names_jobs_by_id = False
        return Answers(answers, found.incomplete, may_come=found.short)

    def _is_of_another_job(self, page: ResultsPage[v1.AnyItem], job_id: str) -> bool:
        names_own = v1.names_own_job(page.items, job_id)
        if names_own:
            self._names_jobs_by_id = True
        return names_own is False and self._names_jobs_by_id is not False

    async def _read_results_page(self, job_id: str, token: str | None) -> ResultsPage[v1.AnyItem]:
        params = None if token is None else {"page_token": token}
        path = v1.job_path(job_id) + "/results"
        return await self._client.send_request("results", "GET", path, v1.read_result_page, params=params)
