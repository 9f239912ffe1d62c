"""classify-batch verify"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from classify_batch.cli.options import directory_argument

if TYPE_CHECKING:
    from classify_batch.operations.verify import Verification


@click.command("verify")
@directory_argument
def verify_command(directory: Path) -> int:
    """Prove the run in DIR: one outcome per file ID, and every committed byte as it was written.

    Exits with 0 (sound and complete), 75 (sound, incomplete) or 2 (damaged; every fault is named).

    \b
    Example:
      classify-batch verify runs/today
    """
    import anyio

    from classify_batch.cli.rendering.outputs import printing_result
    from classify_batch.errors import ExitStatus
    from classify_batch.operations.verify import verify_run

    found = anyio.run(verify_run, directory)
    sound = ExitStatus.COMPLETE if found.complete else ExitStatus.INCOMPLETE
    status = ExitStatus.USAGE if found.faults else sound
    with printing_result(status):
        for fault in found.faults:
            click.echo(f"damaged: {fault}")
        for note in found.notes:
            click.echo(f"note: {note}")
        if not found.faults:
            click.echo(_sound(found))
    if found.faults:
        click.echo("hint: nothing was changed; put the named files back from a copy", err=True)
    return status


def _sound(found: Verification) -> str:
    if found.complete:
        return f"sound and complete: {found.files:,} files, each with one outcome"
    done = sum(found.counts.values())
    return f"sound, incomplete: {done:,} of {found.files:,} files have their one outcome"
