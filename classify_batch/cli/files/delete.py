"""classify-batch files delete"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classify_batch.cli.jobs.options import api_options, load_call_settings
from classify_batch.cli.options import PATH

if TYPE_CHECKING:
    from classify_batch.errors import ClassifyBatchError
    from classify_batch.operations.delete_uploads import Deleted


@click.command("delete")
@click.argument("paths", metavar="UPLOADS...", nargs=-1, required=True, type=PATH)
@click.option("--yes", is_flag=True, help="Don't ask.")
@api_options
def delete_command(paths: tuple[Path, ...], yes: bool, **options: Any) -> int:
    """Delete files from the project that were uploaded to it; their answers stay.

    UPLOADS is what `files upload` printed, or a run directory whose input was a folder (its uploads.jsonl).

    \b
    Example:
      classify-batch files delete files.jsonl
    """
    from functools import partial

    settings = load_call_settings(options)

    from classify_batch.cli.interruption import run_until_signal
    from classify_batch.errors import ExitStatus, UsageError
    from classify_batch.operations.delete_uploads import delete_files, read_uploaded_ids

    file_ids = read_uploaded_ids(paths)
    if not file_ids:
        click.echo("no upload is named: nothing was deleted", err=True)
        return ExitStatus.COMPLETE
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(
                f"{len(file_ids):,} files would be deleted, and nobody can be asked", hint="--yes deletes them"
            )
        where = f"project {settings.api.project_id}" if settings.api.project_id else "the key's project"
        if not click.confirm(f"delete {len(file_ids):,} files from {where}?", err=True):
            click.echo("nothing was deleted", err=True)
            return ExitStatus.COMPLETE
    report = DeleteReport()
    try:
        run_until_signal(partial(delete_files, settings, file_ids, report.record_end), delete_interrupted_error)
    finally:
        report.print_counts()
    return ExitStatus.FAILURES if report.refused else ExitStatus.COMPLETE


class DeleteReport:
    """Counts the ends, and prints those that failed."""

    def __init__(self) -> None:
        self.deleted = self.absent = self.refused = 0

    def record_end(self, end: Deleted) -> None:
        from classify_batch.protocol.sanitize import printable_line

        if end.refused is not None:
            self.refused += 1
            click.echo(f"failed: {end.file_id}: {printable_line(end.refused)}", err=True)
        elif end.there:
            self.deleted += 1
        else:
            self.absent += 1

    def print_counts(self) -> None:
        absent = f"{self.absent:,} were not in the project (deleted before, expired, or another project's)"
        click.echo(f"{self.deleted:,} files deleted, {absent}, {self.refused:,} failed", err=True)


def delete_interrupted_error(signal_name: str) -> ClassifyBatchError:
    from classify_batch.errors import WorldError

    return WorldError(f"interrupted by {signal_name}", hint="the same command goes on")
