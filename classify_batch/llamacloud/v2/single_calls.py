"""The verbs of v2's reference (`classify create | list | get | cancel`), in the server's own words.

A create may be sent again under its `transaction_id`: it then gives the job that was made before, if one was. So a lost
answer costs nothing, as long as the same ID is sent again. Where it stays unknown whether a create was accepted, the
error says under which ID.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn

from classify_batch.errors import ApiError, Verdict
from classify_batch.file_keys import same_id
from classify_batch.limits.retry import retry_transient
from classify_batch.llamacloud.client import ApiClient
from classify_batch.llamacloud.raw_bodies import Body, RawAnswer
from classify_batch.llamacloud.single_calls import (
    CALLS_MAX,
    CreateRequest,
    SingleCalls,
    require_job_id,
    unfinished_job_error,
)
from classify_batch.protocol import v2
from classify_batch.protocol.answers import ResultsPage, rules_of_job
from classify_batch.protocol.sanitize import printable_line
from classify_batch.settings.job_spec import JobSpec
from classify_batch.vocabulary import ANSWERED_STATUSES, FINISHED_STATUSES, JobStatus


class SingleCallsV2(SingleCalls[v2.Job]):
    """Single calls of v2. Every method raises ApiError."""

    def __init__(self, client: ApiClient) -> None:
        super().__init__(client, v2.JOBS, {"expand": "usage"})

    async def create_job(
        self, spec: JobSpec, create_request: CreateRequest, about_to_send: Callable[[], Awaitable[None]]
    ) -> Body:
        """Creates the job of one file. AMBIGUOUS where it may have been accepted, and no attempt got the job back."""
        (file_id,) = create_request.file_ids
        ambiguous: list[ApiError] = []
        body = v2.make_create_body(spec, file_id, create_request.transaction_id)

        async def send_once() -> RawAnswer[v2.Job]:
            try:
                return await self._send_create(body, about_to_send)
            except ApiError as error:
                if error.verdict is Verdict.AMBIGUOUS:
                    ambiguous.append(error)
                raise self._client.as_repeatable(error) from error

        try:
            job = await retry_transient(send_once, calls_max=CALLS_MAX)
        except ApiError as error:
            if not ambiguous:
                raise
            raise ambiguous_error(error) from None
        require_same_create(job.answer, spec, create_request)
        return job.body

    async def list_jobs(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        status: str | None = None,
        job_ids: Sequence[str] = (),
        created_at_on_or_after: str | None = None,
        created_at_on_or_before: str | None = None,
    ) -> Body:
        return await self._list_jobs(
            {
                "page_size": page_size,
                "page_token": page_token,
                "status": status,
                "job_ids": tuple(job_ids),
                "created_at_on_or_after": created_at_on_or_after,
                "created_at_on_or_before": created_at_on_or_before,
            }
        )

    async def _read_results_page(self, job_id: str, page_token: str | None) -> ResultsPage[Body]:  # noqa: ARG002
        """The answer inside a job, in the shape of v1's page of results: one item, or none for a job that failed."""
        job = await self._get_job_answer(job_id)
        status = v2.translate_status(job.answer.status)
        if status not in FINISHED_STATUSES:
            raise unfinished_job_error(job_id, job.answer.status)
        items = [result_item_of(job.body)] if status in ANSWERED_STATUSES else []
        return ResultsPage(items, None, len(items))

    async def cancel_job(self, job_id: str) -> Body:
        """Stops a job. If a second attempt is refused since the job is cancelled, the first one did it: no error."""
        path = f"{v2.job_path(job_id)}/cancel"
        failures: list[ApiError] = []

        async def send_once() -> RawAnswer[v2.Job]:
            try:
                return await self._client.send_request("cancel", "POST", path, self._read_job_body)
            except ApiError as error:
                failures.append(error)
                raise

        try:
            return require_job_id("cancel", await retry_transient(send_once, calls_max=CALLS_MAX), job_id).body
        except ApiError as error:
            if error.verdict is not Verdict.REFUSED:
                raise
            job = await self._get_job_answer(job_id)
            # One attempt that was refused did nothing; of several, an earlier one may have cancelled the job.
            if len(failures) > 1 and v2.translate_status(job.answer.status) == JobStatus.CANCELLED:
                return job.body
            raise


def ambiguous_error(error: ApiError) -> ApiError:
    """The error of the last attempt, as one that leaves unknown whether a create was accepted."""
    return ApiError(error.call, Verdict.AMBIGUOUS, str(error), status=error.status, detail=error.detail)


def require_same_create(job: v2.Job, spec: JobSpec, create_request: CreateRequest) -> None:
    """Raises ApiError for a job that another create made before, under the same transaction ID."""
    rules = None if job.configuration is None else rules_of_job(job.configuration.rules)
    if job.file_input is not None and not same_id(job.file_input, create_request.file_ids[0]):
        raise_transaction_taken(create_request, job, "for another file")
    if rules is not None and rules != {(rule.type, rule.description) for rule in spec.rules}:
        raise_transaction_taken(create_request, job, "by other rules")


def raise_transaction_taken(create_request: CreateRequest, job: v2.Job, what: str) -> NoReturn:
    words = (
        f"the transaction ID {create_request.transaction_id!r} belongs to the job {printable_line(job.id)}, made {what}"
    )
    hint = "leave --transaction-id out, or choose another; nothing was made"
    raise ApiError("create", Verdict.PERSON, f"create: {words}", hint=hint)


def result_item_of(job: Body) -> Body:
    return {
        "id": job["id"],
        "classify_job_id": job["id"],
        "created_at": job.get("created_at"),
        "updated_at": job.get("updated_at"),
        "file_id": job.get("file_input"),
        "result": job.get("result"),
    }
