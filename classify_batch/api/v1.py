"""v1 of the classifier's API behind ports.Api."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from classify_batch.api.http import Http, wrong_shape
from classify_batch.errors import ApiError, Verdict
from classify_batch.records import FILES_PER_JOB_MAX, Answer, JobPage, JobSpec, JobView
from classify_batch.wire import files, v1

Shape = TypeVar("Shape")

RESULT_PAGES_MAX = 2 * FILES_PER_JOB_MAX
"""A page holds at least one answer; twice that many pages is a server that never ends."""


class ApiV1:
    """Jobs of many files. No cancel, no filter, no idempotency key."""

    def __init__(self, http: Http, spec: JobSpec) -> None:
        self._http = http
        self._spec = spec

    @property
    def clock_skew_s(self) -> float:
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

    async def results(self, job: JobView) -> list[Answer]:
        """All pages. Ends at a page that brings nothing new: a server may ignore tokens and answer the same page for
        ever. A server that gives out a token and refuses to take it back leaves the answers unknown: an error, since
        what is asked for again is paid again."""
        answers: list[Answer] = []
        seen: set[object] = set()
        token: str | None = None
        for _ in range(RESULT_PAGES_MAX):
            items, token = await self._results_page(job.job_id, token)
            fresh = [item for item in items if _identity(item) not in seen]
            seen.update(_identity(item) for item in fresh)
            answers.extend(_read("results", v1.read_answer, item) for item in fresh)
            if token is None or not fresh:
                break
        return answers

    async def _results_page(self, job_id: str, token: str | None) -> tuple[list[object], str | None]:
        params = None if token is None else {"page_token": token}
        try:
            answer = await self._http.call("results", "GET", _job_path(job_id) + "/results", params=params)
        except ApiError as error:
            if token is not None and error.verdict is Verdict.REFUSED:
                raise ApiError(
                    "results",
                    Verdict.PERSON,
                    f"results of job {job_id}: the API gave out a page token and refuses to take it back ({error})",
                    status=error.status,
                    hint="make jobs so small that their results fit into one page (plan.files_per_job)",
                ) from error
            raise
        return _read("results", v1.read_page, answer)


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
