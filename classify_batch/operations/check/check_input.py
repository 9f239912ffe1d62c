"""Reads the input once and asks the API: one page of jobs, and the files by their IDs. Nothing is written or created.

Whatever ends one part of the check is a finding, and the other parts go on. Memory doesn't grow with the input.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from classify_batch.clock import SystemClock
from classify_batch.engine.planner import chunked
from classify_batch.errors import ApiError, ExitStatus, SettingsError, SourceError, UsageError
from classify_batch.inputs.dedupe import distinct
from classify_batch.inputs.open import PROJECT, SourceSpec, open_source
from classify_batch.inputs.rows import ids_of
from classify_batch.limits.retry import retry_transient
from classify_batch.llamacloud.client import ApiClient
from classify_batch.llamacloud.file_client import LOOKUP_IDS_MAX, FileList, FileLookup, LookupRefusedError
from classify_batch.llamacloud.single_calls import ATTEMPTS_MAX
from classify_batch.operations.check.assess import (
    Oddities,
    Standing,
    judge_cost,
    judge_duplicates,
    judge_settings,
    not_looked_up,
)
from classify_batch.operations.check.estimate import Size, size_of
from classify_batch.operations.check.findings import (
    INPUT,
    FaultyLines,
    Finding,
    exit_status_of,
    finding_of,
    findings_of_settings,
)
from classify_batch.operations.own_task import run_in_own_task
from classify_batch.operations.run_resources import RunResources, api_of, refuse_missing_documents
from classify_batch.settings import SANDBOX, Settings, read_api_key
from classify_batch.streams.closing import closing

LOOKUPS_IN_FLIGHT = 8

CLOCK_S = 1.0
"""What the server's clock is known to: its `Date` has whole seconds."""

REPORT_EVERY_S = 5.0

_Numbered = tuple[int, list[str]]
"""File IDs, and the place of the first of them."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found.

    Attributes:
        files, duplicates: different file IDs in the input, and repeated ones; None where it can't be read.
        size: of the plan; None where also the settings can't be.
        looked_up: files that the project was asked for.
    """

    findings: tuple[Finding, ...]
    files: int | None
    duplicates: int | None
    size: Size | None
    looked_up: int

    @property
    def exit_status(self) -> ExitStatus:
        return exit_status_of(self.findings)


async def check_run(
    settings: Settings,
    file_ids: SourceSpec,
    *,
    column: str | None = None,
    on_progress: Callable[[int, int], None] = lambda _looked_up, _files: None,
) -> Report:
    """Everything that can be known to go wrong with a run, before a credit is spent.

    Args:
        file_ids, column: as for `run`.
        on_progress: told every five seconds how many files were looked up, of how many.

    Raises:
        StoreError: temporary files can't be written.
    """
    return await run_in_own_task(partial(_check, settings, file_ids, column, on_progress))


async def check_input(
    error: SettingsError, file_ids: SourceSpec, *, column: str | None = None, carry: Sequence[str] = ()
) -> Report:
    """What can be known where the settings can't be read: their faults, and what the input alone can tell.

    Args:
        error: what reading the settings brought.
        file_ids, column: as for `run`; carry: further columns that are known to be asked for.

    Raises:
        StoreError: temporary files can't be written.
    """

    async def work() -> Report:
        reading = _Reading(None, None, carry)
        found = await _read(reading, file_ids, column)
        return _report([*findings_of_settings(error), *found], reading)

    return await run_in_own_task(work)


async def _check(
    settings: Settings, file_ids: SourceSpec, column: str | None, on_progress: Callable[[int, int], None]
) -> Report:
    findings = [*judge_settings(settings)]
    async with AsyncExitStack() as stack:
        http = None
        try:
            http = await _reach(settings, stack)
        except _NoKeyError as error:
            findings.append(finding_of("key", error))
        except UsageError as error:
            findings.append(finding_of("settings", error))
        except ApiError as error:
            findings.append(finding_of("api", error))
        reading = _Reading(settings, http, settings.plan.carry)
        findings += await _read(reading, file_ids, column, on_progress)
        return _report(findings, reading)


async def _read(
    reading: _Reading,
    file_ids: SourceSpec,
    column: str | None,
    on_progress: Callable[[int, int], None] = lambda _looked_up, _files: None,
) -> list[Finding]:
    """Reads the input, unless it is the project's list and that can't be asked for; tells what was found in it."""
    findings = []
    if reading.can_read(file_ids):
        try:
            await run_in_own_task(partial(reading.read_telling, file_ids, column, on_progress))
        except SourceError as error:
            findings.append(finding_of(INPUT, error))
        except ApiError as error:
            findings.append(finding_of("api", error))
    return [*findings, *reading.faulty.findings(), *reading.findings]


def _report(findings: list[Finding], reading: _Reading) -> Report:
    looked_up = reading.standing.looked_up if reading.standing is not None else 0
    return Report(tuple(findings), reading.files, reading.duplicates, reading.size, looked_up)


async def _reach(settings: Settings, stack: AsyncExitStack) -> ApiClient:
    """The client, once the API has answered to the key. An embedded sandbox gets a place of its own for a while."""
    refuse_missing_documents(settings)
    try:
        key = read_api_key(settings)
    except SettingsError as error:
        raise _NoKeyError(str(error), hint=error.hint) from None
    embedded = settings.api.base_url == SANDBOX
    path = Path(stack.enter_context(TemporaryDirectory(prefix="classify-batch-"))) if embedded else Path()
    http, _ = await RunResources(settings, key, path, SystemClock(), stack).connect()
    api = api_of(settings, http, "check")
    await retry_transient(partial(api.list_page, page_size=1), attempts_max=ATTEMPTS_MAX)
    return http


class _NoKeyError(SettingsError):
    """There is no API key, or it is none."""


class _Reading:
    """The input on its way through: counted, looked at, looked up.

    Attributes:
        files, duplicates, size, standing: None until the input is read to its end; it is before its first ID comes out
            again. Without settings there is no size.
    """

    def __init__(self, settings: Settings | None, http: ApiClient | None, carry: Sequence[str]) -> None:
        self._settings = settings
        self._http = http
        self._carry = carry
        self._lookup = FileLookup(http) if http is not None else None
        self._given = 0
        self._odd = Oddities()
        self._trouble: Finding | None = None
        self.files: int | None = None
        self.duplicates: int | None = None
        self.size: Size | None = None
        self.standing: Standing | None = None
        self.faulty = FaultyLines()
        self.findings: list[Finding] = []

    def can_read(self, file_ids: SourceSpec) -> bool:
        """Only a client can list the project's files."""
        return self._http is not None or file_ids != PROJECT

    async def read_telling(
        self, file_ids: SourceSpec, column: str | None, on_progress: Callable[[int, int], None]
    ) -> None:
        """`read`, and tells how far it is."""

        async def tell() -> None:
            while True:
                await anyio.sleep(REPORT_EVERY_S)
                if self.files is not None and self.standing is not None:
                    on_progress(self.standing.looked_up, self.files)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tell)
            await self.read(file_ids, column)
            tasks.cancel_scope.cancel()

    async def read(self, file_ids: SourceSpec, column: str | None) -> None:
        """Raises SourceError, and for `project:` ApiError."""
        batches = open_source(
            file_ids, column=column, carry=self._carry, pages=self._list_files, took_fault=self.faulty.take
        )
        unique = distinct(self._counted(batches))
        async with anyio.create_task_group() as tasks:
            give, take = anyio.create_memory_object_stream[_Numbered]()
            async with give, take, closing(unique) as batches, closing(chunked(batches, LOOKUP_IDS_MAX)) as chunks:
                for _ in range(LOOKUPS_IN_FLIGHT):
                    tasks.start_soon(self._look_up, take.clone())
                first = 0
                async for chunk in chunks:
                    if self.files is None:
                        self._begin(unique.duplicates)
                    self._odd.look(first, chunk)
                    await give.send((first, chunk))
                    first += len(chunk)
        self._judge(unique.duplicates, unique.examples)

    async def _list_files(self, token: str | None) -> tuple[list[str], str | None]:
        if self._http is None:
            raise AssertionError("project: is read only where there is a client")
        return await retry_transient(partial(FileList(self._http).read_page, token), attempts_max=ATTEMPTS_MAX)

    async def _counted(self, batches: AsyncIterator[list[str]]) -> AsyncIterator[list[str]]:
        async with closing(batches) as stream:
            async for batch in stream:
                self._given += len(batch)
                yield ids_of(batch)  # what is carried has been read, and its faults were told

    def _begin(self, duplicates: int) -> None:
        """All of the input has been read once, so the plan's size is known before the first file is looked up."""
        self.files, self.duplicates = self._given - duplicates, duplicates
        if self._settings is not None:
            self.size = size_of(self.files, duplicates, self._settings)
        if self._http is not None and self.size is not None:
            now_s = SystemClock().wall_s() + (self._http.clock_skew_s or 0.0)
            self.standing = Standing(now_s + CLOCK_S, self.size.least_s)

    async def _look_up(self, chunks: MemoryObjectReceiveStream[_Numbered]) -> None:
        """Goes on taking chunks when there is no more to be asked: the IDs themselves are still looked at."""
        async with chunks:
            async for first, file_ids in chunks:
                if self._lookup is None or self.standing is None or self._trouble is not None:
                    continue
                try:
                    self.standing.look(first, file_ids, await self._lookup.find_files(file_ids))
                except LookupRefusedError as error:
                    self._trouble = not_looked_up(str(error))
                except ApiError as error:
                    self._trouble = finding_of("api", error)

    def _judge(self, duplicates: int, examples: tuple[str, ...]) -> None:
        self.findings += judge_duplicates(duplicates, examples)
        self.findings += self._odd.findings()
        if self.standing is not None:
            self.findings += self.standing.findings()
        if self._trouble is not None:
            self.findings.append(self._trouble)
        if self.size is not None and self._settings is not None:
            self.findings += judge_cost(self.size, self._settings)
