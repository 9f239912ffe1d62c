"""Hands the outcomes of a run on. Nothing in its directory is changed, and it may be on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from classify_batch.operations.export.export_outcomes import Export
from classify_batch.operations.export.formats import Form, JsonLines, Table
from classify_batch.operations.export.selection import Only, selection_of
from classify_batch.operations.export.target import CSV, refuse_unfit, suffix_of
from classify_batch.operations.open_run import open_run
from classify_batch.rundir.opened_run import RunOnDisk
from classify_batch.store.disk import DiskStore
from classify_batch.streams.closing import closing


@dataclass(frozen=True, slots=True)
class Exported:
    """What was handed on.

    Attributes:
        files: how many outcomes were written, of how many files of the run; waiting: those that have none yet.
    """

    files: int
    of: int
    waiting: int


async def export_run(
    run_dir: str | PathLike[str], target: str | PathLike[str], *, only: Only | None = None
) -> Exported:
    """Writes the committed outcomes of a run to the file `target`, as JSONL or CSV by its suffix.

    The file comes whole or not at all; one that was there is replaced.

    Raises:
        UsageError: the target has another suffix, or is a run's own file; or `only` asks for triage that the run
            doesn't have.
        RunDirectoryError: the directory holds no run, or one of a newer version.
        DamagedError: what was committed is not there as it was written.
        WorldError: the run took its failed files up again while it was read, or the target can't be written.
    """
    path = Path(target)
    suffix = suffix_of(path)
    store, run = await open_run(run_dir)
    refuse_unfit(path)
    form: Form = Table(run.run.settings.get("plan", {}).get("carry", ())) if suffix == CSV else JsonLines()
    export = Export(store, run, selection_of(only, run.run, store.where), form)
    async with closing(export.blocks()) as blocks:
        await DiskStore(path.parent).replace(path.name, blocks)
    return _exported(export, run)


async def export_lines(
    run_dir: str | PathLike[str], took: Callable[[bytes], object], *, only: Only | None = None
) -> Exported:
    """Gives the committed outcomes of a run to `took`, some lines (JSONL) at a time. Raises as `export_run`."""
    store, run = await open_run(run_dir)
    export = Export(store, run, selection_of(only, run.run, store.where), JsonLines())
    async with closing(export.blocks()) as blocks:
        async for block in blocks:
            took(block)
    return _exported(export, run)


def _exported(export: Export, run: RunOnDisk) -> Exported:
    return Exported(export.files, run.run.files, run.run.files - run.standing.outcomes.total())
