"""Opens a run directory to read it. Nothing is changed, and a process may be running the run."""

from __future__ import annotations

from classify_batch.operations.status import no_run_error
from classify_batch.ports import RunStore
from classify_batch.run_records import StoredSettings
from classify_batch.rundir.opened_run import RunOnDisk, read_run
from classify_batch.rundir.run_json import read_run_file
from classify_batch.store import Location, open_store


async def read_run_settings(run_dir: Location) -> StoredSettings:
    """The settings that a run was planned with. Raises RunDirectoryError where there is no run."""
    store = open_store(run_dir)
    found = await read_run_file(store, takes_shards=True)
    if found is None:
        raise no_run_error(store.where)
    return found[0].settings


async def open_run(run_dir: Location) -> tuple[RunStore, RunOnDisk]:
    """The run in a directory, and its store. Raises RunDirectoryError where there is no run."""
    store = open_store(run_dir)
    run = await read_run(store)
    if run is None:
        raise no_run_error(store.where)
    return store, run
