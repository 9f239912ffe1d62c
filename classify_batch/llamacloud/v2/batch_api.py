"""v2 of the classifier's API behind ports.Api: one file a job, and an idempotency key.

The key (`transaction_id`) is a hash of the run, the file and all that decides the answer. So a create that is sent
again, by this process or a later one, gives the job that was made before. The attempt's number is part of the hash,
since a second attempt is meant to be a new job. Nothing is part of it that changes when another process takes over.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from hashlib import sha256

from classify_batch.clock import to_iso
from classify_batch.errors import ApiError, Verdict
from classify_batch.file_keys import is_parse_job
from classify_batch.llamacloud.batch_api import BatchApi, require_job
from classify_batch.llamacloud.client import ApiClient
from classify_batch.model import Answers, Attempt, JobPage, JobView
from classify_batch.protocol import v2
from classify_batch.protocol.parse_jobs import parse_job_path, read_parse_job
from classify_batch.protocol.requests import QueryParams, QueryValue
from classify_batch.settings.job_spec import JobSpec

JOB_IDS_PER_REQUEST = 100
"""How many jobs one request polls: the largest page of the API, and a URL that any proxy takes."""

_WITH_USAGE: QueryParams = {"expand": "usage"}


class ApiV2(BatchApi):
    """Jobs of one file. v2 lists jobs by their IDs, and a finished job holds its answer."""

    idempotent = True

    def __init__(self, client: ApiClient, spec: JobSpec, run_id: str, *, ask_bill: bool = False) -> None:
        """`ask_bill`: get a job by itself where the list doesn't show what was billed."""
        super().__init__(client, v2.JOBS, _WITH_USAGE)
        self._spec = spec
        self._ask_for_bill = ask_bill
        self._bills_in_list = True
        parsing = spec.parsing_configuration
        self._transaction_base = json.dumps(
            [
                run_id,
                # Sorted: a config whose rules stand in another order means the same job.
                sorted((rule.type, rule.description) for rule in spec.rules),
                spec.mode,
                None if parsing is None else parsing.model_dump(mode="json", exclude_none=True),
            ]
        )

    def transaction_id(self, attempt: Attempt) -> str:
        """The idempotency key: the same for the same attempt of the same run by the same rules, in any process."""
        text = json.dumps([self._transaction_base, attempt.file_ids, attempt.key.attempt])
        return sha256(text.encode()).hexdigest()

    async def create(self, attempt: Attempt, about_to_send: Callable[[], Awaitable[None]]) -> JobView:
        """Creates a job. After a lost response it may be sent again: the same transaction gives the same job."""
        (file_id,) = attempt.api_ids
        body = v2.make_create_body(self._spec, file_id, self.transaction_id(attempt))
        try:
            return await self._send_create(body, about_to_send)
        except ApiError as error:
            raise self._client.as_repeatable(error) from error

    async def list_page(
        self,
        *,
        page_size: int,
        page_token: str | None = None,
        job_ids: Collection[str] = (),
        created_from_s: float | None = None,
    ) -> JobPage:
        """A page of jobs. With `job_ids`, a page holds some of these, and the next page the next of them."""
        if not job_ids:
            params: dict[str, QueryValue] = {"page_size": min(page_size, v2.PAGE_SIZE_MAX)}
            if page_token is not None:
                params["page_token"] = page_token
            if created_from_s is not None:
                params["created_at_on_or_after"] = to_iso(created_from_s)
            return await self._list_jobs(v2.read_jobs_page, params)
        # Page tokens of this list are our own: the index of the first job ID of the page.
        start = 0 if page_token is None else int(page_token)
        wanted = list(job_ids)[start : start + min(page_size, JOB_IDS_PER_REQUEST)]
        page = await self._read_jobs_by_id(wanted)
        end = start + len(wanted)
        return JobPage(page.jobs, str(end) if end < len(job_ids) else None)

    async def _read_jobs_by_id(self, job_ids: list[str]) -> JobPage:
        """Jobs with what was billed, if the server shows it in lists: `expand` is documented for single jobs only."""
        read = partial(v2.read_jobs_by_id, job_ids=frozenset(job_ids))
        params: QueryParams = {"page_size": len(job_ids), "job_ids": job_ids}
        if self._bills_in_list:
            try:
                return await self._list_jobs(read, {**params, **_WITH_USAGE})
            except ApiError as error:
                if error.verdict is not Verdict.REFUSED:
                    raise
        page = await self._list_jobs(read, params)
        self._bills_in_list = False  # the same request without `expand` was served: so `expand` was refused
        return page

    async def results(self, job: JobView, asked: Collection[str]) -> Answers:
        """The answer that came with the job. Where it or a wanted bill is missing, gets the job once more. What came
        before is kept: a single job may lag behind the list.

        Where the job doesn't name its file, the answer is about the one that was `asked` for: a job has no other.
        """
        answer, billed = job.answer, job.credits
        if answer is None or not answer.answered or (self._ask_for_bill and billed is None):
            job = await self.get(job.job_id)
            answer = answer if answer is not None and answer.answered else job.answer
            billed = billed if job.credits is None else job.credits
        if answer is not None and answer.file_id is None and len(asked) == 1:
            (file_id,) = asked
            answer = answer._replace(file_id=file_id)
        return Answers(() if answer is None else (answer,), billed=billed)

    async def project_of_file(self, file_id: str) -> str | None:
        if not is_parse_job(file_id):
            return await super().project_of_file(file_id)
        job = await self._client.send_request("get", "GET", parse_job_path(file_id), read_parse_job)
        return job.project_id if job.id == file_id else None

    async def cancel(self, job_id: str) -> JobView:
        job = await self._client.send_request("cancel", "POST", v2.job_path(job_id) + "/cancel", v2.read_job)
        return self._client.secrets.hide_in_job(require_job("cancel", job, job_id))
