"""Runs one run directory: opens what it needs, plans it or resumes it, and closes everything again."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial

import anyio
from pydantic import SecretStr

from classify_batch.clock import SystemClock
from classify_batch.engine.context import PlannedRun
from classify_batch.engine.deadline import Deadline
from classify_batch.engine.event_log import EventLog
from classify_batch.engine.orchestrator import Orchestrator
from classify_batch.engine.sessions import account_keys
from classify_batch.engine.shutdown import Shutdown
from classify_batch.errors import InterruptedEarlyError, RunDirectoryError, UsageError, the_cause
from classify_batch.events import Warned
from classify_batch.inputs.open import needs_project
from classify_batch.operations.api_version import make_api_of_run
from classify_batch.operations.complete_run import claims_complete, read_complete_run, result_if_complete
from classify_batch.operations.documents import open_documents
from classify_batch.operations.folder_request import take_folder
from classify_batch.operations.observed_api import observe_calls
from classify_batch.operations.own_task import run_in_own_task
from classify_batch.operations.ownership import keeping_lease, own_shard
from classify_batch.operations.plan import plan_if_new, read_existing_run, refuse_unbounded_credits
from classify_batch.operations.reporting_progress import reporting_progress
from classify_batch.operations.result import RunResult
from classify_batch.operations.run_log import logging_run
from classify_batch.operations.run_request import RunRequest
from classify_batch.operations.run_resources import RunResources, lock_run_directory, refuse_missing_documents
from classify_batch.operations.shard_account import take_account
from classify_batch.operations.telemetry import telemetry_of
from classify_batch.ports import Observer, RunPlace, RunStore
from classify_batch.rundir.opened_run import RunOnDisk
from classify_batch.rundir.plan import PlanReader
from classify_batch.rundir.requests import forget_requests
from classify_batch.rundir.run_json import RunFile, other_webhooks, read_run_file, shard_name
from classify_batch.settings import Settings, read_api_key
from classify_batch.streams.background import background_tasks
from classify_batch.vocabulary import RUN_JSON

log = logging.getLogger("classify_batch")


async def carry_out_request(request: RunRequest, shutdown: Shutdown) -> RunResult:
    """Runs a request to its end, or until `shutdown` is asked to stop it. (What a caller asks of a run that may have
    shards goes to `carry_out`.)"""
    return await run_in_own_task(partial(_carry_out_request, request, shutdown))


async def _carry_out_request(request: RunRequest, shutdown: Shutdown) -> RunResult:
    request = take_folder(request)
    place, settings, deadline = request.place, request.settings, request.deadline_from(anyio.current_time())
    if request.shared_limits is not None:
        request.shared_limits.gate_of_one_run()  # says at once that they are not open
    async with AsyncExitStack() as stack:
        # A complete run needs neither key nor call: it is answered before anything else is opened.
        claimed = await claims_complete(place, retry_failed=request.retry_failed)
        if claimed:
            async with interruptible(shutdown):
                before = await read_complete_run(request)
            if before is not None:
                return before
        request = await take_account(request)
        if request.account is not None:
            key: SecretStr | None = request.account.key
        else:
            key = None if claimed else read_api_key(settings)
        resources = RunResources(request.own_settings, key, place.folder, SystemClock(), stack, request.shared_limits)
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
    store = await _own_directory(request, resources, shutdown, stack)
    await forget_requests(store)
    if needs_project(request.source) and await store.size(RUN_JSON) is None:
        await resources.connect_client()  # here, since the block below cancels what is opened inside it
    async with interruptible(shutdown):
        found = await plan_if_new(resources, store, request) or await read_existing_run(store)
    refuse_unbounded_credits(found, request.settings)
    return store, found


async def _own_directory(
    request: RunRequest, resources: RunResources, shutdown: Shutdown, stack: AsyncExitStack
) -> RunStore:
    """Locks the run directory; that of a shard has a lease as well, which is kept until `stack` is closed."""
    if request.slice is None and not await is_shard(request.place):
        return await lock_run_directory(request.place, stack)
    async with interruptible(shutdown):
        store, resources.lease = await own_shard(request.place, request.settings.limits.lease_s, stack)
    await stack.enter_async_context(keeping_lease(resources.lease, store, shutdown))
    return store


async def is_shard(place: RunPlace) -> bool:
    """Whether the run in a place is a shard of another."""
    found = await read_run_file(place.open(), takes_shards=True)
    return found is not None and found[0].shard is not None


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
    refuse_moved_account(request, found)
    plan = PlanReader(store, found.run.first_chunk)
    await plan.scan_whole_file(found.run.plan_sha256)
    client, gate = await resources.connect_client()
    documents = await open_documents(found.run, client, store, resources.clock)
    events = EventLog(store, resources.clock, client.secrets.hide)
    clock = resources.clock
    config = None if request.config is None else str(request.config.absolute())
    siblings = sibling_stores(request.place, found.run)
    found = replace(found, config=config, trusted=request.place.trusted, siblings=siblings)
    settings = request.own_settings
    if (account := request.account) is not None:
        found = replace(found, account=account.name, account_credits=account.max_credits)
    async with AsyncExitStack() as stack:
        run_log = stack.enter_context(logging_run(found, client.secrets.hide))
        telemetry = stack.enter_context(telemetry_of(found))
        api = observe_calls(make_api_of_run(settings, client, found.run), telemetry)
        own: list[Observer] = [events, run_log] if telemetry is None else [events, run_log, telemetry]
        observers = [*own, *request.observers]
        orchestrator = Orchestrator(
            settings, api, gate, clock, PlannedRun(found, plan, documents), shutdown, observers, request.pace
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
    async with background_tasks() as tasks:

        async def cancel_on_stop() -> None:
            await shutdown.creating_ended.wait()
            tasks.cancel_scope.cancel()

        tasks.start_soon(cancel_on_stop)
        yield
    if shutdown.stop is not None:
        raise InterruptedEarlyError(shutdown.stop.reason, hint="the same command begins again")


@asynccontextmanager
async def writing_events(events: EventLog, found: RunOnDisk) -> AsyncIterator[None]:
    """Writes to the event log that this process takes the run over, and at the block's end how it leaves it."""
    await events.write_run_started(found)
    try:
        yield
    except Exception as error:
        cause = the_cause(error) if isinstance(error, BaseExceptionGroup) else error
        events.set_error(cause)
        raise
    finally:
        await events.write_run_stopped()


def refuse_moved_account(request: RunRequest, found: RunOnDisk) -> None:
    """Raises RunDirectoryError where an account has attempts open, and its key leads elsewhere now: it would look for
    their jobs where they can't be, and believe that there are none."""
    if (account := request.account) is None:
        return
    snapshot, now = found.snapshot, account_keys(account.name, request.own_settings)
    before = snapshot.account_keys.get(account.name, now)
    if before != now and any(each.account == account.name for each in snapshot.open_attempts.values()):
        names = ("base_url", "project_id", "organization_id")
        moved = [
            f"{name}: {before.get(name)}, now {now.get(name)}" for name in names if before.get(name) != now.get(name)
        ]
        raise RunDirectoryError(
            f"account {account.name} has jobs in {found.store.where}, and it was another one then ({'; '.join(moved)})",
            hint="give the account what it had, or another name",
        )


def refuse_no_settings(settings: object) -> None:
    """Raises UsageError for a path or a dict in the place of settings."""
    if not isinstance(settings, Settings):
        raise UsageError(
            f"the settings are {type(settings).__name__}, and must be Settings",
            hint='Settings.load("job.toml") reads a config, Settings(api={…}, job={…}) takes its sections',
        )


def sibling_stores(place: RunPlace, run: RunFile) -> list[RunStore]:
    """The other shards of the run that a shard belongs to; none where it is no shard."""
    if (shard := run.shard) is None:
        return []
    return [place.sibling(shard_name(index)).open() for index in range(shard["count"]) if index != shard["index"]]
