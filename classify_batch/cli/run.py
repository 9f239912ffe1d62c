"""classify-batch run"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from classify_batch.cli.options import (
    carry_option,
    config_argument,
    deadline_option,
    exclude_option,
    executor_option,
    executor_words,
    group_by_section,
    include_option,
    input_option,
    json_option,
    max_runtime_option,
    ray_address_option,
    reading_options,
    reuse_option,
    run_dir_option,
    settings_options,
    shard_option,
    shards_option,
    submit_only_option,
    take_executor,
    take_reading,
    take_verbosity,
    trust_option,
    verbosity_options,
)


@click.command("run", short_help="Classify files; the same command goes on after a stop.")
@config_argument
@input_option
@include_option
@exclude_option
@run_dir_option
@trust_option
@reading_options
@carry_option
@reuse_option
@shards_option
@shard_option
@deadline_option
@max_runtime_option
@submit_only_option
@executor_option
@ray_address_option
@json_option
@verbosity_options
@settings_options
def run_command(config: Path, sources: tuple[str, ...], run_dir: Path, as_json: bool, **options: Any) -> int:
    """Classify the files of SOURCE; the same command goes on after an interruption.

    \b
    Examples:
      classify-batch run my.toml --input inbox/ --run-dir runs/today
      classify-batch run my.toml --input ids.txt --run-dir runs/today
      psql -Atc 'select file_id from inbox' | classify-batch run my.toml --input - --run-dir runs/today
      classify-batch run my.toml --input ids.txt --run-dir runs/today --shard 0/8
    """
    from classify_batch.settings import Settings

    settings = Settings.load(config, **group_by_section(options))

    from classify_batch.cli.resume_command import resume_command_for
    from classify_batch.cli.running import (
        run_to_end,  # after the settings: errors in them are shown without this import
    )
    from classify_batch.inputs.open import make_sources
    from classify_batch.operations.shards.choice import parse_shards
    from classify_batch.rundir.run_json import shard_place
    from classify_batch.store import place_of

    source, reading = make_sources(sources), take_reading(options)
    trusted, executor = options["trust_run_dir"], take_executor(options)
    chosen = parse_shards(options["shards"], options["shard"])
    resumed = run_dir if chosen.shard is None else Path(shard_place(place_of(run_dir), chosen.shard).where)
    next_command = resume_command_for(resumed, settings, config, trusted=trusted, more=executor_words(options))
    return run_to_end(
        settings,
        source,
        run_dir,
        next_command=next_command,
        as_json=as_json,
        reading=reading,
        reuse=options["reuse"],
        deadline=options["deadline"],
        max_runtime=options["max_runtime"],
        submit_only=options["submit_only"],
        trusted=trusted,
        verbosity=take_verbosity(options),
        executor=executor,
        include=options["include"],
        exclude=options["exclude"],
        config=config,
        chosen=chosen,
    )
