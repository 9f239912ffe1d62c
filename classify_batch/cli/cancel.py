"""classify-batch cancel"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classify_batch.cli.options import (
    PATH,
    directory_argument,
    json_option,
    take_verbosity,
    trust_option,
    verbosity_options,
)

if TYPE_CHECKING:
    from classify_batch.cli.rendering.progress import Display
    from classify_batch.engine.shutdown import Shutdown
    from classify_batch.operations.result import RunResult
    from classify_batch.run_records import Holder
    from classify_batch.settings import Settings


@click.command("cancel", short_help="Create no more jobs of a run, and cancel those in flight.")
@directory_argument
@click.option(
    "--config",
    type=PATH,
    help="The run's config; needed only for webhooks' secrets, which are stored nowhere.",
)
@json_option
@trust_option
@verbosity_options
def cancel_command(directory: Path, config: Path | None, as_json: bool, trust_run_dir: bool, **options: Any) -> int:
    """Create no more jobs of the run in DIR, and cancel those in flight; v1 can't cancel, so they are collected.

    A process that runs the run is asked to. The exit status is the run's: 77, since a person has to say that it goes
    on (by `resume`).

    \b
    Example:
      classify-batch cancel runs/today
    """
    from classify_batch.cli.rendering.progress import NO_OUTPUTS
    from classify_batch.cli.resume_command import resume_command_for
    from classify_batch.cli.running import files_of, print_result, run_until_stopped
    from classify_batch.operations.cancel import cancel_run
    from classify_batch.settings import Settings
    from classify_batch.store import place_of

    settings = None if config is None else Settings.load(config)

    async def carry_out(display: Display, shutdown: Shutdown) -> RunResult:
        return await cancel_run(
            place_of(directory, trusted=trust_run_dir),
            settings,
            shutdown,
            on_asked=print_who_was_asked,
            on_progress=display.on_progress,
            observers=display.observers,
        )

    verbosity = take_verbosity(options)
    known = settings
    if known is None and verbosity.outputs != NO_OUTPUTS:
        known = read_settings_without_secrets(directory)
    result = run_until_stopped(carry_out, directory, verbosity, files_of(None, config, known))
    command = resume_command_for(directory, settings, config, trusted=trust_run_dir)
    return print_result(result, command, as_json=as_json, with_summary=not verbosity.outputs.logs_on_stderr)


def read_settings_without_secrets(directory: Path) -> Settings:
    """The settings of a run, as far as they are stored: they say which files hold the keys of its accounts.

    Raises:
        ClassifyBatchError: there is no run, or its settings can't be read.
    """
    from classify_batch.cli.event_loop import run_in_event_loop
    from classify_batch.operations.open_run import read_run_settings
    from classify_batch.settings import Settings

    stored = run_in_event_loop(read_run_settings, directory)
    stored.get("job", {}).pop("webhook_configurations", None)
    return Settings.from_stored(stored)


def print_who_was_asked(holder: Holder) -> None:
    from classify_batch.cli.rendering.outputs import printable

    click.echo(printable(f"{holder} cancels the run: waiting for its end"), err=True)
