"""v1 of the classifier's API behind ports.Api."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

from classify_batch.api.http import Http, wrong_shape
from classify_batch.backoff import patiently
from classify_batch.errors import ApiError, Verdict
from classify_batch.records import FILES_PER_JOB_MAX, Answer, Answers, JobPage, JobSpec, JobView
from classify_batch.wire import files, v1

Shape = TypeVar("Shape")

RESULT_PAGES_MAX = 2 * FILES_PER_JOB_MAX
"""A page holds at least one answer; twice that many pages is a server that never ends."""

PAGE_TRIES = 4
"""A page behind the first is tried again by itself: who begins again with many pages may never come to the end."""

STALE_PAGES_MAX = 5
"""So many pages in a row that bring nothing new are one page, answered for ever; fewer may be answers given twice."""


class ApiV1:
    """Jobs of many files. No cancel, no filter, no idempotency key."""

    def __init__(self, http: Http, spec: JobSpec) -> None:
        self._http = http
        self._spec = spec

    @property
    def clock_skew_s(self) -> float | None:
        return self._http.clock_skew_s

    @property
    def requests(self) -> int:
        return self._http.requests

    async def create(self, file_ids: Sequence[str], about_to_send: Callable[[], Awaitable[None]]) -> JobView:
        body = v1.create_body(self._spec, file_ids)
        answer = await self._http.call("create", "POST", v1.JOBS_PATH, body=body, about_to_send=about_to_send)
        return _read("create", v1.read_job, answer)

    async def get(self, job_id: str) -> JobView:
        job = _read("get", v1.read_job, await self._http.call("get", "GET", _job_path(job_id)))
        if job.job_id != job_id:
            raise wrong_shape("get", ValueError("another job's id"))
        return job

    async def list_page(
        self,
        *,
        page_size: int,
        page_token: str | None = None,
        job_ids: Collection[str] = (),  # noqa: ARG002 - v1 can't filter
    ) -> JobPage:
        params: dict[str, Any] = {"page_size": page_size}
        if page_token is not None:
            params["page_token"] = page_token
        return _read("list", v1.read_job_page, await self._http.call("list", "GET", v1.JOBS_PATH, params=params))

    async def results(self, job: JobView, asked: Collection[str]) -> Answers:
        """All pages, as far as they can be had: a server may give out tokens and refuse to take them back, or answer
        the same page for ever. Only where `total_size` says that everything has come is a token left over no matter."""
        answers: list[Answer] = []
        seen: set[object] = set()
        missing = set(asked)
        token: str | None = None
        stale = 0
        for _ in range(RESULT_PAGES_MAX):
            tries = 1 if token is None else PAGE_TRIES
            try:
                items, token, total = await patiently(partial(self._results_page, job.job_id, token), tries=tries)
            except ApiError as error:
                if token is None or error.verdict is not Verdict.REFUSED:
                    raise
                return Answers(tuple(answers), f"the API gave out a page token and refuses to take it back ({error})")
            fresh = [item for item in items if _identity(item) not in seen]
            seen.update(_identity(item) for item in fresh)
            page = [_read("results", v1.read_answer, item) for item in fresh]
            answers.extend(page)
            missing.difference_update(answer.file_id for answer in page if answer.answered)
            stale = 0 if fresh else stale + 1
            if token is None or (asked and not missing) or (stale and total is not None and len(seen) >= total):
                return Answers(tuple(answers))
            if stale == STALE_PAGES_MAX:
                break
        return Answers(tuple(answers), "the API answers pages of results without end")

    async def _results_page(self, job_id: str, token: str | None) -> tuple[list[object], str | None, int | None]:
        params = None if token is None else {"page_token": token}
        answer = await self._http.call("results", "GET", _job_path(job_id) + "/results", params=params)
        total = answer.get("total_size") if isinstance(answer, Mapping) else None
        return *_read("results", v1.read_page, answer), total if isinstance(total, int) else None


class FileList:
    """The project's files, a page at a time."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def page(self, token: str | None) -> tuple[list[str], str | None]:
        """The file IDs of a page and the token of the next."""
        params: dict[str, Any] = {"page_size": files.PAGE_SIZE_MAX}
        if token is not None:
            params["page_token"] = token
        return _read(
            "files", files.read_file_page, await self._http.call("files", "GET", files.FILES_PATH, params=params)
        )


def _job_path(job_id: str) -> str:
    """An id from the server, quoted: it can't lead to another path."""
    return f"{v1.JOBS_PATH}/{quote(job_id, safe='').replace('.', '%2E')}"


def _identity(item: object) -> object:
    """What tells one result from another: its id, or all of it where a server gives none."""
    if isinstance(item, dict):
        return (item.get("id"), item.get("file_id")) if item.get("id") else repr(item)
    return repr(item)


def _read(call: str, reader: Callable[[object], Shape], body: object) -> Shape:
    try:
        return reader(body)
    except ValueError as error:
        raise wrong_shape(call, error) from None
