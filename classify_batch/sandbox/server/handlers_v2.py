"""v2: one job holds one file and carries its answer; it can be cancelled and deleted.

Where the vendor documents nothing, it does this: a job shows only under the version and the project that it was
created in; a transaction ID is looked up once the body is well-formed, before anything is asked of the project or the
plan, and is free again once its job is deleted; `usage` is null in its parts until the job has ended; more than the
creates a second are 429 before the body is read; a bad page token is 422.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.requests import Request

from classify_batch.protocol.v2 import PAGE_SIZE_MAX
from classify_batch.sandbox.documents.project import Classifier, JobConfig
from classify_batch.sandbox.faults.request_faults import CreateFaultSampler
from classify_batch.sandbox.jobs.create_request import parse_create_request
from classify_batch.sandbox.jobs.job_table import JobTable
from classify_batch.sandbox.jobs.ledger import Ledger
from classify_batch.sandbox.jobs.sandbox_job import SandboxJob
from classify_batch.sandbox.options import Options
from classify_batch.sandbox.server import bodies_v1 as bodies
from classify_batch.sandbox.server.bodies_v2 import deleted_json, job_json, status_word_of
from classify_batch.sandbox.server.fault_responses import RATE_WORDS
from classify_batch.sandbox.server.handlers import JobHandlers
from classify_batch.sandbox.server.meter import WindowLimit
from classify_batch.sandbox.server.request_checks import (
    parse_create_v2,
    read_body,
    read_page_position,
    read_status_filter,
    read_time_filter_ms,
)
from classify_batch.sandbox.server.responses import make_429_refusal, make_refusal
from classify_batch.sandbox.server.uploads import UploadStore

JobFilter = Callable[[SandboxJob], bool]


class JobHandlersV2(JobHandlers):
    """Handles v2's requests about jobs."""

    version = "v2"

    def __init__(
        self,
        options: Options,
        job_table: JobTable,
        upload_store: UploadStore,
        ledger: Ledger | None,
        create_faults: CreateFaultSampler,
    ) -> None:
        super().__init__(options, job_table, upload_store, ledger, create_faults)
        per_s_max = options.creates_per_s
        self._create_limit = None if per_s_max is None else WindowLimit(per_s_max)

    async def create_job(self, request: Request, now_s: float) -> str:
        if self._create_limit is not None and not self._create_limit.try_to_pass(now_s):
            raise make_429_refusal(RATE_WORDS, self._options.faults.retry_after_s)
        create_request = parse_create_request(parse_create_v2(await read_body(request)))
        project_id = self._project_id(request)
        known = None
        if create_request.transaction_id is not None:
            known = self._job_table.find_by_transaction(create_request.transaction_id, project_id, now_s)
        job = self._accept_create(create_request, project_id, now_s) if known is None else known
        return await self._encode_job(job, now_s)

    async def get_job(self, request: Request, now_s: float) -> str:
        return await self._encode_job(self._find_requested_job(request, now_s), now_s, usage=asks_for_usage(request))

    async def list_jobs(self, request: Request, now_s: float) -> str:
        project_id = self._project_id(request)
        size = self._read_jobs_page_size(request, min(self._options.list_page_size_max, PAGE_SIZE_MAX))
        list_name = f"v2 jobs of {project_id}"
        after = read_page_position(request, list_name)
        among = self._select_filtered_jobs(request, project_id, now_s)
        page = self._job_table.read_page(project_id, size, after, now_s, "v2", among)
        classifiers: dict[JobConfig, Classifier] = {}
        for job in page.jobs:
            if job.config not in classifiers and self._shows_answers(job, now_s):
                classifiers[job.config] = await self._classifier_for(job.config)
        usage, options = asks_for_usage(request), self._options
        with_classifier = (
            (job, classifiers[job.config] if self._shows_answers(job, now_s) else None) for job in page.jobs
        )
        items = (job_json(job, now_s, classifier, options, usage=usage) for job, classifier in with_classifier)
        token = None if page.next_position is None else bodies.encode_page_token(list_name, page.next_position)
        return bodies.page_json(items, token, page.total)

    async def cancel_job(self, request: Request, now_s: float) -> str:
        job = self._find_requested_job(request, now_s)
        if job.is_finished(now_s):
            raise make_refusal(400, f"Classify job is {status_word_of(job, now_s)} and can't be cancelled")
        if self._ledger is not None:
            self._ledger.append_cancellation(job, now_s)
        return await self._encode_job(self._job_table.cancel_job(job, now_s), now_s)

    async def delete_job(self, request: Request, now_s: float) -> str:
        job = self._find_requested_job(request, now_s)
        if not job.is_finished(now_s):
            status = status_word_of(job, now_s)
            raise make_refusal(400, f"Classify job is {status} and can't be deleted: cancel it first")
        if self._ledger is not None:
            self._ledger.append_deletion(job)
        self._job_table.delete_job(job)
        return deleted_json(job)

    async def _encode_job(self, job: SandboxJob, now_s: float, *, usage: bool = False) -> str:
        classifier = await self._classifier_for(job.config) if self._shows_answers(job, now_s) else None
        return job_json(job, now_s, classifier, self._options, usage=usage)

    def _shows_answers(self, job: SandboxJob, now_s: float) -> bool:
        """Whether a job has answers that don't lag any more."""
        return job.is_answered(now_s - self._options.faults.results_lag_s)

    def _select_filtered_jobs(self, request: Request, project_id: str, now_s: float) -> Sequence[SandboxJob] | None:
        """The jobs that the query asks for; None: all of the project's."""
        filters = read_list_filters(request, now_s)

        def is_wanted(job: SandboxJob) -> bool:
            return all(passes(job) for passes in filters)

        job_ids = request.query_params.getlist("job_ids")
        if job_ids:
            return [job for job in self._job_table.select_by_id(job_ids, project_id, "v2") if is_wanted(job)]
        return self._job_table.select_jobs(project_id, "v2", is_wanted) if filters else None


def asks_for_usage(request: Request) -> bool:
    return "usage" in request.query_params.getlist("expand")


def read_list_filters(request: Request, now_s: float) -> list[JobFilter]:
    """What a job must be to be listed: each filter of the query as a test of a job."""
    filters: list[JobFilter] = []
    if (word := read_status_filter(request)) is not None:
        filters.append(lambda job: status_word_of(job, now_s) == word)
    if (first_ms := read_time_filter_ms(request, "created_at_on_or_after")) is not None:
        filters.append(lambda job: shown_created_ms(job) >= first_ms)
    if (last_ms := read_time_filter_ms(request, "created_at_on_or_before")) is not None:
        filters.append(lambda job: shown_created_ms(job) <= last_ms)
    return filters


def shown_created_ms(job: SandboxJob) -> int:
    """`created_at` in milliseconds, as it is shown: cut off, not rounded."""
    return int(round(job.shown_created_at_s * 1000, 3))
