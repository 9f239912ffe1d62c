"""classify-batch check"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from classify_batch.cli.options import (
    PATH,
    carry_option,
    config_argument,
    exclude_option,
    group_by_section,
    include_option,
    input_option,
    json_option,
    reading_options,
    settings_options,
    take_reading,
)


@click.command("check", short_help="Say what will go wrong with a run, before it costs a credit.")
@config_argument
@input_option
@include_option
@exclude_option
@click.option("--run-dir", metavar="DIR", type=PATH, help="Where the run will be, for its disk space.  [default: here]")
@reading_options
@carry_option
@json_option
@settings_options
def check_command(config: Path, sources: tuple[str, ...], run_dir: Path | None, as_json: bool, **options: Any) -> int:
    """Find out what will go wrong with a run, before a credit is spent.

    Checks the settings, the input, the key and the files in the project; estimates the run's size, time, cost and disk
    space. Writes and creates nothing. Exits with 0 if nothing stops a run; there may be warnings.

    \b
    Example:
      classify-batch check my.toml --input ids.csv --column id
    """
    import json
    from functools import partial

    from classify_batch.cli.interruption import run_until_signal
    from classify_batch.cli.rendering.outputs import printing_result
    from classify_batch.errors import SettingsError
    from classify_batch.inputs.open import make_sources
    from classify_batch.operations.check.check_input import check_input, check_run
    from classify_batch.operations.check.report import format_report, summarize_report
    from classify_batch.settings import Settings

    def print_lookups(looked_up: int, files: int) -> None:
        click.echo(f"looked up {looked_up:,} of {files:,} files …", err=True)

    source, reading = make_sources(sources), take_reading(options)
    given = group_by_section(options)
    chosen = {"run_dir": run_dir, "include": options["include"], "exclude": options["exclude"]}
    try:
        settings = Settings.load(config, **given)
    except SettingsError as error:
        carry = given.get("plan", {}).get("carry", ())
        check = partial(check_input, error, source, reading=reading, carry=carry, **chosen)
    else:
        check = partial(check_run, settings, source, reading=reading, on_progress=print_lookups, **chosen)
    report = run_until_signal(check)
    with printing_result(report.exit_status):
        click.echo(json.dumps(summarize_report(report)) if as_json else "\n".join(format_report(report)))
    return report.exit_status
