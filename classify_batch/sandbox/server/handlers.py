"""What the calls of both versions have in common: the project, its jobs, and who answers for its files."""

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
from classify_batch.sandbox.server.admission import admit
from classify_batch.sandbox.server.fault_responses import NO_JOB_WORDS
from classify_batch.sandbox.server.request_checks import PAGE_SIZE_DEFAULT, page_size, project_of
from classify_batch.sandbox.server.responses import refuse
from classify_batch.sandbox.server.uploads import UploadStore


class JobHandlers:
    """The calls of one version; each gives its answer's body, or raises `Refusal`."""

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
        return project_of(request, self._options.project_id)

    def _job(self, request: Request, now_s: float) -> SandboxJob:
        job = self._job_table.get(request.path_params["job_id"], self._project_id(request), now_s, self.version)
        if job is None:
            raise refuse(404, NO_JOB_WORDS)
        return job

    def _accept(self, create_request: CreateRequest, project_id: str, now_s: float) -> SandboxJob:
        admit(create_request, project_id, self._options, self._upload_store, self._job_table, now_s)
        if self._create_faults.happens("same_job_id"):
            latest = self._job_table.latest(project_id, self.version)
            if latest is not None:
                return latest
        job = self._keep(self._job_table.draft(create_request, project_id, now_s))
        if self._create_faults.happens("overlap"):
            self._keep(self._job_table.draft_overlap(job, now_s))
        return job

    def _keep(self, job: SandboxJob) -> SandboxJob:
        if self._ledger is not None:
            self._ledger.append(job)
        return self._job_table.add(job)

    def _jobs_page_size(self, request: Request, most: int) -> int:
        return page_size(request, min(PAGE_SIZE_DEFAULT, most), most, clamp=self._options.list_page_size_clamp)

    async def _classifier_for(self, config: JobConfig) -> Classifier:
        classifier = self._upload_store.cached_classifier(config)
        if classifier is None:
            classifier = await anyio.to_thread.run_sync(self._upload_store.make_classifier, config)
        return classifier
