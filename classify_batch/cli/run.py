"""classify-batch run"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from classify_batch.cli.options import (
    carry_option,
    column_option,
    config_argument,
    deadline_option,
    group_by_section,
    input_option,
    json_option,
    max_runtime_option,
    reuse_option,
    run_dir_option,
    settings_options,
    submit_only_option,
)


@click.command("run")
@config_argument
@input_option
@run_dir_option
@column_option
@carry_option
@reuse_option
@deadline_option
@max_runtime_option
@submit_only_option
@json_option
@settings_options
def run_command(config: Path, source: str, run_dir: Path, column: str | None, as_json: bool, **options: Any) -> int:
    """Classify the files of SOURCE; the same command goes on after an interruption.

    \b
    Examples:
      classify-batch run my.toml --input ids.txt --run-dir runs/today
      psql -Atc 'select file_id from inbox' | classify-batch run my.toml --input - --run-dir runs/today
    """
    from classify_batch.settings import Settings

    settings = Settings.load(config, **group_by_section(options))

    from classify_batch.cli.running import (  # after the settings: errors in them are shown without this import
        resume_command_for,
        run_to_end,
    )

    next_command = resume_command_for(run_dir, settings, config)
    return run_to_end(
        settings,
        source,
        run_dir,
        next_command=next_command,
        as_json=as_json,
        column=column,
        reuse=options["reuse"],
        deadline=options["deadline"],
        max_runtime=options["max_runtime"],
        submit_only=options["submit_only"],
    )
