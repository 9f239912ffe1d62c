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
from classify_batch.sandbox.jobs.result_pages import read_results_page
from classify_batch.sandbox.jobs.sandbox_job import SandboxJob
from classify_batch.sandbox.options import Options
from classify_batch.sandbox.server import bodies_v1 as bodies
from classify_batch.sandbox.server.handlers import JobHandlers
from classify_batch.sandbox.server.request_checks import parse_create_v1, read_body, read_page_position
from classify_batch.sandbox.server.responses import make_refusal
from classify_batch.sandbox.server.uploads import UploadStore


class JobHandlersV1(JobHandlers):
    """Handles v1's requests about jobs."""

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

    async def create_job(self, request: Request, now_s: float) -> str:
        create_request = parse_create_request(parse_create_v1(await read_body(request)))
        return self._encode_job(self._accept_create(create_request, self._project_id(request), now_s), now_s)

    async def get_job(self, request: Request, now_s: float) -> str:
        return self._encode_job(self._find_requested_job(request, now_s), now_s)

    async def list_jobs(self, request: Request, now_s: float) -> str:
        project_id = self._project_id(request)
        size = self._read_jobs_page_size(request, self._options.list_page_size_max)
        list_name = f"jobs of {project_id}"
        page = self._job_table.read_page(project_id, size, read_page_position(request, list_name), now_s)
        token = None if page.next_position is None else bodies.encode_page_token(list_name, page.next_position)
        return bodies.page_json((self._encode_job(job, now_s) for job in page.jobs), token, page.total)

    async def get_results(self, request: Request, now_s: float) -> str:
        job = self._find_requested_job(request, now_s)
        if not job.is_finished(now_s):
            raise make_refusal(400, "Classify job is not finished")
        list_name = f"results of {job.job_id}"
        start = read_page_position(request, list_name) or 0
        page = read_results_page(job, start, self._results_page_size, self._results_lag(job, now_s))
        token = None if page.next_start is None else bodies.encode_page_token(list_name, page.next_start)
        classifier = await self._classifier_for(job.config)
        items = (bodies.encode_json(bodies.item_body(job, entry, classifier, self._options)) for entry in page.entries)
        return bodies.page_json(items, token, page.total)

    def _results_lag(self, job: SandboxJob, now_s: float) -> ResultsLag | None:
        """What the results of a finished job are limited to; None: they are shown whole."""
        if not job.is_answered(now_s):
            return "nothing"
        faults = self._options.faults
        return None if job.is_answered(now_s - faults.results_lag_s) else faults.results_lag_shows

    def _encode_job(self, job: SandboxJob, now_s: float) -> str:
        return bodies.job_json(job, now_s, self._options)
