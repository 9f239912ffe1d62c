"""What the handlers of both versions share: they find and accept jobs, and get the classifier of a job's config."""

from __future__ import annotations

import anyio.to_thread
from starlette.requests import Request

from classify_batch.sandbox.documents.project import Classifier, JobConfig, Version
from classify_batch.sandbox.faults.request_faults import CreateFaultSampler
from classify_batch.sandbox.jobs.create_request import CreateRequest
from classify_batch.sandbox.jobs.job_table import JobTable
from classify_batch.sandbox.jobs.ledger import Ledger
from classify_batch.sandbox.jobs.sandbox_job import SandboxJob
from classify_batch.sandbox.options import Options
from classify_batch.sandbox.server.admission import admit_create
from classify_batch.sandbox.server.fault_responses import NO_JOB_WORDS
from classify_batch.sandbox.server.request_checks import PAGE_SIZE_DEFAULT, read_page_size, read_project_id
from classify_batch.sandbox.server.responses import make_refusal
from classify_batch.sandbox.server.uploads import UploadStore


class JobHandlers:
    """Handles the requests about jobs in one version. Each handler gives its response's body, or raises `Refusal`."""

    version: Version

    def __init__(
        self,
        options: Options,
        job_table: JobTable,
        upload_store: UploadStore,
        ledger: Ledger | None,
        create_faults: CreateFaultSampler,
    ) -> None:
        self._options, self._job_table, self._upload_store, self._ledger = options, job_table, upload_store, ledger
        self._create_faults = create_faults

    def _project_id(self, request: Request) -> str:
        return read_project_id(request, self._options.project_id)

    def _find_requested_job(self, request: Request, now_s: float) -> SandboxJob:
        job = self._job_table.find_job(request.path_params["job_id"], self._project_id(request), now_s, self.version)
        if job is None:
            raise make_refusal(404, NO_JOB_WORDS)
        return job

    def _accept_create(self, create_request: CreateRequest, project_id: str, now_s: float) -> SandboxJob:
        admit_create(create_request, project_id, self._options, self._upload_store, self._job_table, now_s)
        if self._create_faults.happens_to_next("same_job_id"):
            latest = self._job_table.latest_job(project_id, self.version)
            if latest is not None:
                return latest
        job = self._append_to_ledger(self._job_table.draft_job(create_request, project_id, now_s))
        if self._create_faults.happens_to_next("overlap"):
            self._append_to_ledger(self._job_table.draft_overlapping_job(job, now_s))
        return job

    def _append_to_ledger(self, job: SandboxJob) -> SandboxJob:
        # The ledger first: a job that is answered for must be found again after a SIGKILL.
        if self._ledger is not None:
            self._ledger.append_job(job)
        return self._job_table.add_job(job)

    def _read_jobs_page_size(self, request: Request, size_max: int) -> int:
        return read_page_size(
            request, min(PAGE_SIZE_DEFAULT, size_max), size_max, clamp=self._options.list_page_size_clamp
        )

    async def _classifier_for(self, config: JobConfig) -> Classifier:
        classifier = self._upload_store.cached_classifier(config)
        if classifier is None:  # ranking a folder takes seconds, and other requests must not wait for it
            classifier = await anyio.to_thread.run_sync(self._upload_store.make_classifier, config)
        return classifier
