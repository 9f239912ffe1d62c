"""Calls of the API, logged at DEBUG and traced: which, about what, how long they took (with what they waited), how they
ended."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext

import anyio

from classify_batch.errors import ApiError
from classify_batch.model import Answers, Attempt, JobPage, JobView
from classify_batch.operations.telemetry import Telemetry
from classify_batch.ports import Api

log = logging.getLogger("classify_batch")


def observe_calls(api: Api, telemetry: Telemetry | None) -> Api:
    """The API, whose calls are logged and traced, if anybody wants to see them when the run begins."""
    return ObservedApi(api, telemetry) if telemetry is not None or log.isEnabledFor(logging.DEBUG) else api


class ObservedApi:
    """`ports.Api` over another one."""

    def __init__(self, api: Api, telemetry: Telemetry | None) -> None:
        self._api = api
        self._telemetry = telemetry

    @property
    def requests(self) -> int:
        """Requests that were sent."""
        return self._api.requests

    @property
    def idempotent(self) -> bool:
        """As the API says."""
        return self._api.idempotent

    def transaction_id(self, attempt: Attempt) -> str | None:
        """As the API says."""
        return self._api.transaction_id(attempt)

    async def project_of_file(self, file_id: str) -> str | None:
        """Looks for the project of a file."""
        with self._observing("files"):
            return await self._api.project_of_file(file_id)

    async def create(self, attempt: Attempt, about_to_send: Callable[[], Awaitable[None]]) -> JobView:
        """Creates a job."""
        with self._observing("create", chunk=attempt.key.chunk) as end:
            job = await self._api.create(attempt, about_to_send)
            end.job = job.job_id
            return job

    async def get(self, job_id: str) -> JobView:
        """Gets one job."""
        with self._observing("get", job=job_id) as end:
            job = await self._api.get(job_id)
            end.words = f": {job.status}"
            return job

    async def list_page(
        self,
        *,
        page_size: int,
        page_token: str | None = None,
        job_ids: Collection[str] = (),
        created_from_s: float | None = None,
    ) -> JobPage:
        """Lists jobs."""
        with self._observing("list") as end:
            page = await self._api.list_page(
                page_size=page_size, page_token=page_token, job_ids=job_ids, created_from_s=created_from_s
            )
            end.words = f": {len(page.jobs)} jobs"
            return page

    async def cancel(self, job_id: str) -> JobView:
        """Cancels a job."""
        with self._observing("cancel", job=job_id):
            return await self._api.cancel(job_id)

    async def results(self, job: JobView, asked: Collection[str]) -> Answers:
        """Reads the answers of a job."""
        with self._observing("results", job=job.job_id) as end:
            answers = await self._api.results(job, asked)
            end.words = f": {len(answers.items)} answers"
            return answers

    @contextmanager
    def _observing(self, call: str, chunk: int | None = None, job: str | None = None) -> Iterator[_End]:
        began_s, end = anyio.current_time(), _End(job)
        telemetry = self._telemetry
        try:
            with nullcontext() if telemetry is None else telemetry.tracing_call(call, chunk, job):
                yield end
        except ApiError as error:
            end.words = f": {error}"  # secrets are hidden in every error
            raise
        except BaseException:
            end.words = ": interrupted"
            raise
        finally:
            seconds = anyio.current_time() - began_s
            log.debug("%s in %.3f s%s", call, seconds, end.words, extra={"chunk": chunk, "job": end.job})


class _End:
    """How a call ended. `words`: what more there is to say of it."""

    __slots__ = ("job", "words")

    def __init__(self, job: str | None) -> None:
        self.job = job
        self.words = ""
