"""The verbs of v1's reference (`classifier:jobs create | list | get | get-results`), in the server's own words.

What a run needs of a job is `ports.Api`, and no more; a person who asks for one job wants all that the server said. So
these calls give the JSON as it came, once it has the documented shape, and without what nobody may see.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from math import isfinite
from typing import Any, NamedTuple
from urllib.parse import quote

from classify_batch.api.http import Http, wrong_shape
from classify_batch.api.v1 import RESULT_PAGES_MAX, STALE_PAGES_MAX
from classify_batch.backoff import patiently
from classify_batch.errors import ApiError, Verdict
from classify_batch.records import JobSpec
from classify_batch.wire import v1

Body = dict[str, Any]

TRIES = 5
"""Somebody waits for a single call: an API that is down is told after seconds, and not after a run's long patience."""

MASK = "**********"

SECRET_CHARACTERS_MIN = 6
"""Shorter header values are words ("eu", "json"), and hiding them would spoil what the server said."""


class Results(NamedTuple):
    """A job's results as one page, and why there may be more; empty where everything came."""

    page: Body
    withheld: str = ""


class JobsV1:
    """Single calls of v1. Every method raises ApiError."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def create(
        self, spec: JobSpec, file_ids: Sequence[str], about_to_send: Callable[[], Awaitable[None]]
    ) -> Body:
        """Creates a job; tried again only where it was surely not accepted."""
        secrets = _secrets(spec)
        once = partial(
            self._http.call,
            "create",
            "POST",
            v1.JOBS_PATH,
            reader(v1.read_job, secrets),
            body=v1.create_body(spec, file_ids),
            about_to_send=about_to_send,
        )
        try:
            return await patiently(once, tries=TRIES)
        except ApiError as error:
            raise _without(error, secrets) from None

    async def get(self, job_id: str) -> Body:
        once = partial(self._http.call, "get", "GET", _path_of(job_id), reader(v1.read_job))
        job = await patiently(once, tries=TRIES)
        if job["id"] != job_id:
            raise wrong_shape("get", ValueError("another job's id"))
        return job

    async def list_page(self, *, page_size: int | None = None, page_token: str | None = None) -> Body:
        params = {"page_size": page_size, "page_token": page_token}
        return await self._page("list", v1.JOBS_PATH, reader(v1.read_job_page), params)

    async def results_page(self, job_id: str, page_token: str | None = None) -> Body:
        read = reader(v1.read_result_page)
        return await self._page("results", _path_of(job_id) + "/results", read, {"page_token": page_token})

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

    async def _page(
        self, call: str, path: str, read: Callable[[bytes], Body], params: dict[str, int | str | None]
    ) -> Body:
        given = {name: value for name, value in params.items() if value is not None}
        return await patiently(partial(self._http.call, call, "GET", path, read, params=given), tries=TRIES)


def _path_of(job_id: str) -> str:
    """An id that somebody typed, quoted: it can't lead to another path."""
    return f"{v1.JOBS_PATH}/{quote(job_id, safe='').replace('.', '%2E')}"


def _identity(item: Any) -> str:
    """What tells a result from another: its id, or all of it where the server gives none."""
    return str(item["id"]) if item.get("id") else json.dumps(item, sort_keys=True)


# --- The server's own words -----------------------------------------------------------------------------------------


def reader(check: Callable[[bytes], object], secrets: tuple[str, ...] = ()) -> Callable[[bytes], Body]:
    """Reads all of a body that `check` doesn't refuse (by a ValueError)."""

    def read(data: bytes) -> Body:
        check(data)
        return as_said(data, secrets)

    return read


def as_said(data: bytes, secrets: tuple[str, ...] = ()) -> Body:
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


def _veiled(name: str, value: Any, secrets: tuple[str, ...]) -> Any:
    """A value without webhook headers, which a server may tell of any job, and without the given secrets."""
    if name == "webhook_headers" and isinstance(value, dict):
        return dict.fromkeys(value, MASK)
    if isinstance(value, dict):
        return {key: _veiled(key, each, secrets) for key, each in value.items()}
    if isinstance(value, list):
        return [_veiled("", each, secrets) for each in value]
    return _masked(value, secrets) if isinstance(value, str) else value


def _masked(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


def _secrets(spec: JobSpec) -> tuple[str, ...]:
    return tuple(sorted(set(_header_values(spec)), key=len, reverse=True))


def _header_values(spec: JobSpec) -> Iterator[str]:
    for webhook in spec.webhook_configurations:
        for value in (webhook.webhook_headers or {}).values():
            if len(secret := value.get_secret_value()) >= SECRET_CHARACTERS_MIN:
                yield secret


def _without(error: ApiError, secrets: tuple[str, ...]) -> ApiError:
    """The same error, where the server's words may repeat what we sent."""
    return ApiError(
        error.call,
        error.verdict,
        _masked(str(error), secrets),
        status=error.status,
        detail=_masked(error.detail, secrets),
        file_indexes=error.file_indexes,
        hint=error.hint,
    )
