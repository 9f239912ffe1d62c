"""classify-batch resume"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from classify_batch.cli.options import (
    PATH,
    deadline_option,
    directory_argument,
    executor_option,
    executor_words,
    group_by_section,
    json_option,
    max_runtime_option,
    ray_address_option,
    settings_options,
    submit_only_option,
    take_executor,
    take_verbosity,
    trust_option,
    verbosity_options,
)


@click.command("resume", short_help="Go on with a run, with the settings of its run.json.")
@directory_argument
@trust_option
@click.option(
    "--config",
    type=PATH,
    help="The run's config; needed only for webhooks' secrets, which are stored nowhere.",
)
@click.option("--retry-failed", is_flag=True, help="Try the failed files again first.")
@deadline_option
@max_runtime_option
@submit_only_option
@executor_option
@ray_address_option
@json_option
@verbosity_options
@settings_options
def resume_command(directory: Path, config: Path | None, as_json: bool, **options: Any) -> int:
    """Go on with the run in DIR, with the settings of its run.json.

    \b
    Example:
      classify-batch resume runs/today --jobs-in-flight 50
    """
    from classify_batch.cli.event_loop import run_in_event_loop
    from classify_batch.cli.resume_command import resume_command_for
    from classify_batch.cli.running import run_to_end
    from classify_batch.operations.open_run import read_run_settings
    from classify_batch.settings import Settings

    given = group_by_section(options)
    if config is not None:
        settings = Settings.load(config, **given)
    else:
        settings = Settings.from_stored(run_in_event_loop(read_run_settings, directory), **given)
    trusted, executor = options["trust_run_dir"], take_executor(options)
    next_command = resume_command_for(directory, settings, config, trusted=trusted, more=executor_words(options))
    return run_to_end(
        settings,
        None,
        directory,
        next_command=next_command,
        as_json=as_json,
        deadline=options["deadline"],
        max_runtime=options["max_runtime"],
        retry_failed=options["retry_failed"],
        submit_only=options["submit_only"],
        trusted=trusted,
        verbosity=take_verbosity(options),
        executor=executor,
        config=config,
    )
