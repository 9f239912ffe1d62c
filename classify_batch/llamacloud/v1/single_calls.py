"""The verbs of v1's reference (`classifier:jobs create | list | get | get-results`), each as a single call."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from classify_batch.errors import ApiError, Verdict
from classify_batch.limits.retry import retry_transient
from classify_batch.llamacloud.raw_bodies import Body
from classify_batch.llamacloud.results_pages import ResultsPage, read_all_pages
from classify_batch.llamacloud.single_calls import (
    ATTEMPTS_MAX,
    CreateRequest,
    Results,
    SingleCalls,
    unfinished_job_error,
)
from classify_batch.protocol import v1
from classify_batch.settings.job_spec import JobSpec
from classify_batch.vocabulary import FINISHED_STATUSES


class SingleCallsV1(SingleCalls):
    """Single calls of v1. Every method raises ApiError."""

    async def create_job(
        self, spec: JobSpec, create_request: CreateRequest, about_to_send: Callable[[], Awaitable[None]]
    ) -> Body:
        """Creates a job. Tries again only where it is certain that the job was not accepted: v1 has no idempotency
        key, so a second create could be paid too."""
        send_once = partial(
            self._client.send_request,
            "create",
            "POST",
            v1.JOBS_PATH,
            self._make_reader(v1.read_job),
            body=v1.make_create_body(spec, create_request.file_ids),
            about_to_send=about_to_send,
        )
        return await retry_transient(send_once, attempts_max=ATTEMPTS_MAX)

    async def get_job(self, job_id: str) -> Body:
        return await self._read_job(job_id, v1.job_path(job_id), self._make_reader(v1.read_job))

    async def list_jobs(self, *, page_size: int | None = None, page_token: str | None = None) -> Body:
        params = {"page_size": page_size, "page_token": page_token}
        return await self._read_page("list", v1.JOBS_PATH, self._make_reader(v1.read_jobs_page), params)

    async def get_results_page(self, job_id: str, page_token: str | None = None) -> Body:
        """A page of a job's results. LATER also where the API refuses because the job isn't finished."""
        path = f"{v1.job_path(job_id)}/results"
        read = self._make_reader(v1.read_result_page)
        try:
            return await self._read_page("results", path, read, {"page_token": page_token})
        except ApiError as error:
            if error.verdict is not Verdict.REFUSED:
                raise
            # The status of a refusal doesn't say why: 400 is a bad token as well as a job that isn't finished.
            status = (await self.get_job(job_id))["status"]
            raise error if status in FINISHED_STATUSES else unfinished_job_error(job_id, status, str(error)) from None

    async def get_results(self, job_id: str) -> Results:
        """The results of all pages, as far as they can be had."""
        first = await self.get_results_page(job_id)
        total_size = first.get("total_size")

        def to_results_page(page: Body) -> ResultsPage[Body]:
            total = total_size if isinstance(total_size, int) else None
            return ResultsPage(page["items"], page.get("next_page_token"), total)

        async def read_page(token: Any) -> ResultsPage[Body]:
            return to_results_page(await self.get_results_page(job_id, str(token)))

        found = await read_all_pages(to_results_page(first), read_page, identify_result)
        page = {"items": found.items, "next_page_token": found.next_page_token, "total_size": total_size}
        return Results(page, found.incomplete)


def identify_result(item: Body) -> str:
    """What tells a result from another: its id, or all of it where the server gives none."""
    return str(item["id"]) if item.get("id") else json.dumps(item, sort_keys=True)
