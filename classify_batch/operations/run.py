"""Runs a run: opens what it needs, plans it or takes it up, and closes everything again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path

import anyio

from classify_batch.clock import SystemClock
from classify_batch.engine.orchestrator import Orchestrator
from classify_batch.engine.progress import Progress
from classify_batch.engine.shutdown import Shutdown
from classify_batch.errors import DamagedError, ExitStatus, InterruptedEarlyError, RunDirectoryError, UsageError
from classify_batch.inputs.open import PROJECT, SourceSpec
from classify_batch.operations.own_task import run_in_own_task
from classify_batch.operations.plan import plan_if_new, refuse_uncounted
from classify_batch.operations.result import RunResult
from classify_batch.operations.reuse.earlier_runs import Reuse
from classify_batch.operations.run_request import RunRequest
from classify_batch.operations.run_resources import RunResources, api_of, hold, refuse_missing_documents
from classify_batch.ports import Observer
from classify_batch.rundir.manifest_json import read_manifest
from classify_batch.rundir.opened_run import RunOnDisk, read_run
from classify_batch.rundir.plan import PlanReader
from classify_batch.rundir.run_json import RunFile, other_webhooks, refuse_other_run
from classify_batch.settings import Settings, read_api_key
from classify_batch.store.disk import DiskStore
from classify_batch.vocabulary import RUN_JSON, TUNE_JSON, OutcomeKind, RunState

PROGRESS_EVERY_S = 0.5

log = logging.getLogger("classify_batch")


def run(
    settings: Settings,
    file_ids: SourceSpec | None = None,
    run_dir: str | PathLike[str] = "run",
    *,
    column: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    retry_failed: bool = False,
    until_s: float | None = None,
    reuse: Reuse = (),
    submit_only: bool = False,
    observers: Sequence[Observer] = (),
) -> RunResult:
    """Classifies files and waits for the end; the same call takes an interrupted run up again.

    Args:
        settings: see `Settings.load`.
        file_ids: an iterable of IDs (asynchronous or not), or a source as on the command line: a path, "-" or
            "project:". None goes on with what the directory holds.
        run_dir: the run directory; made if it isn't there.
        column: the CSV column or JSON key of the IDs; "file_id" if None.
        on_progress: called every half second.
        retry_failed: the failed files of the run get a new chance first.
        until_s: seconds since the epoch at which creating ends; what is out is collected for `limits.drain_s` more.
        reuse: run directories, and folders of them, whose outcomes a new run takes over where they were run with the
            same rules, mode and parsing configuration; only the rest is sent. A run that exists goes on with its plan.
        submit_only: makes as many jobs as `limits.jobs_in_flight` allows (0: all) and comes back; a later call without
            it collects.
        observers: each is given every event of the run (`classify_batch.events`), in a task of its own.

    Raises:
        UsageError: settings, input or directory don't fit, or it was called inside a running event loop (use
            `await arun(…)` there); nothing was sent.
        WorldError: another process holds the run, or the disk refuses; the same call goes on later.
    """
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        raise UsageError("run() was called inside a running event loop", hint="use `await arun(…)` there")

    async def main() -> RunResult:
        return await arun(
            settings,
            file_ids,
            run_dir,
            column=column,
            on_progress=on_progress,
            retry_failed=retry_failed,
            until_s=until_s,
            reuse=reuse,
            submit_only=submit_only,
            observers=observers,
        )

    return anyio.run(main)


async def arun(
    settings: Settings,
    file_ids: SourceSpec | None = None,
    run_dir: str | PathLike[str] = "run",
    *,
    column: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    retry_failed: bool = False,
    until_s: float | None = None,
    reuse: Reuse = (),
    submit_only: bool = False,
    observers: Sequence[Observer] = (),
) -> RunResult:
    """`run` inside a running asyncio loop. Cancelling it leaves a directory that goes on."""
    return await carry_out(
        RunRequest(
            settings,
            file_ids,
            Path(run_dir),
            column,
            reuse,
            retry_failed,
            until_s,
            submit_only,
            on_progress,
            observers,
        ),
        Shutdown(),
    )


async def carry_out(request: RunRequest, shutdown: Shutdown) -> RunResult:
    """Carries a request out: to the end of the run, or until `shutdown` is asked for."""
    return await run_in_own_task(partial(_carry_out, request, shutdown))


async def _carry_out(request: RunRequest, shutdown: Shutdown) -> RunResult:
    path, settings = request.run_dir, request.settings
    async with AsyncExitStack() as stack:
        if await _needs_nothing(path, retry_failed=request.retry_failed):
            key = None
            async with _leaving_early(shutdown):
                before = await _complete_before(path, settings) if request.source is None else None
            if before is not None:
                return before
        else:
            key = read_api_key(settings)
        resources = RunResources(settings, key, path, SystemClock(), stack)
        store, found = await _open(request, resources, shutdown, stack)
        retries = request.retry_failed and found.standing.failures_end > 0
        finished = await _finished(found, store, path)
        if finished is not None and not retries:
            return finished
        return await _run_engine(replace(request, retry_failed=retries), resources, shutdown, store, found)


async def _open(
    request: RunRequest, resources: RunResources, shutdown: Shutdown, stack: AsyncExitStack
) -> tuple[DiskStore, RunOnDisk]:
    """The run directory, held, with a run in it: planned now, or found there."""
    refuse_missing_documents(request.settings)
    store = await hold(request.run_dir, stack)
    await store.remove(TUNE_JSON)  # the limits that it sets were for a process that is gone
    if request.source == PROJECT and await store.size(RUN_JSON) is None:
        await resources.connect()  # here, since what it opens outlasts the block below
    async with _leaving_early(shutdown):
        found = await plan_if_new(resources, store, request) or await _read(store)
    refuse_uncounted(found, request.settings)
    return store, found


async def _run_engine(
    request: RunRequest, resources: RunResources, shutdown: Shutdown, store: DiskStore, found: RunOnDisk
) -> RunResult:
    if webhooks := other_webhooks(found.run, request.settings):
        log.warning("other webhooks from here on: %s", webhooks)
    plan = PlanReader(store)
    await plan.scan(found.run.plan_sha256)
    client, gate = await resources.connect()
    api = api_of(request.settings, client, found.run.run_id)
    orchestrator = Orchestrator(
        request.settings, api, gate, store, resources.clock, found, plan, shutdown, request.observers
    )
    async with _reporting(orchestrator, request.on_progress):
        ending = await orchestrator.run(
            retry_failed=request.retry_failed, until_s=request.until_s, submit_only=request.submit_only
        )
    return RunResult(
        request.run_dir, ending.state, ending.exit_status, ending.reason or "", ending.hint, dict(ending.manifest)
    )


async def make_plan(
    settings: Settings,
    file_ids: SourceSpec,
    run_dir: str | PathLike[str],
    *,
    column: str | None = None,
    reuse: Reuse = (),
) -> RunFile:
    """Writes the plan and run.json, and calls nothing (but the file list, for `project:`)."""
    request = RunRequest(settings, file_ids, Path(run_dir), column, reuse)

    async def work() -> RunFile:
        async with AsyncExitStack() as stack:
            if file_ids == PROJECT:
                read_api_key(settings)  # said before anything is made
            resources = RunResources(settings, None, request.run_dir, SystemClock(), stack)
            refuse_missing_documents(settings)
            store = await hold(request.run_dir, stack)
            found = await plan_if_new(resources, store, request) or await _read(store)
            return found.run

    return await run_in_own_task(work)


@asynccontextmanager
async def _leaving_early(stopping: Shutdown) -> AsyncIterator[None]:
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
async def _reporting(orchestrator: Orchestrator, on_progress: Callable[[Progress], None] | None) -> AsyncIterator[None]:
    async def report(observer: Callable[[Progress], None]) -> None:
        while True:
            observer(orchestrator.progress())
            await anyio.sleep(PROGRESS_EVERY_S)

    async with anyio.create_task_group() as tasks:
        if on_progress is not None:
            tasks.start_soon(report, on_progress)
        yield
        tasks.cancel_scope.cancel()
    if on_progress is not None:
        on_progress(orchestrator.progress())


async def _read(store: DiskStore) -> RunOnDisk:
    found = await read_run(store)
    if found is None:
        raise RunDirectoryError(f"{store.where} holds no run", hint="give an input to begin one")
    return found


async def _needs_nothing(path: Path, *, retry_failed: bool) -> bool:
    """Whether a run says that it is complete, so that going on with it takes no key and no call. `retry_failed`: unless
    there are failed files, which get a new chance."""
    manifest = await read_manifest(DiskStore(path)) if path.is_dir() else None
    if manifest is None or manifest.get("state") != RunState.COMPLETE:
        return False
    counts = manifest.get("counts")
    return not retry_failed or (isinstance(counts, dict) and counts.get(OutcomeKind.FAILED) == 0)


async def _complete_before(path: Path, settings: Settings) -> RunResult | None:
    """The result of a run that was complete before, without its lock: its disk may be one that can't be written."""
    store = DiskStore(path)
    found = await read_run(store)
    if found is None:
        return None
    refuse_other_run(found.run, settings.identity(), store.where)
    refuse_uncounted(found, settings)
    return await _finished(found, store, path)


async def _finished(found: RunOnDisk, store: DiskStore, path: Path) -> RunResult | None:
    """The result of a run that was complete before: nothing is called, nothing appended.

    Raises:
        DamagedError: outcomes that were committed are gone.
    """
    closed, manifest = found.standing.closed, found.manifest
    if closed is None or closed.get("state") != RunState.COMPLETE:
        return None
    if manifest is None or not found.manifest_complete:
        return None  # killed between the journal's last line and the manifest, which is still to be written
    for name, output in manifest.get("outputs", {}).items():
        if (size := await store.size(name) or 0) != output.get("bytes"):
            raise DamagedError(
                f"{path / name} has {size} bytes, and the manifest says {output.get('bytes')}",
                hint="restore the file from a copy, or begin again in a new run directory",
            )
    status = ExitStatus(closed["exit_status"])
    return RunResult(path, RunState.COMPLETE, status, "", "", manifest, called=False)
