"""classify-batch files upload"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classify_batch.cli.jobs.options import api_options, load
from classify_batch.cli.options import PATH

if TYPE_CHECKING:
    from classify_batch.errors import ClassifyBatchError
    from classify_batch.operations.uploads import NotUploaded, Uploaded

CONCURRENCY_MAX = 64


@click.command("upload")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=PATH)
@click.option("--recursive", is_flag=True, help="Take all files in folders, but the hidden ones.")
@click.option(
    "--concurrency",
    metavar="N",
    type=click.IntRange(1, CONCURRENCY_MAX),
    default=4,
    show_default=True,
    help="Files at once.",
)
@api_options
def command(paths: tuple[Path, ...], recursive: bool, concurrency: int, **options: Any) -> int:
    """Upload files, each content once, and print a line of JSON for each.

    The lines (path, file_id, external_file_id, name) are an --input for `run`. A file is known by the SHA-256 of
    its content, so the same command goes on after an interruption and sends only what is missing.

    \b
    Example:
      classify-batch files upload --recursive inbox > files.jsonl
    """
    from functools import partial

    settings = load(options)

    from classify_batch.cli.jobs.api_call import call
    from classify_batch.errors import ExitStatus, UsageError
    from classify_batch.operations.uploads import upload

    told = _Told()
    work = partial(upload, settings, paths, recursive=recursive, concurrency=concurrency, tell=told.tell)
    try:
        call(work, _interrupted)
    finally:
        told.summarise()
    if not told.ended:
        raise UsageError("there is no file in what was named", hint="hidden files are passed over")
    if told.failed:
        click.echo("hint: mend what is named, then give the same command: it sends only what is missing", err=True)
        return ExitStatus.FAILURES
    return ExitStatus.COMPLETE


class _Told:
    """Says what became of each file, and counts."""

    def __init__(self) -> None:
        self.sent = self.there = self.failed = 0

    @property
    def ended(self) -> int:
        return self.sent + self.there + self.failed

    def tell(self, end: Uploaded | NotUploaded) -> None:
        from classify_batch.operations.uploads import NotUploaded
        from classify_batch.protocol.sanitize import clean

        if isinstance(end, NotUploaded):
            self.failed += 1
            click.echo(f"failed: {clean(str(end.path))}: {clean(end.reason)}", err=True)
            return
        click.echo(end.line())
        if end.sent:
            self.sent += 1
        else:
            self.there += 1

    def summarise(self) -> None:
        if self.ended:
            words = f"{self.sent:,} files uploaded, {self.there:,} were there already, {self.failed:,} failed"
            click.echo(words, err=True)


def _interrupted(signal_name: str) -> ClassifyBatchError:
    from classify_batch.errors import WorldError

    return WorldError(f"interrupted by {signal_name}", hint="the same command goes on, and sends only what is missing")
