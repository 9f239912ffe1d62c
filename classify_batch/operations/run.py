"""Runs a run: opens what it needs, plans it or resumes it, and closes everything again."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial

import anyio

from classify_batch.clock import SystemClock
from classify_batch.engine.deadline import Deadline
from classify_batch.engine.event_log import EventLog
from classify_batch.engine.orchestrator import Orchestrator
from classify_batch.engine.shutdown import Shutdown
from classify_batch.errors import InterruptedEarlyError, UsageError, the_cause
from classify_batch.events import Warned
from classify_batch.inputs.open import SourceSpec, needs_project
from classify_batch.inputs.reading import parse_reading
from classify_batch.limits.shared_limits import SharedLimits
from classify_batch.operations.api_version import make_api
from classify_batch.operations.complete_run import claims_complete, read_complete_run, result_if_complete
from classify_batch.operations.documents import open_documents
from classify_batch.operations.folder_request import as_globs, take_folder
from classify_batch.operations.function_observer import Observe, all_observers
from classify_batch.operations.new_loop import run_in_new_loop
from classify_batch.operations.observed_api import observe_calls
from classify_batch.operations.own_task import run_in_own_task
from classify_batch.operations.plan import plan_if_new, read_existing_run, refuse_unbounded_credits
from classify_batch.operations.reporting_progress import reporting_progress
from classify_batch.operations.result import RunResult
from classify_batch.operations.reuse.earlier_runs import Reuse
from classify_batch.operations.run_log import logging_run
from classify_batch.operations.run_request import OnProgress, RunRequest
from classify_batch.operations.run_resources import RunResources, lock_run_directory, refuse_missing_documents
from classify_batch.operations.telemetry import telemetry_of
from classify_batch.ports import Observer, RunStore
from classify_batch.rundir.opened_run import RunOnDisk
from classify_batch.rundir.plan import PlanReader
from classify_batch.rundir.run_json import other_webhooks
from classify_batch.settings import Settings, read_api_key
from classify_batch.store import Location, place_of
from classify_batch.vocabulary import CANCEL_JSON, RUN_JSON, TUNE_JSON

log = logging.getLogger("classify_batch")


def run(
    settings: Settings,
    file_ids: SourceSpec | None = None,
    run_dir: Location = "run",
    *,
    column: str | None = None,
    input_format: str | None = None,
    delimiter: str | None = None,
    on_progress: OnProgress | None = None,
    retry_failed: bool = False,
    until_s: float | None = None,
    max_runtime_s: float | None = None,
    reuse: Reuse = (),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    submit_only: bool = False,
    observer: Observe | None = None,
    observers: Sequence[Observer] = (),
    shared_limits: SharedLimits | None = None,
    trust_run_dir: bool = False,
) -> RunResult:
    """Classifies files and waits for the end; the same call resumes an interrupted run.

    Args:
        settings: see `Settings.load`.
        file_ids: an iterable (asynchronous or not) of IDs or of mappings that have them, or a source as on the command
            line: a path, "-" or "project:". None: the run in the directory goes on.
        run_dir: the run directory; created if it doesn't exist.
        column: the column or key of the IDs; "file_id" if None.
        input_format: "lines", "csv", "tsv", "jsonl" or "json"; None: the content tells.
        delimiter: what stands between the columns of a table; None: its header tells.
        on_progress: called every half second, and awaited if it returns an awaitable. What it raises is logged once,
            and the run goes on.
        retry_failed: tries the failed files of the run again first.
        until_s: when creating jobs ends, in seconds since the epoch; jobs in flight are collected for
            `limits.drain_s` more.
        max_runtime_s: the same, as a span in seconds from now: it doesn't follow a clock that is set. Whichever of the
            two comes first ends creating.
        reuse: run directories, and folders of them, whose outcomes a new run reuses if their rules, mode and parsing
            configuration are the same; only the other files are sent. An existing run keeps its plan.
        include, exclude: where `file_ids` is a folder: globs, held against a document's name and its path in the
            folder. Only what one of `include` matches is taken (all, if there are none), and nothing that one of
            `exclude` matches. An existing run keeps those that it was planned with.
        submit_only: creates as many jobs as `limits.jobs_in_flight` allows (0: all) and returns; a later call without
            it collects them.
        observer: a function that is given every event of the run (`classify_batch.events`), one after the other. A
            coroutine function is awaited; a plain one is called in a thread of its own, and may block. What it raises
            is logged once, and it is not called any more. Of an observer that is more than 10,000 events behind,
            further ones are dropped and counted: nothing waits for it.
        observers: each is given every event, like `observer`, by its coroutine `observe`.
        shared_limits: the rate and the requests in flight that this run shares with others; see `SharedLimits`.
        trust_run_dir: uses the directory also where other users could misuse it: where it is another user's and every
            user may write to it, and where links stand in the place of its files.

    Raises:
        UsageError: settings, input or directory don't fit, or it was called inside a running event loop (use
            `await arun(…)` there); nothing was sent.
        WorldError: another process holds the run, or the disk refuses a write; the same call goes on later.
    """
    return run_in_new_loop(
        "run",
        partial(
            arun,
            settings,
            file_ids,
            run_dir,
            column=column,
            input_format=input_format,
            delimiter=delimiter,
            on_progress=on_progress,
            retry_failed=retry_failed,
            until_s=until_s,
            max_runtime_s=max_runtime_s,
            reuse=reuse,
            include=include,
            exclude=exclude,
            submit_only=submit_only,
            observer=observer,
            observers=observers,
            shared_limits=shared_limits,
            trust_run_dir=trust_run_dir,
        ),
    )


async def arun(
    settings: Settings,
    file_ids: SourceSpec | None = None,
    run_dir: Location = "run",
    *,
    column: str | None = None,
    input_format: str | None = None,
    delimiter: str | None = None,
    on_progress: OnProgress | None = None,
    retry_failed: bool = False,
    until_s: float | None = None,
    max_runtime_s: float | None = None,
    reuse: Reuse = (),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    submit_only: bool = False,
    observer: Observe | None = None,
    observers: Sequence[Observer] = (),
    shared_limits: SharedLimits | None = None,
    trust_run_dir: bool = False,
) -> RunResult:
    """Like `run`, inside a running asyncio loop. After a cancellation, the same call resumes the run."""
    refuse_no_settings(settings)
    return await carry_out_request(
        RunRequest(
            settings,
            file_ids,
            place_of(run_dir, trusted=trust_run_dir),
            parse_reading(input_format, delimiter, column),
            reuse,
            retry_failed,
            until_s,
            max_runtime_s,
            submit_only=submit_only,
            on_progress=on_progress,
            observers=all_observers(observer, observers),
            shared_limits=shared_limits,
            include=as_globs(include),
            exclude=as_globs(exclude),
        ),
        Shutdown(),
    )


async def carry_out_request(request: RunRequest, shutdown: Shutdown) -> RunResult:
    """Runs a request to its end, or until `shutdown` is asked to stop it."""
    return await run_in_own_task(partial(_carry_out_request, request, shutdown))


async def _carry_out_request(request: RunRequest, shutdown: Shutdown) -> RunResult:
    request = take_folder(request)
    place, settings, deadline = request.place, request.settings, request.deadline_from(anyio.current_time())
    if request.shared_limits is not None:
        request.shared_limits.gate_of_one_run()  # says at once that they are not open
    async with AsyncExitStack() as stack:
        # A complete run needs neither key nor call: it is answered before anything else is opened.
        if await claims_complete(place, retry_failed=request.retry_failed):
            key = None
            async with interruptible(shutdown):
                before = await read_complete_run(request)
            if before is not None:
                return before
        else:
            key = read_api_key(settings)
        resources = RunResources(settings, key, place.folder, SystemClock(), stack, request.shared_limits)
        store, found = await _open_run(request, resources, shutdown, stack)
        # Without failures there is nothing to retry, and the run stays complete.
        retries = request.retry_failed and found.snapshot.failures_end > 0
        finished = await result_if_complete(found, store, request)
        if finished is not None and not retries:
            return finished
        return await run_engine(replace(request, retry_failed=retries), deadline, resources, shutdown, store, found)


async def _open_run(
    request: RunRequest, resources: RunResources, shutdown: Shutdown, stack: AsyncExitStack
) -> tuple[RunStore, RunOnDisk]:
    """Locks the run directory; returns the run in it, which is planned now if it is new."""
    refuse_missing_documents(request.settings)  # before the directory is created
    store = await lock_run_directory(request.place, stack)
    await store.remove(TUNE_JSON)  # its limits were meant for an earlier process
    await store.remove(CANCEL_JSON)  # likewise: whoever asked sees that nobody answered
    if needs_project(request.source) and await store.size(RUN_JSON) is None:
        await resources.connect()  # here, since the block below cancels what is opened inside it
    async with interruptible(shutdown):
        found = await plan_if_new(resources, store, request) or await read_existing_run(store)
    refuse_unbounded_credits(found, request.settings)
    return store, found


async def run_engine(
    request: RunRequest,
    deadline: Deadline,
    resources: RunResources,
    shutdown: Shutdown,
    store: RunStore,
    found: RunOnDisk,
) -> RunResult:
    """Runs the engine until the run is complete, or has to stop."""
    # The whole plan is checked before the first call: a damaged one would classify the wrong files.
    plan = PlanReader(store)
    await plan.scan(found.run.plan_sha256)
    client, gate = await resources.connect()
    documents = await open_documents(found.run, client, store, resources.clock)
    events = EventLog(store, resources.clock, client.secrets.hide)
    clock = resources.clock
    config = None if request.config is None else str(request.config.absolute())
    found = replace(found, config=config, trusted=request.place.trusted)
    async with AsyncExitStack() as stack:
        run_log = stack.enter_context(logging_run(found, client.secrets.hide))
        telemetry = stack.enter_context(telemetry_of(found))
        api = observe_calls(make_api(request.settings, client, found.run.run_id), telemetry)
        own: list[Observer] = [events, run_log] if telemetry is None else [events, run_log, telemetry]
        observers = [*own, *request.observers]
        orchestrator = Orchestrator(
            request.settings, api, gate, clock, found, plan, shutdown, observers, documents, request.pace
        )
        await stack.enter_async_context(writing_events(events, found))
        await stack.enter_async_context(reporting_progress(orchestrator, request.on_progress))
        if webhooks := other_webhooks(found.run, request.settings):
            log.warning("webhooks changed: %s", webhooks)
            await events.observe(Warned(f"webhooks changed: {webhooks}"))
        ending = await orchestrator.run(
            retry_failed=request.retry_failed,
            deadline=deadline,
            submit_only=request.submit_only,
            cancel=request.cancel,
        )
        events.set_ending(ending)
        run_log.log_ending(ending)
        if telemetry is not None:
            telemetry.set_ending(ending)
    return RunResult(request.place, ending.state, ending.exit_status, ending.reason or "", ending.hint, ending.manifest)


@asynccontextmanager
async def interruptible(shutdown: Shutdown) -> AsyncIterator[None]:
    """Cancels the block when `shutdown` is asked to stop: before the engine runs, there is nothing to finish.

    Raises:
        InterruptedEarlyError: the block was cancelled.
    """
    async with anyio.create_task_group() as tasks:

        async def cancel_on_stop() -> None:
            await shutdown.creating_ended.wait()
            tasks.cancel_scope.cancel()

        tasks.start_soon(cancel_on_stop)
        yield
        tasks.cancel_scope.cancel()
    if shutdown.stop is not None:
        raise InterruptedEarlyError(shutdown.stop.reason, hint="the same command begins again")


@asynccontextmanager
async def writing_events(events: EventLog, found: RunOnDisk) -> AsyncIterator[None]:
    """Writes to the event log that this process takes the run over, and at the block's end how it leaves it."""
    await events.begin(found)
    try:
        yield
    except Exception as error:
        cause = the_cause(error) if isinstance(error, BaseExceptionGroup) else error
        events.set_error(cause)
        raise
    finally:
        await events.end()


def refuse_no_settings(settings: object) -> None:
    """Raises UsageError for a path or a dict in the place of settings."""
    if not isinstance(settings, Settings):
        raise UsageError(
            f"the settings are {type(settings).__name__}, and must be Settings",
            hint='Settings.load("job.toml") reads a config, Settings(api={…}, job={…}) takes its sections',
        )
