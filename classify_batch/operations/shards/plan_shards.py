"""One plan for all processes: whoever comes first writes it, and the others wait for it."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from dataclasses import replace

import anyio

from classify_batch.clock import SystemClock
from classify_batch.errors import LockedError, RunDirectoryError
from classify_batch.operations.plan import plan_new_run, refuse_other_file_ids
from classify_batch.operations.run_request import RunRequest
from classify_batch.operations.run_resources import RunResources, lock_run_directory, refuse_missing_documents
from classify_batch.operations.shards.choice import refuse_out_of_range
from classify_batch.operations.shards.whole import ShardedRun
from classify_batch.rundir.run_json import read_run_file, refuse_other_run
from classify_batch.settings import require_keys

PLANNED_EVERY_S = 0.2
"""How often a process that waits looks whether the plan is there."""

log = logging.getLogger("classify_batch")


async def plan_sharded(request: RunRequest, *, needs_key: bool = False) -> ShardedRun:
    """The run in the request's place, which is planned with `request.shards` now if it is new.

    The directory's lock is held while the plan is written, and run.json is put in place last, by an exclusive create:
    so of all processes that begin a run at the same time one plans it, and the others find its plan. Where it is
    killed, the next one plans.

    Args:
        needs_key: a missing API key is an error before anything is written.

    Raises:
        UsageError: the input, the settings or the number of shards are another run's.
    """
    waited = False
    while (found := await _read_fitting(request)) is None:
        if needs_key:
            require_keys(request.settings)
        try:
            if await _plan_under_lock(request):
                request = replace(request, source=None)  # its files are the plan's: it need not be read once more
        except LockedError as error:
            if not waited:
                log.info("another process writes the plan of %s: waiting for it (%s)", request.place.where, error)
            waited = True
            await anyio.sleep(PLANNED_EVERY_S)
    return found


async def _plan_under_lock(request: RunRequest) -> bool:
    """Plans the run, unless another process just did; whether it was this one."""
    async with AsyncExitStack() as stack:
        resources = RunResources(request.settings, None, request.place.folder, SystemClock(), stack)
        refuse_missing_documents(request.settings)
        store = await lock_run_directory(request.place, stack)
        if await read_run_file(store, takes_shards=True) is not None:
            return False
        await plan_new_run(resources, store, request)
        return True


async def _read_fitting(request: RunRequest) -> ShardedRun | None:
    """The run in the place, if it is the one that the request means; None where there is none."""
    place, store = request.place, request.place.open()
    read = await read_run_file(store, takes_shards=True)
    if read is None:
        if request.shards is None and request.source is not None and not request.settings.accounts:
            raise RunDirectoryError(
                f"{store.where} holds no run, and nobody said how many shards it has",
                hint="give --shards N (shards=N) too, or the shard as I/N",
            )
        return None
    run, run_sha256 = read
    refuse_other_run(run, request.settings.identity(), store.where)
    if run.shards is None:
        what = "[[accounts]]" if request.settings.accounts else "the shards"
        raise RunDirectoryError(
            f"{store.where} holds a run without shards: one process carries it out",
            hint=f"leave {what} out, or name a new run directory",
        )
    if request.shards not in (None, len(run.shards)):
        raise RunDirectoryError(
            f"{store.where} holds a run of {len(run.shards)} shards, and the command says {request.shards}",
            hint="give the number that the run was planned with, or leave it out",
        )
    if request.shard is not None:
        refuse_out_of_range(request.shard, len(run.shards))
    if request.source is not None:
        await refuse_other_file_ids(run, store, place.folder, request)
    return ShardedRun(place, run, run_sha256)
