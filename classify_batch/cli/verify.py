"""classify-batch verify"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from classify_batch.cli.options import directory_argument

if TYPE_CHECKING:
    from classify_batch.operations.verify import Verification


@click.command("verify", short_help="Prove that a run is sound: one outcome per file ID.")
@directory_argument
def verify_command(directory: Path) -> int:
    """Prove that the run in DIR is sound: one outcome per file ID, every committed byte as it was written.

    Exits with 0 (sound and complete), 75 (sound, incomplete) or 2 (damaged; every error is named).

    \b
    Example:
      classify-batch verify runs/today
    """
    from classify_batch.cli.event_loop import run_in_event_loop
    from classify_batch.cli.rendering.outputs import printable, printing_result
    from classify_batch.errors import ExitStatus
    from classify_batch.operations.shards.verify_run import verify_run

    found = run_in_event_loop(verify_run, directory)
    undamaged = ExitStatus.COMPLETE if found.complete else ExitStatus.INCOMPLETE
    status = ExitStatus.USAGE if found.errors else undamaged
    with printing_result(status):
        for error in found.errors:
            click.echo(printable(f"damaged: {error}"))
        for note in found.notes:
            click.echo(printable(f"note: {note}"))
        if not found.errors:
            click.echo(format_verdict(found))
    if found.errors:
        click.echo("hint: nothing was changed; restore the named files from a copy", err=True)
    return status


def format_verdict(found: Verification) -> str:
    if found.complete:
        return f"sound and complete: {found.files:,} files, each with one outcome"
    done = sum(found.counts.values())
    return f"sound, incomplete: {done:,} of {found.files:,} files have their one outcome"
