"""classify-batch tune"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from classify_batch.cli.options import directory_argument


@click.command("tune")
@directory_argument
@click.option("--jobs-in-flight", type=int, help="Jobs out at once; 0: as many as there are.")
@click.option("--requests-per-s", type=float, help="Requests a second.")
@click.option("--creates-per-s", type=float, help="Creates a second.")
@click.option("--max-credits", type=float, help="The most credits that the run may cost.")
@click.option("--pause/--resume", "paused", default=None, help="Make no new jobs for now; what is out is collected.")
def tune_command(directory: Path, **told: Any) -> int:
    """Change the limits of the run in DIR while it is on, until its process ends.

    \b
    Example:
      classify-batch tune runs/today --jobs-in-flight 50 --requests-per-s 10
    """
    from classify_batch.operations.tune import tune
    from classify_batch.settings.limit_changes import Tuning

    tuning = Tuning.of(**told)
    if not tuning.told():
        raise click.UsageError("Nothing to change: give --jobs-in-flight, --requests-per-s, --pause, …")
    tune(directory, tuning)
    words = ", ".join(f"{name} = {value}" for name, value in tuning.told().items())
    click.echo(f"taken up: {words}", err=True)
    return 0
