"""Finds earlier runs, and selects those whose outcomes a new run may reuse."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from classify_batch.clock import from_iso
from classify_batch.errors import UsageError
from classify_batch.operations.reuse.earlier_outcomes import EarlierRun
from classify_batch.operations.reuse.run_differences import find_differences
from classify_batch.rundir.opened_run import read_run
from classify_batch.rundir.run_json import read_run_file
from classify_batch.store.disk import DiskStore
from classify_batch.store.os_errors import refusals
from classify_batch.vocabulary import RUN_JSON

Reuse = str | PathLike[str] | Iterable[str | PathLike[str]]
"""Run directories, and folders of run directories."""

log = logging.getLogger("classify_batch")


async def find_earlier_runs(reuse: Reuse, run_dir: Path, identity: Mapping[str, Any]) -> list[EarlierRun]:
    """The runs whose outcomes a run of this identity may reuse, the newest first. Logs a warning for each other run.

    Raises:
        UsageError: a directory is neither a run nor a folder of runs.
        DamagedError: a run's run.json or journal is not there as it was written.
    """
    found: list[EarlierRun] = []
    for path in find_run_directories(reuse, run_dir):
        store = DiskStore(path)
        run_file = await read_run_file(store)
        if run_file is not None and (differing := find_differences(identity, run_file[0].identity)):
            log.warning("%s is not reused: it differs in %s", path, ", ".join(differing))
        elif (run := await read_run(store)) is not None:
            found.append(EarlierRun(store, run))
    return sorted(found, key=lambda earlier: from_iso(earlier.run.run.created_at) or 0.0, reverse=True)


def find_run_directories(reuse: Reuse, run_dir: Path) -> list[Path]:
    """Each given run directory once, without that of the new run."""
    given = [reuse] if isinstance(reuse, str | PathLike) else list(reuse)
    found: dict[Path, Path] = {}
    for path in map(Path, given):
        for each in runs_in_folder(path, run_dir):
            found.setdefault(each.resolve(), each)  # links to one run count once, as it was named first
    found.pop(run_dir.resolve(), None)
    return list(found.values())


def runs_in_folder(path: Path, run_dir: Path) -> list[Path]:
    """The run directories that a path means: itself, or all in it."""
    if (path / RUN_JSON).is_file():
        return [path]
    if not path.is_dir():
        raise no_runs_error(path)
    with refusals(path):
        inside = sorted(path.iterdir())
    runs = [each for each in inside if (each / RUN_JSON).is_file()]
    if (
        not runs and path.resolve() != run_dir.resolve().parent
    ):  # the folder of the new run may be empty: it is the first
        raise no_runs_error(path)
    return runs


def no_runs_error(path: Path) -> UsageError:
    return UsageError(
        f"{path} is neither a run directory nor a folder of run directories",
        hint="name a run, or a folder that holds some, to --reuse",
    )
