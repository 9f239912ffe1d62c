"""v2: one job holds one file and carries its answer; it can be cancelled and deleted.

Where the vendor documents nothing, it does this: a job shows only under the version and the project that it was
created in; a transaction ID is looked up once the body is well-formed, before anything is asked of the project or the
plan, and is free again once its job is deleted; `usage` is null in its parts until the job has ended; more than the
creates a second are 429 before the body is looked at; a bad page token is 422.
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
from classify_batch.sandbox.server.bodies_v2 import deleted_json, job_json, status_of
from classify_batch.sandbox.server.fault_responses import RATE_WORDS
from classify_batch.sandbox.server.handlers import JobHandlers
from classify_batch.sandbox.server.meter import WindowLimit
from classify_batch.sandbox.server.request_checks import checked_v2, moment_ms, position, read_body, status_word
from classify_batch.sandbox.server.responses import refuse, too_many
from classify_batch.sandbox.server.uploads import UploadStore

Test = Callable[[SandboxJob], bool]


class JobHandlersV2(JobHandlers):
    """The calls of v2."""

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
        most_per_s = options.creates_per_s
        self._creates = None if most_per_s is None else WindowLimit(most_per_s)

    async def create(self, request: Request, now_s: float) -> str:
        if self._creates is not None and not self._creates.admit(now_s):
            raise too_many(RATE_WORDS, self._options.faults.retry_after_s)
        create_request = parse_create_request(checked_v2(await read_body(request)))
        project_id = self._project_id(request)
        known = None
        if create_request.transaction_id is not None:
            known = self._job_table.of_transaction(create_request.transaction_id, project_id, now_s)
        return await self._show(self._accept(create_request, project_id, now_s) if known is None else known, now_s)

    async def get(self, request: Request, now_s: float) -> str:
        return await self._show(self._job(request, now_s), now_s, usage=_wants_usage(request))

    async def list(self, request: Request, now_s: float) -> str:
        project_id = self._project_id(request)
        size = self._jobs_page_size(request, min(self._options.list_page_size_max, PAGE_SIZE_MAX))
        place = f"v2 jobs of {project_id}"
        after = position(request, place)
        page = self._job_table.page(project_id, size, after, now_s, "v2", self._among(request, project_id, now_s))
        classifiers: dict[JobConfig, Classifier] = {}
        for job in page.jobs:
            if job.config not in classifiers and self._shows_answers(job, now_s):
                classifiers[job.config] = await self._classifier_for(job.config)
        usage, options = _wants_usage(request), self._options
        shown = (
            job_json(
                job, now_s, classifiers[job.config] if self._shows_answers(job, now_s) else None, options, usage=usage
            )
            for job in page.jobs
        )
        token = None if page.next_position is None else bodies.to_token(place, page.next_position)
        return bodies.page_json(shown, token, page.total)

    async def cancel(self, request: Request, now_s: float) -> str:
        job = self._job(request, now_s)
        if job.is_finished(now_s):
            raise refuse(400, f"Classify job is {status_of(job, now_s)} and can't be cancelled")
        if self._ledger is not None:
            self._ledger.cancel(job, now_s)
        return await self._show(self._job_table.cancel(job, now_s), now_s)

    async def delete(self, request: Request, now_s: float) -> str:
        job = self._job(request, now_s)
        if not job.is_finished(now_s):
            raise refuse(400, f"Classify job is {status_of(job, now_s)} and can't be deleted: cancel it first")
        if self._ledger is not None:
            self._ledger.delete(job)
        self._job_table.delete(job)
        return deleted_json(job)

    async def _show(self, job: SandboxJob, now_s: float, *, usage: bool = False) -> str:
        classifier = await self._classifier_for(job.config) if self._shows_answers(job, now_s) else None
        return job_json(job, now_s, classifier, self._options, usage=usage)

    def _shows_answers(self, job: SandboxJob, now_s: float) -> bool:
        """Whether a job has answers that don't lag any more."""
        return job.is_answered(now_s - self._options.faults.results_lag_s)

    def _among(self, request: Request, project_id: str, now_s: float) -> Sequence[SandboxJob] | None:
        """The jobs that the query asks for; None: all of the project's."""
        tests = _tests(request, now_s)
        job_ids = request.query_params.getlist("job_ids")
        if job_ids:
            return [job for job in self._job_table.some(job_ids, project_id, "v2") if all(test(job) for test in tests)]
        if not tests:
            return None
        return self._job_table.all(project_id, "v2", lambda job: all(test(job) for test in tests))


def _wants_usage(request: Request) -> bool:
    return "usage" in request.query_params.getlist("expand")


def _tests(request: Request, now_s: float) -> list[Test]:
    tests: list[Test] = []
    if (word := status_word(request)) is not None:
        tests.append(lambda job: status_of(job, now_s) == word)
    if (first_ms := moment_ms(request, "created_at_on_or_after")) is not None:
        tests.append(lambda job: _created_ms(job) >= first_ms)
    if (last_ms := moment_ms(request, "created_at_on_or_before")) is not None:
        tests.append(lambda job: _created_ms(job) <= last_ms)
    return tests


def _created_ms(job: SandboxJob) -> int:
    """`created_at` as it is shown: cut off, not rounded."""
    return int(round(job.shown_created_at_s * 1000, 3))
