"""Exports the outcomes of a run. Nothing in its directory is changed, and it may be running."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path

from classify_batch.operations.export.export_outcomes import OutcomeExport
from classify_batch.operations.export.formats import JsonLines, OutputFormat, Table, column_names
from classify_batch.operations.export.partition import file_name, make_partition, parse_partitions, refuse_columns
from classify_batch.operations.export.selection import Only, make_selection
from classify_batch.operations.export.target import CSV, PARQUET, TEXT_SUFFIXES, export_suffix, refuse_bad_target
from classify_batch.operations.open_run import OpenedRun, open_with_shards
from classify_batch.rundir.run_json import RunFile
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
        path: the file that was written; None where the outcomes went to a function.
    """

    files: int
    of: int
    waiting: int
    path: Path | None = None


async def export_run(
    run_dir: Location, target: str | PathLike[str], *, only: Only | None = None, partition: Sequence[str] = ()
) -> Exported:
    """Writes the committed outcomes of a run to the file `target`: JSONL, CSV, Parquet or Arrow, by its suffix.

    The file is written whole or not at all; an existing one is replaced. With `partition`, such as `dt=2026-11-22`,
    `target` is a directory, and the file a Parquet file in `target/dt=2026-11-22/` that has the name of the run.

    Raises:
        UsageError: the target has another suffix, or is a run's own file; `only` needs a triage, and the run has
            none; the extra `parquet` is needed, and not installed; or a partition is none.
        RunDirectoryError: the directory holds no run, or one of a newer version.
        DamagedError: what was committed is not there as it was written.
        WorldError: `retry_failed` reopened the run while it was read, or the target can't be written.
    """
    partitions = parse_partitions(partition)
    suffix = PARQUET if partitions else export_suffix(Path(target))
    run = await open_with_shards(run_dir)
    export = OutcomeExport(run.parts, make_selection(only, run.run, run.where), _text_format(suffix, run.run))
    if partitions:
        refuse_columns(partitions, column_names(carried_columns(run.run)))
        path = make_partition(Path(target), partitions) / file_name(run.run.run_id, only)
    else:
        path = Path(target)
    refuse_bad_target(path)
    if suffix in TEXT_SUFFIXES:
        async with closing(export.encoded_blocks()) as blocks:
            await replace_file(path, blocks)
    else:
        await _write_table(export, run, suffix, partial(replace_file, path))
    return _count_exported(export, run, path)


async def _write_table(
    export: OutcomeExport, run: OpenedRun, suffix: str, write: Callable[[AsyncIterator[bytes]], Awaitable[None]]
) -> None:
    from classify_batch.operations.export import arrow_files, columns  # noqa: PLC0415 - an extra

    encode = arrow_files.parquet_blocks if suffix == PARQUET else arrow_files.arrow_blocks
    table = columns.OutcomeColumns(carried_columns(run.run), columns.first_categories(run.parts))
    while True:
        try:
            async with encode(export.batches(table), table) as blocks:
                await write(blocks)
        except arrow_files.GrownCategoriesError:  # which `table` has learned: it can't come for ever
            continue
        return


def _text_format(suffix: str, run: RunFile) -> OutputFormat:
    return Table(carried_columns(run)) if suffix == CSV else JsonLines()


def carried_columns(run: RunFile) -> Sequence[str]:
    """The columns that the run carries along."""
    carry: Sequence[str] = run.settings.get("plan", {}).get("carry", ())
    return carry


async def export_lines(run_dir: Location, sink: Callable[[bytes], object], *, only: Only | None = None) -> Exported:
    """Calls `sink` with the committed outcomes of a run, some lines (JSONL) at a time. Raises as `export_run`."""
    run = await open_with_shards(run_dir)
    export = OutcomeExport(run.parts, make_selection(only, run.run, run.where), JsonLines())
    async with closing(export.encoded_blocks()) as blocks:
        async for block in blocks:
            sink(block)
    return _count_exported(export, run, None)


def _count_exported(export: OutcomeExport, run: OpenedRun, path: Path | None) -> Exported:
    return Exported(export.files, run.run.files, run.run.files - run.outcomes, path)
