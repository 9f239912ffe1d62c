"""What the single calls of both versions share: one call about one job, for a person.

A run needs of a job what `ports.Api` gives, and no more. A single call gives the JSON as the server sent it
(`raw_bodies`).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from classify_batch.errors import ApiError, Verdict
from classify_batch.limits.retry import retry_transient
from classify_batch.llamacloud.client import ApiClient, wrong_shape_error
from classify_batch.llamacloud.raw_bodies import Body, make_body_reader
from classify_batch.protocol.sanitize import clean

ATTEMPTS_MAX = 5
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


class SingleCalls:
    """What the single calls of both versions are made of. Every method raises ApiError."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    def _make_reader(self, check: Callable[[bytes], object]) -> Callable[[bytes], Body]:
        return make_body_reader(check, self._client.secrets)

    async def _read_page(self, call: str, path: str, read: Callable[[bytes], Body], params: Mapping[str, Any]) -> Body:
        given = {name: value for name, value in params.items() if value is not None and value != ()}
        return await retry_transient(
            partial(self._client.send_request, call, "GET", path, read, params=given), attempts_max=ATTEMPTS_MAX
        )

    async def _read_job(
        self, job_id: str, path: str, read: Callable[[bytes], Body], params: Mapping[str, Any] | None = None
    ) -> Body:
        job = await retry_transient(
            partial(self._client.send_request, "get", "GET", path, read, params=params), attempts_max=ATTEMPTS_MAX
        )
        return require_job_id("get", job, job_id)


def unfinished_job_error(job_id: str, status: str, message: str = "results: the job is not finished") -> ApiError:
    """The error for results of a job that has none yet."""
    hint = f"`classify-batch jobs get {shlex.quote(job_id)}` shows when it is finished; then give the same command"
    return ApiError("results", Verdict.LATER, f"{message}; the job is {clean(status)}", hint=hint)


def require_job_id(call: str, job: Body, job_id: str) -> Body:
    """The job, if it is the one that was asked for. Raises ApiError."""
    if job["id"] != job_id:
        raise wrong_shape_error(call, ValueError("another job's id"))
    return job
