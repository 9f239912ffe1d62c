"""What the calls of both versions have in common: the project, its jobs, and who answers for its files."""

from __future__ import annotations

import anyio.to_thread
from starlette.requests import Request

from classify_batch.sandbox.documents.project import JobConfig, Judge, Version
from classify_batch.sandbox.faults.request_faults import CreateFaultSampler
from classify_batch.sandbox.jobs.create_request import CreateRequest
from classify_batch.sandbox.jobs.job_table import JobTable
from classify_batch.sandbox.jobs.ledger import Ledger
from classify_batch.sandbox.jobs.sandbox_job import Job
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
        world: JobTable,
        shelf: UploadStore,
        ledger: Ledger | None,
        create_faults: CreateFaultSampler,
    ) -> None:
        self._options, self._world, self._shelf, self._ledger = options, world, shelf, ledger
        self._create_faults = create_faults

    def _project_id(self, request: Request) -> str:
        return project_of(request, self._options.project_id)

    def _job(self, request: Request, now_s: float) -> Job:
        job = self._world.get(request.path_params["job_id"], self._project_id(request), now_s, self.version)
        if job is None:
            raise refuse(404, NO_JOB_WORDS)
        return job

    def _accept(self, order: CreateRequest, project_id: str, now_s: float) -> Job:
        admit(order, project_id, self._options, self._shelf, self._world, now_s)
        if self._create_faults.happens("same_job_id"):
            latest = self._world.latest(project_id, self.version)
            if latest is not None:
                return latest
        job = self._keep(self._world.draft(order, project_id, now_s))
        if self._create_faults.happens("overlap"):
            self._keep(self._world.draft_overlap(job, now_s))
        return job

    def _keep(self, job: Job) -> Job:
        if self._ledger is not None:
            self._ledger.append(job)
        return self._world.add(job)

    def _jobs_page_size(self, request: Request, most: int) -> int:
        return page_size(request, min(PAGE_SIZE_DEFAULT, most), most, clamp=self._options.list_page_size_clamp)

    async def _judge(self, brief: JobConfig) -> Judge:
        judge = self._shelf.judge_at_hand(brief)
        if judge is None:
            judge = await anyio.to_thread.run_sync(self._shelf.make_judge, brief)
        return judge
