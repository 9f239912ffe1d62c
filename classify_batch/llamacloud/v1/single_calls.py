"""The verbs of v1's reference (`classifier:jobs create | list | get | get-results`), in the server's own words, and
what v2's (`jobs_v2`) have in common with them.

What a run needs of a job is `ports.Api`, and no more; a person who asks for one job wants all that the server said. So
these calls give the JSON as it came, once it has the documented shape, and without what nobody may see.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from math import isfinite
from typing import Any, NamedTuple

from classify_batch.errors import ApiError, Verdict
from classify_batch.limits.retry import retry_transient
from classify_batch.llamacloud.client import ApiClient, wrong_shape_error
from classify_batch.llamacloud.redaction import MASK, Secrets
from classify_batch.llamacloud.v1.batch_api import RESULT_PAGES_MAX, STALE_PAGES_MAX
from classify_batch.protocol import v1, v2
from classify_batch.protocol.sanitize import clean
from classify_batch.settings.job_spec import JobSpec
from classify_batch.vocabulary import FINISHED_STATUSES

Body = dict[str, Any]

ATTEMPTS_MAX = 5
"""Somebody waits for a single call: an API that is down is told after seconds, and not after a run's long patience."""


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


class Calls:
    """What the single calls of both versions are made of. Every method raises ApiError."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    def _reader(self, check: Callable[[bytes], object]) -> Callable[[bytes], Body]:
        return reader(check, self._client.secrets)

    async def _page(self, call: str, path: str, read: Callable[[bytes], Body], params: Mapping[str, Any]) -> Body:
        given = {name: value for name, value in params.items() if value is not None and value != ()}
        return await retry_transient(
            partial(self._client.send_request, call, "GET", path, read, params=given), attempts_max=ATTEMPTS_MAX
        )

    async def _job(
        self, job_id: str, path: str, read: Callable[[bytes], Body], params: Mapping[str, Any] | None = None
    ) -> Body:
        job = await retry_transient(
            partial(self._client.send_request, "get", "GET", path, read, params=params), attempts_max=ATTEMPTS_MAX
        )
        return the_one("get", job, job_id)


class SingleCallsV1(Calls):
    """Single calls of v1. Every method raises ApiError."""

    async def create(self, spec: JobSpec, order: CreateRequest, about_to_send: Callable[[], Awaitable[None]]) -> Body:
        """Creates a job; tried again only where it was surely not accepted."""
        once = partial(
            self._client.send_request,
            "create",
            "POST",
            v1.JOBS_PATH,
            self._reader(v1.read_job),
            body=v1.create_body(spec, order.file_ids),
            about_to_send=about_to_send,
        )
        return await retry_transient(once, attempts_max=ATTEMPTS_MAX)

    async def get(self, job_id: str) -> Body:
        return await self._job(job_id, v1.job_path(job_id), self._reader(v1.read_job))

    async def list_page(self, *, page_size: int | None = None, page_token: str | None = None) -> Body:
        params = {"page_size": page_size, "page_token": page_token}
        return await self._page("list", v1.JOBS_PATH, self._reader(v1.read_job_page), params)

    async def results_page(self, job_id: str, page_token: str | None = None) -> Body:
        """A page of a job's results; LATER also where the API refuses because the job isn't finished."""
        path = f"{v1.job_path(job_id)}/results"
        try:
            return await self._page("results", path, self._reader(v1.read_result_page), {"page_token": page_token})
        except ApiError as error:
            if error.verdict is not Verdict.REFUSED:
                raise
            status = (await self.get(job_id))["status"]
            raise error if status in FINISHED_STATUSES else unfinished(job_id, status, str(error)) from None

    async def results(self, job_id: str) -> Results:
        """All pages, as far as they can be had: a server may give out tokens and refuse to take them back, or answer
        the same page for ever."""
        page = await self.results_page(job_id)
        items, total, stale = list(page["items"]), page.get("total_size"), 0
        seen = {_identity(item) for item in items}
        for _ in range(RESULT_PAGES_MAX):
            token = page.get("next_page_token")
            all_came = stale > 0 and isinstance(total, int) and len(seen) >= total
            if not token or all_came:
                return Results({"items": items, "next_page_token": None, "total_size": total})
            if stale == STALE_PAGES_MAX:
                break
            try:
                page = await self.results_page(job_id, str(token))
            except ApiError as error:
                if error.verdict is not Verdict.REFUSED:
                    raise
                said = f"the API gave out a page token and refuses to take it back ({error})"
                return Results({"items": items, "next_page_token": token, "total_size": total}, said)
            fresh = [item for item in page["items"] if _identity(item) not in seen]
            seen.update(map(_identity, fresh))
            items += fresh
            stale = 0 if fresh else stale + 1
        said = "the API answers pages of results without end"
        return Results({"items": items, "next_page_token": page.get("next_page_token"), "total_size": total}, said)


def unfinished(job_id: str, status: str, words: str = "results: the job is not finished") -> ApiError:
    """The error for results of a job that has none yet."""
    hint = f"`classify-batch jobs get {shlex.quote(job_id)}` shows when it is finished; then give the same command"
    return ApiError("results", Verdict.LATER, f"{words}; the job is {clean(status)}", hint=hint)


def _identity(item: Any) -> str:
    """What tells a result from another: its id, or all of it where the server gives none."""
    return str(item["id"]) if item.get("id") else json.dumps(item, sort_keys=True)


def the_one(call: str, job: Body, job_id: str) -> Body:
    """The job, if it is the one that was asked for. Raises ApiError."""
    if job["id"] != job_id:
        raise wrong_shape_error(call, ValueError("another job's id"))
    return job


# --- The server's own words -----------------------------------------------------------------------------------------


_TOLD_APART = frozenset(
    name
    for body in (v1.JobBody, v1.ItemBody, v1.ResultBody, v1.PageBody, v2.JobBody, v2.ConfigurationBody, v2.ParsingBody)
    for name in body.__annotations__
    if name != "error_message"
) | {"description", "name", "external_file_id", "file_type"}
"""Fields by which a program decides, or which are the answer: a header's value may be the same word."""


def reader(check: Callable[[bytes], object], secrets: Secrets) -> Callable[[bytes], Body]:
    """Reads all of a body that `check` doesn't refuse (by a ValueError)."""

    def read(data: bytes) -> Body:
        check(data)
        return as_said(data, secrets)

    return read


def as_said(data: bytes, secrets: Secrets) -> Body:
    """A JSON object as it came, fit to be written as JSON again, and without secrets. Raises ValueError."""
    try:
        body: Body = json.loads(data, parse_constant=_none, parse_float=_finite)
        return {name: _veiled(name, value, secrets) for name, value in body.items()}
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _none(_name: str) -> None:
    """NaN and the infinities are no JSON: whoever reads our output could not read them."""


def _finite(text: str) -> float | None:
    number = float(text)
    return number if isfinite(number) else None


def _veiled(name: str, value: Any, secrets: Secrets) -> Any:
    """A value without webhook headers: a server may tell of those of any job, and not of ours only."""
    if name == "webhook_headers" and value is not None:
        return dict.fromkeys(value, MASK) if isinstance(value, dict) else MASK
    if isinstance(value, str):
        return value if name in _TOLD_APART else secrets.hide(value)
    if isinstance(value, dict):
        return {key: _veiled(key, each, secrets) for key, each in value.items()}
    return [_veiled(name, each, secrets) for each in value] if isinstance(value, list) else value
