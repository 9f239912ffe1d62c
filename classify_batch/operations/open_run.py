"""Opens a run directory to read it. Nothing is changed, and a process may be running the run."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from classify_batch.operations.status import no_run_error
from classify_batch.rundir.opened_run import RunOnDisk, read_run
from classify_batch.rundir.run_json import read_run_file
from classify_batch.store.disk import DiskStore


async def read_run_settings(run_dir: str | PathLike[str]) -> dict[str, Any]:
    """The settings that a run was planned with. Raises RunDirectoryError where there is no run."""
    path = Path(run_dir)
    found = await read_run_file(DiskStore(path)) if path.is_dir() else None
    if found is None:
        raise no_run_error(path)
    return found[0].settings


async def open_run(run_dir: str | PathLike[str]) -> tuple[DiskStore, RunOnDisk]:
    """The run in a directory, and its store. Raises RunDirectoryError where there is no run."""
    path = Path(run_dir)
    store = DiskStore(path)
    run = await read_run(store) if path.is_dir() else None
    if run is None:
        raise no_run_error(path)
    return store, run
