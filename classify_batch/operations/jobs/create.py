"""Creates jobs by single calls: one job on v1, one for each file on v2.

The same command again creates its jobs again, and pays again, unless a transaction ID says that they are the same. So a
command that ends in the middle says which jobs were created, and of which it is unknown whether they were accepted; its
exit status keeps a scheduler from repeating it.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from uuid import uuid4

from classify_batch.errors import (
    ApiError,
    ClassifyBatchError,
    ExitStatus,
    InterruptedEarlyError,
    SourceError,
    UsageError,
    Verdict,
    WorldError,
)
from classify_batch.file_keys import file_keys
from classify_batch.inputs.ids import shorten
from classify_batch.inputs.open import InputOptions, SourceSpec, needs_project, open_source
from classify_batch.inputs.parse_jobs import ONLY_V2, find_parse_jobs
from classify_batch.inputs.reading import Reading
from classify_batch.llamacloud.client import ApiClient
from classify_batch.llamacloud.file_client import FileList
from classify_batch.llamacloud.raw_bodies import Body
from classify_batch.llamacloud.single_calls import CreateRequest
from classify_batch.operations.jobs.single_calls import (
    LIST_JOBS_FIRST,
    PERHAPS_ACCEPTED,
    connect_client,
    final_error,
    require_capability,
    single_calls_for,
)
from classify_batch.operations.own_task import run_in_own_task
from classify_batch.settings import Settings
from classify_batch.streams.closing import closing
from classify_batch.vocabulary import FILES_PER_JOB_MAX


class CreateJobs:
    """The creates of one command, and how far they have come.

    Args:
        transaction_id: v2's idempotency key, for one file; None: a new one for each.
        on_job: is given each job as it is created.

    Raises:
        UsageError: v1 has no transaction IDs.
    """

    def __init__(self, settings: Settings, transaction_id: str | None, on_job: Callable[[Body], None]) -> None:
        if transaction_id is not None:
            version = settings.api.version
            require_capability(
                settings.api.capabilities.idempotent_creates, f"{version} of the API has no transaction IDs"
            )
        self._settings = settings
        self._transaction_id = transaction_id
        self._on_job = on_job
        self._in_flight: CreateRequest | None = None
        self._created = 0

    async def create_jobs(
        self, file_ids: Sequence[str], source: SourceSpec | None = None, reading: Reading | None = None
    ) -> None:
        """Creates a job of `file_ids` and what `source` holds, on v2 a job for each file. Repeated IDs are sent once.

        Raises:
            UsageError: settings or IDs don't fit; nothing was sent.
            ApiError, WorldError: the message says how many jobs were created before, and what may have been accepted.
        """
        await run_in_own_task(partial(self._create_all, file_ids, source, reading or Reading()))

    async def _create_all(self, file_ids: Sequence[str], source: SourceSpec | None, reading: Reading) -> None:
        async with connect_client(self._settings) as client:
            requests = self._make_requests(await gather_file_ids(self._settings, client, file_ids, source, reading))
            calls = single_calls_for(self._settings, client)
            for request in requests:
                try:
                    job = await calls.create_job(self._settings.job, request, partial(self._note_in_flight, request))
                except ApiError as error:
                    raise self._error_of_create(error, request, len(requests)) from None
                self._in_flight = None  # answered: an interruption from here on is not ambiguous
                self._created += 1
                self._on_job(job)

    async def _note_in_flight(self, request: CreateRequest) -> None:
        self._in_flight = request

    def _make_requests(self, file_ids: list[str]) -> list[CreateRequest]:
        # v1: one job for all files, and no transaction ID, which v1 doesn't have.
        if self._settings.api.capabilities.files_per_job_max > 1:
            return [CreateRequest(tuple(file_ids))]
        if self._transaction_id is not None and len(file_ids) > 1:
            raise UsageError(
                f"--transaction-id stands for one job, so for one file, and {len(file_ids)} were given",
                hint="leave it out: each job then gets its own",
            )
        # An ID for each job also where none was given: a retry inside this command then creates no second job.
        return [CreateRequest((file_id,), self._transaction_id or uuid4().hex) for file_id in file_ids]

    # --- Errors and interruptions --------------------------------------------------------------------------------

    def interrupted_error(self, signal_name: str) -> ClassifyBatchError:
        """The error of an interrupted command; what it says depends on how far the creates came."""
        message = f"create: interrupted by {signal_name}"
        if self._in_flight is not None:
            return self._add_created_jobs(self._ambiguous_error(message, self._in_flight))
        if self._created:
            return self._add_created_jobs(WorldError(message, hint="give the command again for the rest"))
        return InterruptedEarlyError(f"interrupted by {signal_name}", hint="the same command begins again")

    def _error_of_create(self, error: ApiError, request: CreateRequest, requests: int) -> ClassifyBatchError:
        if request.transaction_id and error.verdict is Verdict.AMBIGUOUS:
            ambiguous = self._ambiguous_error(str(error), request)
            if self._transaction_id is None:  # the same command would send another ID, and pay again
                ambiguous.exit_status = ExitStatus.PERSON
            return self._add_created_jobs(ambiguous)
        if requests == 1:
            return error
        final = final_error(error)
        several = WorldError(f"{final}; this was the file {request.file_ids[0]}", hint=final.hint)
        several.exit_status = final.exit_status
        return self._add_created_jobs(several)

    def _ambiguous_error(self, message: str, request: CreateRequest) -> WorldError:
        """It is unknown whether the create was accepted. On v2 it can be sent again under its transaction ID."""
        if not request.transaction_id:
            return WorldError(f"{message}; {PERHAPS_ACCEPTED}", hint=LIST_JOBS_FIRST)
        message = f"{message}; the job may have been accepted, under the transaction ID {request.transaction_id}"
        if self._transaction_id is not None:
            return WorldError(message, hint="the same command creates the job, or shows the one that is there")
        options = f"--file-id {shlex.quote(request.file_ids[0])} --transaction-id {request.transaction_id}"
        return WorldError(message, hint=f"the command with {options} creates the job, or shows the one that is there")

    def _add_created_jobs(self, error: WorldError) -> WorldError:
        """The error, and how many jobs had been created before it: the same command would create them again."""
        if not self._created:
            return error
        hint = f"{error.hint}; leave out the files whose jobs are printed, or they are paid twice"
        combined = WorldError(f"{error}; {self._created} jobs had been created", hint=hint)
        combined.exit_status = ExitStatus.PERSON
        return combined


async def gather_file_ids(
    settings: Settings, client: ApiClient, file_ids: Sequence[str], source: SourceSpec | None, reading: Reading
) -> list[str]:
    """The IDs to classify, each once, in its first spelling. Stops reading at more IDs than a job can hold."""
    wanted: dict[str, str] = {}
    options = InputOptions(reading)
    if needs_project(source):
        files = FileList(client)
        options = replace(options, pages=files.read_objects if options.wants_columns else files.read_page)
    sources = [open_source(file_ids)] if file_ids else []
    sources += [open_source(source, options)] if source is not None else []
    for each in sources:
        async with closing(each) as batches:
            async for batch in batches:
                for key, file_id in zip(file_keys(batch), batch, strict=True):
                    wanted.setdefault(key, file_id)
                if len(wanted) > FILES_PER_JOB_MAX:
                    many_per_job = settings.api.capabilities.files_per_job_max > 1
                    what = "a job holds" if many_per_job else "one command creates jobs for"
                    raise UsageError(
                        f"{what} at most {FILES_PER_JOB_MAX} files, and more were given",
                        hint="`classify-batch run` creates as many jobs as are needed",
                    )
    if not wanted:
        raise SourceError("no file was given", hint="give files by --file-id ID, or by --input SOURCE")
    given = list(wanted.values())
    if not settings.api.capabilities.takes_parse_jobs and (parse_jobs := find_parse_jobs(given)):
        raise SourceError(f"{shorten(parse_jobs[0])} is a parse job, and v1 of the API takes files only", hint=ONLY_V2)
    return given
