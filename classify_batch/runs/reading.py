"""What a run directory tells without a run: nothing is changed, and a run may be on."""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path
from typing import Any

from classify_batch.errors import RunDirectoryError
from classify_batch.manifest.run_file import read_run_file
from classify_batch.manifest.standing import read_run
from classify_batch.manifest.summary import manifest_of, read_manifest
from classify_batch.manifest.verify import Verification, verify
from classify_batch.records import RunState
from classify_batch.store.disk import DiskStore


async def read_run_settings(run_dir: str | PathLike[str]) -> dict[str, Any]:
    """The settings that a run was planned with. Raises RunDirectoryError where there is no run."""
    path = Path(run_dir)
    found = await read_run_file(DiskStore(path)) if path.is_dir() else None
    if found is None:
        raise _no_run(path)
    return found[0].settings


async def verify_run(run_dir: str | PathLike[str]) -> Verification:
    """Proves a run directory. Raises RunDirectoryError where there is no run."""
    path = Path(run_dir)
    spill = path if os.access(path, os.W_OK) else None  # the system's own place for it may be memory
    found = await verify(DiskStore(path), spill) if path.is_dir() else None
    if found is None:
        raise _no_run(path)
    return found


async def read_status(run_dir: str | PathLike[str]) -> dict[str, Any]:
    """The keys of manifest.json as they stand now, read from the directory only; safe while a run is on.

    Adds `holder` (host, pid, since) while a process holds the run.
    """
    path = Path(run_dir)
    store = DiskStore(path)
    found = await read_run(store) if path.is_dir() else None
    if found is None:
        raise _no_run(path)
    manifest = await read_manifest(store)
    holder = store.holder()
    state = RunState.RUNNING if holder else RunState.COMPLETE if found.standing.complete else RunState.INCOMPLETE
    now = manifest_of(found.run, found.standing, state=state, requests=found.standing.requests, started_at_s=0)
    now["started_at"] = manifest["started_at"] if manifest else None
    if manifest and not holder:
        now |= {key: manifest.get(key) for key in ("reason", "exit_status", "stopped_at", "outputs")}
    if holder:
        now["holder"] = {"host": holder.host, "pid": holder.pid, "since": holder.since}
    return now


def _no_run(path: Path) -> RunDirectoryError:
    return RunDirectoryError(f"{path} holds no run", hint="name the directory of a run")
