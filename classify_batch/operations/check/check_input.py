"""Reads the input once and asks the API: for one page of jobs, and for the files by their IDs. It creates nothing.

An error that ends one part of the check becomes a finding, and the other parts go on. Memory doesn't grow with the
input.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from classify_batch.engine.planner import cut_into_chunks
from classify_batch.errors import INPUT_ERRORS, ApiError, ExitStatus, SettingsError
from classify_batch.inputs.dedupe import distinct
from classify_batch.inputs.folder import FolderOptions, FolderScan
from classify_batch.inputs.open import InputOptions, SourceSpec, folder_of, name_of, needs_project, open_source
from classify_batch.inputs.reading import Reading
from classify_batch.inputs.rows import file_ids_of_rows
from classify_batch.limits.retry import retry_transient
from classify_batch.llamacloud.file_client import LOOKUP_IDS_MAX, FileList
from classify_batch.llamacloud.single_calls import CALLS_MAX
from classify_batch.operations.check.assess import (
    OddIds,
    ParseJobs,
    assess_cost,
    assess_disk_space,
    assess_run_dir,
    assess_settings,
    report_duplicates,
)
from classify_batch.operations.check.estimate import PlanSize, UploadSize, estimate_size
from classify_batch.operations.check.findings import (
    INPUT,
    BadLines,
    Finding,
    Severity,
    exit_status_of,
    finding_from_error,
    findings_from_settings_error,
)
from classify_batch.operations.check.project_lookup import ProjectLookup, connect_with_keys
from classify_batch.operations.folder_request import (
    carrying_paths,
    format_skipped,
    protected_paths,
    refuse_globs,
)
from classify_batch.operations.own_task import run_in_own_task
from classify_batch.protocol.sanitize import printable_line
from classify_batch.rundir.cost import estimate_cost_max
from classify_batch.rundir.disk_space import FreeSpace, free_disk_space
from classify_batch.settings import Settings
from classify_batch.settings.accounts import AccountSettings
from classify_batch.streams.cancellation import refusing_stray_cancellation
from classify_batch.streams.closing import closing

LOOKUPS_IN_FLIGHT = 8

REPORT_EVERY_S = 5.0

NumberedIds = tuple[int, list[str]]
"""The place of the first ID in the input, and IDs from there on."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found.

    Attributes:
        files, duplicates: different file IDs in the input, and repeated ones; None where the input can't be read.
        size: of the plan; None where the input or the settings can't be read.
        looked_up: how many files were looked up in the project.
        free: what is free where the run will be; None: nobody knows.
    """

    findings: tuple[Finding, ...]
    files: int | None
    duplicates: int | None
    size: PlanSize | None
    looked_up: int
    free: FreeSpace | None = None

    @property
    def exit_status(self) -> ExitStatus:
        return exit_status_of(self.findings)


async def check_run(
    settings: Settings,
    file_ids: SourceSpec,
    *,
    reading: Reading | None = None,
    run_dir: Path | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    on_progress: Callable[[int, int], None] = lambda _looked_up, _files: None,
) -> Report:
    """Checks everything that can go wrong with a run, before a credit is spent.

    Args:
        file_ids, reading, include, exclude: as for `run`.
        run_dir: where the run will be: it has to be usable, with disk space. None: in the working directory.
        on_progress: called every five seconds with how many files were looked up, and of how many.

    Raises:
        StoreError: temporary files can't be written.
        UsageError: globs without a folder; carried columns with one.
    """
    free = free_disk_space(run_dir or Path())
    folder = choose_documents(file_ids, include, exclude, run_dir, settings.accounts)
    if folder is not None:
        settings = carrying_paths(settings)
    check = partial(check_with_settings, settings, file_ids, reading or Reading(), free, on_progress, folder)
    report = await run_in_own_task(check)
    unusable = () if run_dir is None else assess_run_dir(run_dir)
    return replace(report, findings=(*unusable, *report.findings))


def choose_documents(
    file_ids: SourceSpec,
    include: Sequence[str],
    exclude: Sequence[str],
    run_dir: Path | None,
    accounts: Sequence[AccountSettings] = (),
) -> FolderOptions | None:
    """Which files of a folder are documents; None where the input is none. Raises UsageError for globs then."""
    if folder_of(file_ids) is None:
        refuse_globs(include, exclude)
        return None
    return FolderOptions(include, exclude, protected_paths(run_dir, accounts))


async def check_input(
    error: SettingsError,
    file_ids: SourceSpec,
    *,
    reading: Reading | None = None,
    carry: Sequence[str] = (),
    run_dir: Path | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Report:
    """Checks the input alone, where the settings can't be read; the findings begin with the errors in the settings.

    Args:
        error: why the settings can't be read.
        file_ids, reading, include, exclude: as for `run`; carry: the further columns, as far as they are known.

    Raises:
        StoreError: temporary files can't be written.
    """

    folder = choose_documents(file_ids, include, exclude, run_dir)

    async def check_without_settings() -> Report:
        reader = InputReader(None, (), carry, folder)
        found = await find_in_input(reader, file_ids, reading or Reading())
        return make_report([*findings_from_settings_error(error), *found], reader)

    return await run_in_own_task(check_without_settings)


async def check_with_settings(
    settings: Settings,
    file_ids: SourceSpec,
    reading: Reading,
    free: FreeSpace | None,
    on_progress: Callable[[int, int], None],
    folder: FolderOptions | None,
) -> Report:
    """The check of a run whose settings can be read."""
    findings = [*assess_settings(settings)]
    async with AsyncExitStack() as stack:
        lookups: list[ProjectLookup] = []
        async with closing(connect_with_keys(settings, stack)) as connections:
            async for connected in connections:
                if isinstance(connected, Finding):
                    findings.append(connected)
                else:
                    lookups.append(connected)
        reader = InputReader(settings, lookups, settings.plan.carry, folder)
        findings += await find_in_input(reader, file_ids, reading, on_progress)
        if reader.size is not None:
            findings += assess_disk_space(reader.size, free)
        return replace(make_report(findings, reader), free=free)


async def find_in_input(
    reader: InputReader,
    file_ids: SourceSpec,
    reading: Reading,
    on_progress: Callable[[int, int], None] = lambda _looked_up, _files: None,
) -> list[Finding]:
    """Reads the input, and returns what was found. Without a client, the project's file list is skipped."""
    findings = []
    if reader.can_read_source(file_ids):
        try:
            await run_in_own_task(partial(reader.read_with_progress, file_ids, reading, on_progress))
        except INPUT_ERRORS as error:
            findings.append(finding_from_error(INPUT, error))
        except ApiError as error:
            findings.append(finding_from_error("api", error))
    return [*findings, *reader.bad_lines.findings(), *reader.findings]


def make_report(findings: list[Finding], reader: InputReader) -> Report:
    """The report of a check that has read its input, as far as it could."""
    return Report(tuple(findings), reader.files, reader.duplicates, reader.size, reader.looked_up)


class InputReader:
    """Reads the input: counts its IDs, finds odd ones, looks the files up.

    Attributes:
        files, duplicates, size: None until the input was read to its end. `distinct` reads all of it before it yields
            the first ID, so these are known before the first lookup. Without settings there is no size.
    """

    def __init__(
        self,
        settings: Settings | None,
        lookups: Sequence[ProjectLookup],
        carry: Sequence[str],
        folder: FolderOptions | None = None,
    ) -> None:
        """`lookups`: one for each key that the API has answered to; the first also lists the project's files.
        `folder`: which files of it are documents, where the input is a folder."""
        self._settings = settings
        self._folder = folder
        self._scan = FolderScan()
        self._lookups = lookups
        self._carry = carry
        self._given = self._id_bytes = self._row_bytes = 0
        self._odd = OddIds()
        self._parse_jobs = ParseJobs()
        self.files: int | None = None
        self.duplicates: int | None = None
        self.size: PlanSize | None = None
        self.bad_lines = BadLines()
        self.findings: list[Finding] = []

    @property
    def looked_up(self) -> int:
        """Files that were looked up by every key."""
        return min((lookup.looked_up for lookup in self._lookups), default=0)

    def can_read_source(self, file_ids: SourceSpec) -> bool:
        """Whether the source can be read: the project's file list needs a client."""
        return bool(self._lookups) or not needs_project(file_ids)

    async def read_with_progress(
        self, file_ids: SourceSpec, reading: Reading, on_progress: Callable[[int, int], None]
    ) -> None:
        """Like `read_source`, and reports its progress."""

        async def report_progress() -> None:
            while True:
                await anyio.sleep(REPORT_EVERY_S)
                if self.files is not None and self._lookups:
                    with refusing_stray_cancellation("on_progress"):
                        on_progress(self.looked_up, self.files)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(report_progress)
            await self.read_source(file_ids, reading)
            tasks.cancel_scope.cancel()

    async def read_source(self, file_ids: SourceSpec, reading: Reading) -> None:
        """Reads the input to its end. Raises SourceError, and for the project's file list ApiError."""
        options = InputOptions(
            reading,
            self._carry,
            on_fault=self.bad_lines.add_bad_line,
            folder=replace(self._folder or FolderOptions(), on_scan=self._take_scan),
        )
        pages = partial(self._list_project_files, whole=options.wants_columns)
        batches = open_source(file_ids, replace(options, pages=pages))
        # A folder's documents may have any number of paths: a run keeps those that don't fit in a file of its own.
        on_further = None if self._folder is None else lambda _file_id, _objects: None
        unique = distinct(self._count_rows(batches), on_further=on_further, name=name_of(file_ids))
        async with anyio.create_task_group() as tasks:
            # A buffer of no items: reading waits for the lookups, so memory stays flat.
            give, take = anyio.create_memory_object_stream[NumberedIds]()
            async with (
                give,
                take,
                closing(unique) as batches,
                closing(cut_into_chunks(batches, LOOKUP_IDS_MAX)) as chunks,
            ):
                for _ in range(LOOKUPS_IN_FLIGHT):
                    tasks.start_soon(self._look_up_files, take.clone())
                first = 0
                async for chunk in chunks:
                    if self.files is None:
                        self._begin_lookups(unique.duplicates)
                    in_project = self._parse_jobs.add_file_ids(first, file_ids_of_rows(chunk))
                    self._odd.add_file_ids(first, in_project)
                    if in_project and self._folder is None:  # the project doesn't know a document by its content's hash
                        await give.send((first, in_project))
                    first += len(chunk)
        self._collect_findings(unique.duplicates, unique.examples)

    def _take_scan(self, scan: FolderScan) -> None:
        self._scan = scan
        words = f"{scan.files - scan.unfit:,} documents of {scan.bytes:,} bytes would be uploaded"
        words += f"; skipped: {format_skipped(scan)}" if scan.skipped else ""
        hint = "what the project has already isn't uploaded again"
        self.findings.append(Finding(Severity.NOTE, "folder", words, hint))
        if scan.unfit:
            paths = tuple(printable_line(f"{path}: {why}") for path, why in scan.unfit_examples[:3])
            hint = "mend them, or leave them out with --exclude"
            message = "files can't be uploaded, and will fail as not_uploadable"
            self.findings.append(Finding(Severity.WARNING, "not_uploadable", message, hint, scan.unfit, paths))

    async def _list_project_files(self, token: str | None, *, whole: bool) -> tuple[list[Any], str | None]:
        if not self._lookups:
            raise AssertionError("the project's file list is read only with a client")
        files = FileList(self._lookups[0].client)
        read = files.read_objects if whole else files.read_page
        return await retry_transient(partial(read, token), calls_max=CALLS_MAX)

    async def _count_rows(self, batches: AsyncIterator[Sequence[str]]) -> AsyncIterator[Sequence[str]]:
        async with closing(batches) as stream:
            async for batch in stream:
                file_ids = file_ids_of_rows(batch)
                self._given += len(batch)
                self._id_bytes += sum(map(len, file_ids))
                if file_ids is not batch:
                    self._row_bytes += sum(map(len, batch))
                yield batch

    def _begin_lookups(self, duplicates: int) -> None:
        """Sets what is known once all of the input was read: the size of the plan, and how long it takes."""
        self.files, self.duplicates = self._given - duplicates, duplicates
        if self._settings is not None:
            share = self.files / self._given if self._given else 0.0  # repeated IDs take no space
            self.size = estimate_size(
                self.files,
                duplicates,
                self._settings,
                id_bytes=round(share * self._id_bytes),
                carried_bytes=round(share * max(0, self._row_bytes - self._id_bytes)),
                uploads=self._estimate_uploads(),
            )
        if self.size is not None:
            for lookup in self._lookups:
                lookup.begin_lookup(self.size.least_s)

    def _estimate_uploads(self) -> UploadSize | None:
        if self._folder is None:
            return None
        return UploadSize(self._scan.contents_to_upload(self.files or 0), self._scan.bytes)

    async def _look_up_files(self, chunks: MemoryObjectReceiveStream[NumberedIds]) -> None:
        """Looks up chunks of IDs. After a failure it only drains the stream: the reader goes on, to check the IDs
        themselves, and must not block."""
        async with chunks:
            async for first, file_ids in chunks:
                for lookup in self._lookups:
                    await lookup.look_up_files(first, file_ids)

    def _collect_findings(self, duplicates: int, examples: tuple[str, ...]) -> None:
        self.findings += report_duplicates(duplicates, examples)
        self.findings += self._odd.findings()
        self.findings += self._parse_jobs.findings(None if self._settings is None else self._settings.api.capabilities)
        for lookup in self._lookups:
            self.findings += lookup.findings()
        if self.size is not None and self._settings is not None:
            cost = estimate_cost_max(self.size.files, self._settings, parse_jobs=self._parse_jobs.found_count)
            self.size = replace(self.size, cost=cost)
            self.findings += assess_cost(self.size, self._settings)
