"""Exports the outcomes of a run. Nothing in its directory is changed, and it may be running."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from classify_batch.operations.export.export_outcomes import OutcomeExport
from classify_batch.operations.export.formats import JsonLines, OutputFormat, Table
from classify_batch.operations.export.selection import Only, make_selection
from classify_batch.operations.export.target import CSV, export_suffix, refuse_bad_target
from classify_batch.operations.open_run import open_run
from classify_batch.rundir.opened_run import RunOnDisk
from classify_batch.store import Location
from classify_batch.store.atomic_file import replace_file
from classify_batch.streams.closing import closing


@dataclass(frozen=True, slots=True)
class Exported:
    """What was exported.

    Attributes:
        files: how many outcomes were written.
        of: how many files the run has.
        waiting: how many of them have no outcome yet.
    """

    files: int
    of: int
    waiting: int


async def export_run(run_dir: Location, target: str | PathLike[str], *, only: Only | None = None) -> Exported:
    """Writes the committed outcomes of a run to the file `target`, as JSONL or CSV by its suffix.

    The file is written whole or not at all; an existing one is replaced.

    Raises:
        UsageError: the target has another suffix, or is a run's own file; or `only` needs a triage, and the run has
            none.
        RunDirectoryError: the directory holds no run, or one of a newer version.
        DamagedError: what was committed is not there as it was written.
        WorldError: `retry_failed` reopened the run while it was read, or the target can't be written.
    """
    path = Path(target)
    suffix = export_suffix(path)
    store, run = await open_run(run_dir)
    refuse_bad_target(path)
    output_format: OutputFormat = (
        Table(run.run.settings.get("plan", {}).get("carry", ())) if suffix == CSV else JsonLines()
    )
    export = OutcomeExport(store, run, make_selection(only, run.run, store.where), output_format)
    async with closing(export.encoded_blocks()) as blocks:
        await replace_file(path, blocks)
    return _count_exported(export, run)


async def export_lines(run_dir: Location, sink: Callable[[bytes], object], *, only: Only | None = None) -> Exported:
    """Calls `sink` with the committed outcomes of a run, some lines (JSONL) at a time. Raises as `export_run`."""
    store, run = await open_run(run_dir)
    export = OutcomeExport(store, run, make_selection(only, run.run, store.where), JsonLines())
    async with closing(export.encoded_blocks()) as blocks:
        async for block in blocks:
            sink(block)
    return _count_exported(export, run)


def _count_exported(export: OutcomeExport, run: RunOnDisk) -> Exported:
    return Exported(export.files, run.run.files, run.run.files - run.snapshot.outcomes.total())
