"""v1: jobs of many files, and their results apart.

Where the vendor documents nothing, it does this: results of a job that isn't finished are 400; those of an
ERROR or CANCELLED job are an empty page; jobs show only under the project they were created in; a bad page
token is 422.
"""

from __future__ import annotations

from starlette.requests import Request

from classify_batch.sandbox.faults.fault_options import ResultsLag
from classify_batch.sandbox.faults.request_faults import CreateFaultSampler
from classify_batch.sandbox.jobs.create_request import parse_create_request
from classify_batch.sandbox.jobs.job_table import JobTable
from classify_batch.sandbox.jobs.ledger import Ledger
from classify_batch.sandbox.jobs.result_pages import page_of
from classify_batch.sandbox.jobs.sandbox_job import SandboxJob
from classify_batch.sandbox.options import Options
from classify_batch.sandbox.server import bodies_v1 as bodies
from classify_batch.sandbox.server.handlers import JobHandlers
from classify_batch.sandbox.server.request_checks import checked, position, read_body
from classify_batch.sandbox.server.responses import refuse
from classify_batch.sandbox.server.uploads import UploadStore


class JobHandlersV1(JobHandlers):
    """The calls of v1."""

    version = "v1"

    def __init__(
        self,
        options: Options,
        job_table: JobTable,
        upload_store: UploadStore,
        ledger: Ledger | None,
        create_faults: CreateFaultSampler,
    ) -> None:
        super().__init__(options, job_table, upload_store, ledger, create_faults)
        size = options.results_page_size
        self._results_page_size = options.faults.results_page_size if size is None else size

    async def create(self, request: Request, now_s: float) -> str:
        create_request = parse_create_request(checked(await read_body(request)))
        return self._show(self._accept(create_request, self._project_id(request), now_s), now_s)

    async def get(self, request: Request, now_s: float) -> str:
        return self._show(self._job(request, now_s), now_s)

    async def list(self, request: Request, now_s: float) -> str:
        project_id = self._project_id(request)
        size = self._jobs_page_size(request, self._options.list_page_size_max)
        place = f"jobs of {project_id}"
        page = self._job_table.page(project_id, size, position(request, place), now_s)
        token = None if page.next_position is None else bodies.to_token(place, page.next_position)
        return bodies.page_json((self._show(job, now_s) for job in page.jobs), token, page.total)

    async def results(self, request: Request, now_s: float) -> str:
        job = self._job(request, now_s)
        if not job.is_finished(now_s):
            raise refuse(400, "Classify job is not finished")
        place = f"results of {job.job_id}"
        start = position(request, place) or 0
        page = page_of(job, start, self._results_page_size, self._lag(job, now_s))
        token = None if page.next_start is None else bodies.to_token(place, page.next_start)
        classifier = await self._classifier_for(job.config)
        items = (bodies.to_json(bodies.item_body(job, entry, classifier, self._options)) for entry in page.entries)
        return bodies.page_json(items, token, page.total)

    def _lag(self, job: SandboxJob, now_s: float) -> ResultsLag | None:
        """What a finished job's results show instead of all that there is; None: nothing is held back."""
        if not job.is_answered(now_s):
            return "nothing"
        faults = self._options.faults
        return None if job.is_answered(now_s - faults.results_lag_s) else faults.results_lag_shows

    def _show(self, job: SandboxJob, now_s: float) -> str:
        return bodies.job_json(job, now_s, self._options)
