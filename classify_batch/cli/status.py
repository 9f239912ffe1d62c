"""classify-batch status"""

from __future__ import annotations

from pathlib import Path

import click

from classify_batch.cli.options import directory_argument, json_option


@click.command("status")
@directory_argument
@json_option
def status_command(directory: Path, as_json: bool) -> int:
    """Show how far the run in DIR is. Reads only the directory, and is safe while the run is running.

    \b
    Example:
      classify-batch status runs/today --json
    """
    from classify_batch.cli.rendering.outputs import printable, to_json_line
    from classify_batch.cli.rendering.summary import format_run_summary
    from classify_batch.operations.status import read_status

    status = read_status(directory)
    if as_json:
        click.echo(to_json_line(status))
    else:
        click.echo(printable("\n".join(format_run_summary(status))))
    return 0
