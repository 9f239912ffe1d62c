"""Sends changed limits to the process that runs a run, through a file in the run directory."""

from __future__ import annotations

import json

import anyio

from classify_batch.errors import RunDirectoryError, WorldError
from classify_batch.operations.status import no_run_error
from classify_batch.ports import RunStore
from classify_batch.settings.limit_changes import Tuning
from classify_batch.store import Location, open_store
from classify_batch.vocabulary import RUN_JSON, TUNE_JSON

TIMEOUT_S = 10.0
_POLL_EVERY_S = 0.05


async def tune(run_dir: Location, tuning: Tuning, *, timeout_s: float = TIMEOUT_S) -> None:
    """Returns when the process that runs the run has applied the limits, and written them to the journal.

    That process removes the file then; so the file's absence is its answer.

    Raises:
        RunDirectoryError: there is no run, or no process runs it.
        WorldError: another `tune` is waiting, or the process doesn't answer in time.
        StoreError: the directory can't be written.
    """
    store = open_store(run_dir)
    if await store.size(RUN_JSON) is None:
        raise no_run_error(store.where)
    holder = await store.holder()
    if holder is None:
        raise RunDirectoryError(
            f"{store.where}: no process is at work on this run",
            hint="give the limits to the next start, as settings or as options of `resume`",
        )
    # One timeout for both waits: for another `tune` to finish, and for the answer.
    ends_s = anyio.current_time() + timeout_s
    await _put_in_place(store, json.dumps(tuning.changes()).encode(), ends_s)
    while await store.size(TUNE_JSON) is not None:
        if anyio.current_time() > ends_s:
            await store.remove(TUNE_JSON)  # it must not be applied after the error
            raise WorldError(
                f"process {holder.pid} on {holder.host} did not answer within {timeout_s:g} seconds",
                hint="it may be stopping, or reading its input: see `classify-batch status`, then try again",
            )
        await anyio.sleep(_POLL_EVERY_S)


async def _put_in_place(store: RunStore, data: bytes, ends_s: float) -> None:
    """Writes the file whole, and never in place of that of another `tune` which is still waiting there."""
    while True:
        try:
            await store.create(TUNE_JSON, data)
            return
        except FileExistsError:
            if anyio.current_time() > ends_s:
                raise WorldError(
                    f"{TUNE_JSON} is in {store.where} already: another `tune` is waiting for its answer",
                    hint="give the same command again; remove the file if no other command is running",
                ) from None
        await anyio.sleep(_POLL_EVERY_S)
