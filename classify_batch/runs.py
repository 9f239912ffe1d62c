"""From settings and file IDs to a result: opens what a run needs, plans it or takes it up, and closes everything again.

These are the doors for Python programs; the commands go through them too.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from pydantic import SecretStr

from classify_batch.api.http import Http
from classify_batch.api.v1 import ApiV1, FileList
from classify_batch.clock import SystemClock
from classify_batch.errors import (
    ClassifyBatchError,
    DamagedError,
    ExitStatus,
    InterruptedEarlyError,
    RunDirectoryError,
    SettingsError,
    StoreError,
    UsageError,
)
from classify_batch.gate import Gate
from classify_batch.manifest.plan import PlanReader, hash_ids, write_plan
from classify_batch.manifest.run_file import NAME as RUN_FILE
from classify_batch.manifest.run_file import RunFile, read_run_file, refuse_other_run, write_run_file
from classify_batch.manifest.standing import RunOnDisk, read_run
from classify_batch.manifest.summary import PLAN, counts_of, manifest_of, read_manifest
from classify_batch.manifest.verify import Verification, verify
from classify_batch.orchestrator import Orchestrator, Progress
from classify_batch.ports import Clock, Log
from classify_batch.records import RunState
from classify_batch.settings import SANDBOX, Settings, read_api_key
from classify_batch.sources.compare import compare_ids
from classify_batch.sources.distinct import distinct
from classify_batch.sources.door import PROJECT, SourceSpec, is_repeatable, open_source
from classify_batch.stages.planner import chunked
from classify_batch.stopping import Stopping
from classify_batch.store.disk import DiskStore
from classify_batch.store.lock import LOCK

log = logging.getLogger("classify_batch")

PROGRESS_EVERY_S = 0.5
SANDBOX_LEDGER = Path("sandbox", "jobs.jsonl")
"""Where, in a run directory, the embedded sandbox keeps its jobs."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run stands when it was left.

    Attributes:
        state: complete or incomplete.
        exit_status: what a scheduler should be told.
        reason, hint: why it is incomplete, and what to do; empty when complete.
        manifest: the keys of manifest.json.
        called: whether anything was done; False where the run was complete already.
    """

    run_dir: Path
    state: RunState
    exit_status: ExitStatus
    reason: str
    hint: str
    manifest: dict[str, Any]
    called: bool = True

    @property
    def counts(self) -> dict[str, int]:
        """Files by outcome: classified, unmatched, failed."""
        return dict(self.manifest["counts"])

    @property
    def types(self) -> dict[str, int]:
        """Classified files by type."""
        return dict(self.manifest["types"])

    def results(self) -> Iterator[dict[str, Any]]:
        """The answered files, one line of results.jsonl after the other; nothing is held in memory."""
        return _read_lines(self.run_dir / Log.RESULTS)

    def failures(self) -> Iterator[dict[str, Any]]:
        """The failed files, one line of failures.jsonl after the other."""
        return _read_lines(self.run_dir / Log.FAILURES)


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    with suppress(FileNotFoundError), path.open("rb") as file:
        for line in file:
            yield json.loads(line)


def run(
    settings: Settings,
    file_ids: SourceSpec | None = None,
    run_dir: str | PathLike[str] = "run",
    *,
    column: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> RunResult:
    """Classifies files and waits for the end; the same call takes an interrupted run up again.

    Args:
        settings: see `Settings.load`.
        file_ids: an iterable of IDs (asynchronous or not), or a source as on the command line: a path, "-" or
            "project:". None goes on with what the directory holds.
        run_dir: the run directory; made if it isn't there.
        column: the CSV column or JSON key of the IDs; "file_id" if None.
        on_progress: called every half second.

    Raises:
        UsageError: settings, input or directory don't fit, or it was called inside a running event loop (use
            `await arun(…)` there); nothing was sent.
        WorldError: another process holds the run, or the disk refuses; the same call goes on later.
    """
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        raise UsageError("run() was called inside a running event loop", hint="use `await arun(…)` there")

    async def main() -> RunResult:
        return await arun(settings, file_ids, run_dir, column=column, on_progress=on_progress)

    return anyio.run(main)


async def arun(
    settings: Settings,
    file_ids: SourceSpec | None = None,
    run_dir: str | PathLike[str] = "run",
    *,
    column: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    stopping: Stopping | None = None,
) -> RunResult:
    """`run` inside a running asyncio loop. Cancelling it leaves a directory that goes on."""
    path = Path(run_dir)
    try:
        async with AsyncExitStack() as stack:
            stopping = stopping or Stopping()
            world = _World(settings, read_api_key(settings), path, SystemClock(), stack)
            _refuse_missing_documents(settings)
            store = await _hold(path, stack)
            if file_ids == PROJECT and await store.size(RUN_FILE) is None:
                await world.connect()  # here, since what it opens outlasts the block below
            async with _leaving_early(stopping):
                await _plan_if_new(world, store, path, settings, file_ids, column)
            found = await _read(store)
            if (finished := await _finished(found, store, path)) is not None:
                return finished
            plan = PlanReader(store)
            await plan.scan(found.run.plan_sha256)
            http, gate = await world.connect()
            api = ApiV1(http, settings.job)
            conductor = Orchestrator(settings, api, gate, store, world.clock, found, plan, stopping)
            async with _reporting(conductor, on_progress):
                ending = await conductor.run()
            return RunResult(
                path, ending.state, ending.exit_status, ending.reason or "", ending.hint, dict(ending.manifest)
            )
    except BaseExceptionGroup as group:
        raise _the_cause(group) from group


async def make_plan(
    settings: Settings, file_ids: SourceSpec, run_dir: str | PathLike[str], *, column: str | None = None
) -> RunFile:
    """Writes the plan and run.json, and calls nothing (but the file list, for `project:`)."""
    path = Path(run_dir)
    try:
        async with AsyncExitStack() as stack:
            key = read_api_key(settings) if file_ids == PROJECT else SecretStr("")
            world = _World(settings, key, path, SystemClock(), stack)
            _refuse_missing_documents(settings)
            store = await _hold(path, stack)
            await _plan_if_new(world, store, path, settings, file_ids, column)
            return (await _read(store)).run
    except BaseExceptionGroup as group:
        raise _the_cause(group) from group


# --- The world of a run -----------------------------------------------------------------------------------------------


class _World:
    """What is opened at most once, and only if it is needed: the sandbox, the gate, the client."""

    def __init__(self, settings: Settings, key: SecretStr, path: Path, clock: Clock, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._key = key
        self._path = path
        self._stack = stack
        self._connected: tuple[Http, Gate] | None = None
        self.clock = clock

    async def connect(self) -> tuple[Http, Gate]:
        if self._connected is None:
            api, limits = self._settings.api, self._settings.limits
            base_url = api.base_url
            if base_url == SANDBOX:
                base_url = await self._stack.enter_async_context(_embedded_sandbox(self._settings, self._path))
            gate = Gate(requests_in_flight=limits.requests_in_flight, requests_per_s=limits.requests_per_s)
            await self._stack.enter_async_context(gate)
            named = {"project_id": api.project_id, "organization_id": api.organization_id}
            http = Http(
                base_url,
                self._key,
                gate,
                self.clock,
                timeout_s=api.timeout_s,
                patience_s=limits.patience_s,
                params={name: value for name, value in named.items() if value is not None},
            )
            self._stack.push_async_callback(http.aclose)
            self._connected = http, gate
        return self._connected


@asynccontextmanager
async def _embedded_sandbox(settings: Settings, path: Path) -> AsyncIterator[str]:
    from classify_batch.sandbox import Options, opened, serving  # noqa: PLC0415 - a server is heavy, and seldom needed

    options = Options.of(documents=settings.sandbox.documents, ledger=path / SANDBOX_LEDGER)
    sandbox = opened(options)
    app = await anyio.to_thread.run_sync(sandbox.__enter__)
    try:
        async with serving(app) as base_url:
            yield base_url
    finally:
        sandbox.__exit__(None, None, None)


def _refuse_missing_documents(settings: Settings) -> None:
    documents = settings.sandbox.documents
    if settings.api.base_url == SANDBOX and documents is not None and not documents.is_dir():
        raise SettingsError(
            f"sandbox.documents: there is no folder {documents}", hint="name a folder that holds text files"
        )


async def _hold(path: Path, stack: AsyncExitStack) -> DiskStore:
    """The run directory, open and locked. What was made for nothing is taken away again, while the lock is held:
    a process that doesn't get the lock must not touch what the holder is making.
    """
    new = [each for each in (path / PLAN, path / LOCK, path, *path.parents) if not each.exists()]
    store = await stack.enter_async_context(DiskStore(path))
    await store.prepare()
    await stack.enter_async_context(store.lock())
    stack.callback(_take_away_if_unused, path, new)
    return store


def _take_away_if_unused(path: Path, new: list[Path]) -> None:
    if (path / RUN_FILE).exists():
        return
    with suppress(OSError):
        for each in new:
            if each.is_dir():
                each.rmdir()
            else:
                each.unlink(missing_ok=True)


@asynccontextmanager
async def _leaving_early(stopping: Stopping) -> AsyncIterator[None]:
    """Until the orchestrator stands, nothing has to be finished: a stop just leaves.

    Raises:
        InterruptedEarlyError: it was asked for.
    """
    async with anyio.create_task_group() as tasks:

        async def leave() -> None:
            await stopping.no_creates.wait()
            tasks.cancel_scope.cancel()

        tasks.start_soon(leave)
        yield
        tasks.cancel_scope.cancel()
    if stopping.stop is not None:
        raise InterruptedEarlyError(stopping.stop.reason, hint="the same command begins again")


@asynccontextmanager
async def _reporting(conductor: Orchestrator, on_progress: Callable[[Progress], None] | None) -> AsyncIterator[None]:
    async def report(observer: Callable[[Progress], None]) -> None:
        while True:
            observer(conductor.progress())
            await anyio.sleep(PROGRESS_EVERY_S)

    async with anyio.create_task_group() as tasks:
        if on_progress is not None:
            tasks.start_soon(report, on_progress)
        yield
        tasks.cancel_scope.cancel()
    if on_progress is not None:
        on_progress(conductor.progress())


# --- The run in the directory -----------------------------------------------------------------------------------------


async def _plan_if_new(
    world: _World,
    store: DiskStore,
    path: Path,
    settings: Settings,
    file_ids: SourceSpec | None,
    column: str | None,
) -> None:
    """Plans a new run, or makes sure that the run in the directory is the one that is meant."""
    found = await read_run(store)
    if found is not None:
        refuse_other_run(found.run, settings.identity(), store.where)
        if file_ids is not None:
            await _refuse_other_ids(found.run, store, path, file_ids, column)
        return
    if file_ids is None:
        raise RunDirectoryError(
            f"{path} holds no run", hint="name the directory of a run, or give its input to begin one"
        )
    await _refuse_strangers(store)
    pages = FileList((await world.connect())[0]).page if file_ids == PROJECT else None
    unique = distinct(open_source(file_ids, column=column, pages=pages), directory=path)
    plan = await write_plan(store, chunked(unique, settings.plan.files_per_job))
    await write_run_file(store, settings, plan, unique.duplicates, world.clock)


async def _refuse_strangers(store: DiskStore) -> None:
    """Outcomes or a journal without a run.json are somebody's run that lost its head: not to be written over."""
    strangers = sorted(await store.names() & {log.value for log in Log})
    if strangers:
        raise RunDirectoryError(
            f"{store.where} has {', '.join(strangers)}, but no run.json",
            hint="put run.json back from a copy, or name a new run directory",
        )


async def _refuse_other_ids(
    run: RunFile, store: DiskStore, path: Path, file_ids: SourceSpec, column: str | None
) -> None:
    if not is_repeatable(file_ids):
        log.warning(
            "%s: going on with the plan that is there; the input is not read again (a new night wants a new directory)",
            store.where,
        )
        return
    if not isinstance(file_ids, Iterator):  # what can be read twice is hashed first: a comparison takes thrice as long
        same_order = await hash_ids(aiter(distinct(open_source(file_ids, column=column), directory=path)))
        if same_order == run.identity.get("ids_sha256"):
            return
    plan = PlanReader(store)
    await plan.scan(run.plan_sha256)
    given = aiter(distinct(open_source(file_ids, column=column), directory=path))
    difference = await compare_ids(plan.file_id_batches(), given, directory=path)
    if difference:
        raise RunDirectoryError(
            f"{store.where} holds a run of other file IDs: {difference.new} of the given ones are not in its plan"
            f"{_examples(difference.new_examples)}, {difference.gone} of its plan are not given"
            f"{_examples(difference.gone_examples)}",
            hint="give the input that the run was begun with, or name a new run directory",
        )


def _examples(file_ids: tuple[str, ...]) -> str:
    return f" ({', '.join(file_ids)}{', …' if len(file_ids) > 2 else ''})" if file_ids else ""


async def _read(store: DiskStore) -> RunOnDisk:
    found = await read_run(store)
    if found is None:
        raise RunDirectoryError(f"{store.where} holds no run", hint="give an input to begin one")
    return found


async def _finished(found: RunOnDisk, store: DiskStore, path: Path) -> RunResult | None:
    """The result of a run that was complete before: nothing is called, nothing appended.

    Raises:
        DamagedError: outcomes that were committed are gone.
    """
    closed = found.standing.closed
    if closed is None or closed.get("state") != RunState.COMPLETE or found.manifest is None:
        return None
    for name, end in ((Log.RESULTS, found.standing.results_end), (Log.FAILURES, found.standing.failures_end)):
        if (size := await store.size(name) or 0) < end:
            raise DamagedError(
                f"{path / name} has {size} bytes, but {end} were committed",
                hint="restore the file from a copy, or begin again in a new run directory",
            )
    status = ExitStatus(closed["exit_status"])
    return RunResult(path, RunState.COMPLETE, status, "", "", found.manifest, called=False)


async def read_run_settings(run_dir: str | PathLike[str]) -> dict[str, Any]:
    """The settings that a run was planned with. Raises RunDirectoryError where there is no run."""
    path = Path(run_dir)
    found = await read_run_file(DiskStore(path)) if path.is_dir() else None
    if found is None:
        raise RunDirectoryError(f"{path} holds no run", hint="name the directory of a run")
    return found[0].settings


async def verify_run(run_dir: str | PathLike[str]) -> Verification:
    """Proves a run directory. Raises RunDirectoryError where there is no run."""
    path = Path(run_dir)
    found = await verify(DiskStore(path)) if path.is_dir() else None
    if found is None:
        raise RunDirectoryError(f"{path} holds no run", hint="name the directory of a run")
    return found


async def read_status(run_dir: str | PathLike[str]) -> dict[str, Any]:
    """The keys of manifest.json as they stand now, read from the directory only; safe while a run is on.

    Adds `holder` (host, pid, since) while a process holds the run.
    """
    path = Path(run_dir)
    store = DiskStore(path)
    found = await read_run(store) if path.is_dir() else None
    if found is None:
        raise RunDirectoryError(f"{path} holds no run", hint="name the directory of a run")
    manifest = await read_manifest(store)
    holder = store.holder()
    state = RunState.RUNNING if holder else RunState.COMPLETE if found.standing.complete else RunState.INCOMPLETE
    now = manifest_of(found.run, found.standing, state=state, requests=found.standing.requests, started_at_s=0)
    now["started_at"] = manifest["started_at"] if manifest else None
    if manifest and not holder:
        now |= {key: manifest.get(key) for key in ("reason", "exit_status", "stopped_at")}
    if holder:
        now["holder"] = {"host": holder.host, "pid": holder.pid, "since": holder.since}
    return now


# --- Errors -----------------------------------------------------------------------------------------------------------


def _the_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error that a person should hear of: the world's before ours before anything else."""
    errors = _leaves(group)
    for kind in (StoreError, ClassifyBatchError):
        for error in errors:
            if isinstance(error, kind):
                return error
    return errors[0]


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]


__all__ = ["RunResult", "arun", "counts_of", "make_plan", "read_status", "run"]
