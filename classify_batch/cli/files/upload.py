"""classify-batch files upload"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classify_batch.cli.jobs.options import api_options, load_call_settings
from classify_batch.cli.options import PATH

if TYPE_CHECKING:
    from classify_batch.cli.rendering.files_progress import FilesProgress
    from classify_batch.errors import ClassifyBatchError
    from classify_batch.operations.uploads import NotUploaded, Uploaded

CONCURRENCY_MAX = 64


@click.command("upload")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=PATH)
@click.option("--recursive", is_flag=True, help="Upload all files in folders, except hidden ones.")
@click.option(
    "--concurrency",
    metavar="N",
    type=click.IntRange(1, CONCURRENCY_MAX),
    default=4,
    show_default=True,
    help="Files at once.",
)
@api_options
def upload_command(paths: tuple[Path, ...], recursive: bool, concurrency: int, **options: Any) -> int:
    """Upload files, each content once, and print a line of JSON for each.

    The lines (path, file_id, external_file_id, name) are an --input for `run`; with --carry path each answer
    names its file. A file is known by the SHA-256 of its content, so the same command goes on after an interruption
    and sends only what is missing.

    \b
    Example:
      classify-batch files upload --recursive inbox > files.jsonl
    """
    from functools import partial

    settings = load_call_settings(options)

    from classify_batch.cli.interruption import run_until_signal
    from classify_batch.cli.rendering.files_progress import showing_files
    from classify_batch.errors import ExitStatus, UsageError
    from classify_batch.operations.uploads import upload_files

    with showing_files() as progress:
        report = UploadReport(progress)
        work = partial(
            upload_files, settings, paths, recursive=recursive, concurrency=concurrency, on_end=report.print_end
        )
        try:
            run_until_signal(work, upload_interrupted_error)
        finally:
            report.print_counts()
    if not report.ended_files:
        raise UsageError("the given paths hold no file", hint="hidden files are skipped")
    if report.failed:
        click.echo("hint: fix what is named above, then give the same command: it sends only what is missing", err=True)
        return ExitStatus.FAILURES
    return ExitStatus.COMPLETE


class UploadReport:
    """Prints the end of each upload, and counts the ends."""

    def __init__(self, progress: FilesProgress) -> None:
        self._progress = progress
        self.sent = self.existing = self.failed = self.bytes = 0

    @property
    def ended_files(self) -> int:
        return self.sent + self.existing + self.failed

    def print_end(self, end: Uploaded | NotUploaded) -> None:
        from classify_batch.operations.uploads import NotUploaded
        from classify_batch.protocol.sanitize import printable_line
        from classify_batch.rundir.disk_space import format_bytes

        if isinstance(end, NotUploaded):
            self.failed += 1
            self._progress.print_line(f"failed: {printable_line(str(end.path))}: {printable_line(end.reason)}")
        else:
            click.echo(end.to_json_line())
            self.sent += end.sent
            self.existing += not end.sent
            self.bytes += end.size if end.sent else 0
        self._progress.update(f"{self._format_counts()}, {format_bytes(self.bytes)} sent")

    def _format_counts(self) -> str:
        return f"{self.sent:,} files uploaded, {self.existing:,} were there already, {self.failed:,} failed"

    def print_counts(self) -> None:
        if self.ended_files:
            self._progress.print_line(self._format_counts())
        if self.sent + self.existing:
            self._progress.print_line("next: `run` with these lines as --input, and --carry path for answers by name")


def upload_interrupted_error(signal_name: str) -> ClassifyBatchError:
    from classify_batch.errors import WorldError

    return WorldError(f"interrupted by {signal_name}", hint="the same command goes on, and sends only what is missing")
