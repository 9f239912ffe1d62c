"""Where earlier runs are, and which of them a new run may take outcomes over from."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from classify_batch.clock import from_iso
from classify_batch.errors import UsageError
from classify_batch.operations.reuse.earlier_outcomes import Earlier
from classify_batch.operations.reuse.run_differences import differences
from classify_batch.rundir.opened_run import read_run
from classify_batch.rundir.run_json import read_run_file
from classify_batch.store.disk import DiskStore
from classify_batch.store.os_errors import refusals
from classify_batch.vocabulary import RUN_JSON

Reuse = str | PathLike[str] | Iterable[str | PathLike[str]]
"""Run directories, and folders of run directories."""

log = logging.getLogger("classify_batch")


async def earlier_runs(reuse: Reuse, run_dir: Path, identity: Mapping[str, Any]) -> list[Earlier]:
    """The runs whose outcomes are good for a run of this identity, the newest first. Those that differ are told.

    Raises:
        UsageError: a directory is neither a run nor a folder of runs.
        DamagedError: a run's run.json or journal is not there as it was written.
    """
    found: list[Earlier] = []
    for path in _run_directories(reuse, run_dir):
        store = DiskStore(path)
        told = await read_run_file(store)
        if told is not None and (differing := differences(identity, told[0].identity)):
            log.warning("%s is not reused: it differs in %s", path, ", ".join(differing))
        elif (run := await read_run(store)) is not None:
            found.append(Earlier(store, run))
    return sorted(found, key=lambda earlier: from_iso(earlier.run.run.created_at) or 0.0, reverse=True)


def _run_directories(reuse: Reuse, run_dir: Path) -> list[Path]:
    """Each run directory once, by name; the new run's own is left out."""
    given = [reuse] if isinstance(reuse, str | PathLike) else list(reuse)
    found: dict[Path, Path] = {}
    for path in map(Path, given):
        for each in _runs_in(path, run_dir):
            found.setdefault(each.resolve(), each)
    found.pop(run_dir.resolve(), None)
    return list(found.values())


def _runs_in(path: Path, run_dir: Path) -> list[Path]:
    if (path / RUN_JSON).is_file():
        return [path]
    if not path.is_dir():
        raise _no_runs(path)
    with refusals(path):
        inside = sorted(path.iterdir())
    runs = [each for each in inside if (each / RUN_JSON).is_file()]
    if not runs and path.resolve() != run_dir.resolve().parent:  # where the new run is the first one, there is none yet
        raise _no_runs(path)
    return runs


def _no_runs(path: Path) -> UsageError:
    return UsageError(
        f"{path} is neither a run directory nor a folder of run directories",
        hint="name a run, or a folder that holds some, to --reuse",
    )
