"""classify-batch status"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from classify_batch.cli import signals
from classify_batch.cli.options import directory_argument, json_option

if TYPE_CHECKING:
    from classify_batch.rundir.manifest_json import Manifest

REFRESH_S = 1.0
LINE_EVERY_S = 10.0
"""Without a terminal, a line comes this often, and only where something has changed."""

_CLEAR = "\x1b[H\x1b[2J"


@click.command("status")
@directory_argument
@click.option("--watch", is_flag=True, help="Show it again and again, until no process works on the run.")
@json_option
def status_command(directory: Path, watch: bool, as_json: bool) -> int:
    """Show how far the run in DIR is. Reads only the directory, and is safe while the run is running.

    \b
    Examples:
      classify-batch status runs/today --watch
      classify-batch status runs/today --json
    """
    from classify_batch.cli.rendering.outputs import color_line, printable, to_json_line
    from classify_batch.cli.rendering.status import format_status
    from classify_batch.operations.status import read_status

    status = _watch_status(directory, quiet=as_json) if watch else read_status(directory)
    if as_json:
        click.echo(to_json_line(status))
    else:
        for line in format_status(status):
            click.echo(color_line(printable(line), sys.stdout))
    return 0


def _watch_status(directory: Path, *, quiet: bool) -> Manifest:
    """Shows the status until nobody works on the run; gives the last one. `quiet`: shows nothing.

    Ctrl-C is how a person leaves it: no error.
    """
    from classify_batch.cli.rendering.outputs import printable
    from classify_batch.cli.rendering.status import format_progress_line, format_status
    from classify_batch.operations.status import read_status

    signals.on_first_signal(lambda _name: signals.exit_at_once(signals.INCOMPLETE, "stopped watching; the run goes on"))
    redraws = not quiet and can_redraw()
    shown, shown_s = "", -LINE_EVERY_S
    while "holder" in (status := read_status(directory)):
        if redraws:
            click.echo(_CLEAR + printable("\n".join(format_status(status))))
        elif not quiet and time.monotonic() - shown_s >= LINE_EVERY_S:
            line = format_progress_line(status)
            if line != shown:
                click.echo(printable(line))
            shown, shown_s = line, time.monotonic()
        time.sleep(REFRESH_S)
    if redraws:
        click.echo(_CLEAR, nl=False)
    return status


def can_redraw() -> bool:
    """Whether stdout is a terminal that can be cleared."""
    import os

    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")
