"""The verbs of v2's reference (`classify create | list | get | cancel`), in the server's own words.

A create may be made again under its `transaction_id`: it then gives the job that was made before, if one was. So a lost
answer costs nothing, as long as the same ID goes out again; what remains in doubt is told with it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn

from classify_batch.errors import ApiError, Verdict
from classify_batch.limits.retry import retry_transient
from classify_batch.llamacloud.v1.single_calls import (
    ATTEMPTS_MAX,
    Body,
    Calls,
    CreateRequest,
    Results,
    the_one,
    unfinished,
)
from classify_batch.protocol import v2
from classify_batch.protocol.sanitize import clean
from classify_batch.protocol.v1 import to_rules
from classify_batch.settings.job_spec import JobSpec
from classify_batch.vocabulary import ANSWERED_STATUSES, FINISHED_STATUSES, JobStatus


class SingleCallsV2(Calls):
    """Single calls of v2. Every method raises ApiError."""

    async def create(self, spec: JobSpec, order: CreateRequest, about_to_send: Callable[[], Awaitable[None]]) -> Body:
        """Creates the job of one file; DOUBTFUL where it may have been accepted and no try brought it back."""
        (file_id,) = order.file_ids
        doubts: list[ApiError] = []
        body = v2.create_body(spec, file_id, order.transaction_id)
        read = self._reader(v2.read_job)

        async def once() -> Body:
            try:
                return await self._client.send_request(
                    "create", "POST", v2.JOBS_PATH, read, body=body, about_to_send=about_to_send
                )
            except ApiError as error:
                if error.verdict is Verdict.DOUBTFUL:
                    doubts.append(error)
                raise self._client.as_repeatable(error) from error

        try:
            job = await retry_transient(once, attempts_max=ATTEMPTS_MAX)
        except ApiError as error:
            if not doubts:
                raise
            raise _doubtful(error) from None
        _refuse_another(job, spec, order)
        return job

    async def get(self, job_id: str) -> Body:
        return await self._job(job_id, v2.job_path(job_id), self._reader(v2.read_job), {"expand": "usage"})

    async def list_page(
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
        return await self._page("list", v2.JOBS_PATH, self._reader(v2.read_job_page), params)

    async def results(self, job_id: str) -> Results:
        """The answer inside a job, in the shape that v1 gives a page of results: an item, or none of a bad job.

        LATER: the job isn't finished.
        """
        job = await self.get(job_id)
        status = v2.our_status(job["status"])
        if status not in FINISHED_STATUSES:
            raise unfinished(job_id, job["status"])
        items = [_item(job)] if status in ANSWERED_STATUSES else []
        return Results({"items": items, "next_page_token": None, "total_size": len(items)})

    async def cancel(self, job_id: str) -> Body:
        """Stops a job. That it is cancelled already is no refusal where an earlier try may have done it."""
        read, path = self._reader(v2.read_job), f"{v2.job_path(job_id)}/cancel"
        failures: list[ApiError] = []

        async def once() -> Body:
            try:
                return await self._client.send_request("cancel", "POST", path, read)
            except ApiError as error:
                failures.append(error)
                raise

        try:
            return the_one("cancel", await retry_transient(once, attempts_max=ATTEMPTS_MAX), job_id)
        except ApiError as error:
            if error.verdict is not Verdict.REFUSED:
                raise
            job = await self.get(job_id)
            if len(failures) > 1 and job["status"] == JobStatus.CANCELLED:
                return job
            raise


def _doubtful(error: ApiError) -> ApiError:
    """What ended the tries, where one of them may have been accepted."""
    return ApiError(error.call, Verdict.DOUBTFUL, str(error), status=error.status, detail=error.detail)


def _refuse_another(job: Body, spec: JobSpec, order: CreateRequest) -> None:
    """Raises ApiError for a job that was made before, by another create under the same transaction ID."""
    told = job.get("configuration")
    rules = to_rules(told.get("rules")) if isinstance(told, dict) else None
    if job.get("file_input", order.file_ids[0]) != order.file_ids[0]:
        _taken(order, job, "for another file")
    if rules is not None and rules != {(rule.type, rule.description) for rule in spec.rules}:
        _taken(order, job, "by other rules")


def _taken(order: CreateRequest, job: Body, what: str) -> NoReturn:
    words = f"the transaction ID {order.transaction_id!r} belongs to the job {clean(job['id'])}, made {what}"
    hint = "leave --transaction-id out, or choose another; nothing was made"
    raise ApiError("create", Verdict.PERSON, f"create: {words}", hint=hint)


def _item(job: Body) -> dict[str, Any]:
    return {
        "id": job["id"],
        "classify_job_id": job["id"],
        "created_at": job.get("created_at"),
        "updated_at": job.get("updated_at"),
        "file_id": job.get("file_input"),
        "result": job.get("result"),
    }
