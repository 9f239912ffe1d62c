"""The verbs of v2's reference (`classify create | list | get | cancel`), in the server's own words.

A create may be sent again under its `transaction_id`: it then gives the job that was made before, if one was. So a lost
answer costs nothing, as long as the same ID is sent again. Where it stays unknown whether a create was accepted, the
error says under which ID.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn

from classify_batch.errors import ApiError, Verdict
from classify_batch.limits.retry import retry_transient
from classify_batch.llamacloud.raw_bodies import Body
from classify_batch.llamacloud.single_calls import (
    ATTEMPTS_MAX,
    CreateRequest,
    Results,
    SingleCalls,
    require_job_id,
    unfinished_job_error,
)
from classify_batch.protocol import v2
from classify_batch.protocol.sanitize import clean
from classify_batch.protocol.v1 import rules_from_body
from classify_batch.settings.job_spec import JobSpec
from classify_batch.vocabulary import ANSWERED_STATUSES, FINISHED_STATUSES, JobStatus


class SingleCallsV2(SingleCalls):
    """Single calls of v2. Every method raises ApiError."""

    async def create_job(
        self, spec: JobSpec, create_request: CreateRequest, about_to_send: Callable[[], Awaitable[None]]
    ) -> Body:
        """Creates the job of one file. AMBIGUOUS where it may have been accepted, and no attempt got the job back."""
        (file_id,) = create_request.file_ids
        ambiguous: list[ApiError] = []
        body = v2.make_create_body(spec, file_id, create_request.transaction_id)
        read = self._make_reader(v2.read_job)

        async def send_once() -> Body:
            try:
                return await self._client.send_request(
                    "create", "POST", v2.JOBS_PATH, read, body=body, about_to_send=about_to_send
                )
            except ApiError as error:
                if error.verdict is Verdict.AMBIGUOUS:
                    ambiguous.append(error)
                raise self._client.as_repeatable(error) from error

        try:
            job = await retry_transient(send_once, attempts_max=ATTEMPTS_MAX)
        except ApiError as error:
            if not ambiguous:
                raise
            raise ambiguous_error(error) from None
        require_same_create(job, spec, create_request)
        return job

    async def get_job(self, job_id: str) -> Body:
        return await self._read_job(job_id, v2.job_path(job_id), self._make_reader(v2.read_job), {"expand": "usage"})

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
        params = {
            "page_size": page_size,
            "page_token": page_token,
            "status": status,
            "job_ids": tuple(job_ids),
            "created_at_on_or_after": created_at_on_or_after,
            "created_at_on_or_before": created_at_on_or_before,
        }
        return await self._read_page("list", v2.JOBS_PATH, self._make_reader(v2.read_jobs_page), params)

    async def get_results(self, job_id: str) -> Results:
        """The answer inside a job, in the shape of v1's page of results: one item, or none for a job that failed.

        LATER: the job isn't finished.
        """
        job = await self.get_job(job_id)
        status = v2.translate_status(job["status"])
        if status not in FINISHED_STATUSES:
            raise unfinished_job_error(job_id, job["status"])
        items = [result_item_of(job)] if status in ANSWERED_STATUSES else []
        return Results({"items": items, "next_page_token": None, "total_size": len(items)})

    async def cancel_job(self, job_id: str) -> Body:
        """Stops a job. If a second attempt is refused since the job is cancelled, the first one did it: no error."""
        read, path = self._make_reader(v2.read_job), f"{v2.job_path(job_id)}/cancel"
        failures: list[ApiError] = []

        async def send_once() -> Body:
            try:
                return await self._client.send_request("cancel", "POST", path, read)
            except ApiError as error:
                failures.append(error)
                raise

        try:
            return require_job_id("cancel", await retry_transient(send_once, attempts_max=ATTEMPTS_MAX), job_id)
        except ApiError as error:
            if error.verdict is not Verdict.REFUSED:
                raise
            job = await self.get_job(job_id)
            # One attempt that was refused did nothing; of several, an earlier one may have cancelled the job.
            if len(failures) > 1 and job["status"] == JobStatus.CANCELLED:
                return job
            raise


def ambiguous_error(error: ApiError) -> ApiError:
    """The error of the last attempt, as one that leaves unknown whether a create was accepted."""
    return ApiError(error.call, Verdict.AMBIGUOUS, str(error), status=error.status, detail=error.detail)


def require_same_create(job: Body, spec: JobSpec, create_request: CreateRequest) -> None:
    """Raises ApiError for a job that another create made before, under the same transaction ID."""
    configuration = job.get("configuration")
    rules = rules_from_body(configuration.get("rules")) if isinstance(configuration, dict) else None
    if job.get("file_input", create_request.file_ids[0]) != create_request.file_ids[0]:
        raise_transaction_taken(create_request, job, "for another file")
    if rules is not None and rules != {(rule.type, rule.description) for rule in spec.rules}:
        raise_transaction_taken(create_request, job, "by other rules")


def raise_transaction_taken(create_request: CreateRequest, job: Body, what: str) -> NoReturn:
    words = f"the transaction ID {create_request.transaction_id!r} belongs to the job {clean(job['id'])}, made {what}"
    hint = "leave --transaction-id out, or choose another; nothing was made"
    raise ApiError("create", Verdict.PERSON, f"create: {words}", hint=hint)


def result_item_of(job: Body) -> dict[str, Any]:
    return {
        "id": job["id"],
        "classify_job_id": job["id"],
        "created_at": job.get("created_at"),
        "updated_at": job.get("updated_at"),
        "file_id": job.get("file_input"),
        "result": job.get("result"),
    }
