"""The verbs of v1's reference (`classifier:jobs create | list | get | get-results`), each as a single call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from classify_batch.errors import ApiError, Verdict
from classify_batch.limits.retry import retry_transient
from classify_batch.llamacloud.client import ApiClient
from classify_batch.llamacloud.raw_bodies import Body, RawAnswer, make_body_reader
from classify_batch.llamacloud.single_calls import CALLS_MAX, CreateRequest, SingleCalls, unfinished_job_error
from classify_batch.protocol import v1
from classify_batch.protocol.answers import Page, ResultsPage
from classify_batch.settings.job_spec import JobSpec
from classify_batch.vocabulary import FINISHED_STATUSES


class SingleCallsV1(SingleCalls[v1.Job]):
    """Single calls of v1. Every method raises ApiError."""

    def __init__(self, client: ApiClient) -> None:
        super().__init__(client, v1.JOBS)

    async def create_job(
        self, spec: JobSpec, create_request: CreateRequest, about_to_send: Callable[[], Awaitable[None]]
    ) -> Body:
        """Creates a job. Tries again only where it is certain that the job was not accepted: v1 has no idempotency
        key, so a second create could be paid too."""
        body = v1.make_create_body(spec, create_request.file_ids)
        job = await retry_transient(partial(self._send_create, body, about_to_send), calls_max=CALLS_MAX)
        return job.body

    async def get_results_page(self, job_id: str, page_token: str | None = None) -> Body:
        """A page of a job's results. LATER also where the API refuses because the job isn't finished."""
        return (await self._get_results_page(job_id, page_token)).body

    async def _read_results_page(self, job_id: str, page_token: str | None) -> ResultsPage[Body]:
        page = await self._get_results_page(job_id, page_token)
        return ResultsPage(page.body["items"], page.answer.next_token, page.answer.total)

    async def _get_results_page(self, job_id: str, page_token: str | None) -> RawAnswer[Page[v1.ResultItem]]:
        read = make_body_reader(v1.RESULTS.read, self._client.secrets)
        try:
            return await self._read_with_retries(
                "results", f"{v1.job_path(job_id)}/results", read, {"page_token": page_token}
            )
        except ApiError as error:
            if error.verdict is not Verdict.REFUSED:
                raise
            # The status of a refusal doesn't say why: 400 is a bad token as well as a job that isn't finished.
            status = (await self._get_job_answer(job_id)).answer.status
            if v1.known_status(status) in FINISHED_STATUSES:
                raise
            raise unfinished_job_error(job_id, status, str(error)) from None
