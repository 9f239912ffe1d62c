"""classify-batch tune"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from classify_batch.cli.options import directory_argument, trust_option


@click.command("tune", short_help="Change the limits of a run that is on, or pause it.")
@directory_argument
@click.option("--jobs-in-flight", type=int, help="Jobs in flight; 0: no limit.")
@click.option("--requests-per-s", type=float, help="Requests a second.")
@click.option("--creates-per-s", type=float, help="Creates a second.")
@click.option("--max-credits", type=float, help="Credits that the run may cost at most.")
@click.option("--pause/--resume", "paused", default=None, help="Create no jobs for now; those in flight are collected.")
@trust_option
def tune_command(directory: Path, trust_run_dir: bool, **given: Any) -> int:
    """Change the limits of the run in DIR while it is running, until its process ends.

    \b
    Example:
      classify-batch tune runs/today --jobs-in-flight 50 --requests-per-s 10
    """
    from classify_batch.cli.interruption import run_until_signal
    from classify_batch.operations.tune import tune
    from classify_batch.settings.limit_changes import Tuning

    tuning = Tuning.from_values(**given)
    if not tuning.changed_limits():
        raise click.UsageError("Nothing to change: give --jobs-in-flight, --requests-per-s, --pause, …")
    run_until_signal(partial(tune, directory, tuning, trust_run_dir=trust_run_dir))
    changes = ", ".join(f"{name} = {value}" for name, value in tuning.changed_limits().items())
    click.echo(f"limits changed: {changes}", err=True)
    return 0
