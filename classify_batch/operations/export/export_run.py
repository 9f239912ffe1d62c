"""Exports the outcomes of a run. Nothing in its directory is changed, and it may be running."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from classify_batch.operations.export.export_outcomes import OutcomeExport
from classify_batch.operations.export.formats import JsonLines, Table, column_names
from classify_batch.operations.export.partition import (
    file_name,
    parse_partitions,
    refuse_columns,
    target_in_partition,
)
from classify_batch.operations.export.selection import Only, make_selection
from classify_batch.operations.export.target import (
    CSV,
    PARQUET,
    TEXT_SUFFIXES,
    ObjectTarget,
    Target,
    export_suffix,
    target_of,
)
from classify_batch.operations.open_run import OpenedRun, open_with_shards
from classify_batch.rundir.run_json import RunFile
from classify_batch.store import Location
from classify_batch.streams.closing import closing


@dataclass(frozen=True, slots=True)
class Exported:
    """What was exported.

    Attributes:
        files: how many outcomes were written.
        of: how many files the run has.
        waiting: how many of them have no outcome yet.
        path: the file that was written; None where the outcomes went to a function, or to an object.
        url: the object that was written, where it was one.
    """

    files: int
    of: int
    waiting: int
    path: Path | None = None
    url: str | None = None


async def export_run(
    run_dir: Location, target: str | PathLike[str], *, only: Only | None = None, partition: Sequence[str] = ()
) -> Exported:
    """Writes the committed outcomes of a run to `target`, a file or an object: JSONL, CSV, Parquet or Arrow, by its
    suffix.

    It is written whole or not at all; an existing one is replaced. With `partition`, such as `dt=2026-11-22`,
    `target` is a directory, and the file a Parquet file in `target/dt=2026-11-22/` that has the name of the run.

    Raises:
        UsageError: the target has another suffix, or is a run's own file; `only` needs a triage, and the run has
            none; an extra is needed, and not installed; or a partition is none.
        RunDirectoryError: the directory holds no run, or one of a newer version.
        DamagedError: what was committed is not there as it was written.
        WorldError: a process is just planning the run, or `retry_failed` reopened it meanwhile; or
            the target can't be written.
        ObjectAccessError: the store wants other credentials.
    """
    partitions = parse_partitions(partition)
    named = None if partitions else target_of(target)
    suffix = PARQUET if named is None else export_suffix(named)
    run = await open_with_shards(run_dir)
    text_format = Table(carried_columns(run.run)) if suffix == CSV else JsonLines()
    export = OutcomeExport(run.parts, make_selection(only, run.run, run.where), text_format)
    if named is None:
        refuse_columns(partitions, column_names(carried_columns(run.run)))
        named = target_in_partition(target, partitions, file_name(run.run.run_id, only))
    named.refuse_if_bad()
    if suffix in TEXT_SUFFIXES:
        async with closing(export.encoded_blocks()) as blocks:
            await named.write(blocks)
    else:
        await _write_table(export, run, suffix, named.write)
    return _count_exported(export, run, named)


async def _write_table(
    export: OutcomeExport, run: OpenedRun, suffix: str, write: Callable[[AsyncIterator[bytes]], Awaitable[None]]
) -> None:
    from classify_batch.operations.export import arrow_files, columns  # noqa: PLC0415 - an extra

    encode = arrow_files.parquet_blocks if suffix == PARQUET else arrow_files.arrow_blocks
    table = columns.OutcomeColumns(carried_columns(run.run), columns.first_categories(run.parts))
    while True:
        try:
            async with encode(export.record_batches(table), table) as blocks:
                await write(blocks)
        except arrow_files.GrownCategoriesError:  # which `table` has learned: it can't come for ever
            continue
        return


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


def _count_exported(export: OutcomeExport, run: OpenedRun, target: Target | None) -> Exported:
    waiting = run.run.files - run.outcomes
    if target is None or isinstance(target, ObjectTarget):
        return Exported(export.files, run.run.files, waiting, url=None if target is None else target.name)
    return Exported(export.files, run.run.files, waiting, Path(target.name))
