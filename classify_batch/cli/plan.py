"""classify-batch plan"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from classify_batch.cli.options import (
    carry_option,
    config_argument,
    group_by_section,
    input_option,
    reading_options,
    reuse_option,
    run_dir_option,
    settings_options,
    take_reading,
)


@click.command("plan")
@config_argument
@input_option
@run_dir_option
@reading_options
@carry_option
@reuse_option
@settings_options
def plan_command(config: Path, sources: tuple[str, ...], run_dir: Path, **options: Any) -> int:
    """Write the plan of a run, and send nothing; `run` or `resume` then carries it out.

    \b
    Example:
      classify-batch plan my.toml --input ids.csv --column id --run-dir runs/today
    """
    import shlex
    from functools import partial

    import anyio

    from classify_batch.inputs.open import make_sources
    from classify_batch.operations.run import make_plan
    from classify_batch.protocol.page_limits import max_pages_of
    from classify_batch.rundir.cost import cost_of
    from classify_batch.settings import Settings

    settings = Settings.load(config, **group_by_section(options))
    source, reading = make_sources(sources), take_reading(options)
    run = anyio.run(partial(make_plan, settings, source, run_dir, reading=reading, reuse=options["reuse"]))
    chunks = run.chunks - (run.reused.chunks if run.reused is not None else 0)
    cost = cost_of(run.files - run.reused_files, settings)
    rates = ", then ".join(f"{rate:g}" for rate in cost.credits_per_page)
    click.echo(f"files       {run.files:,}  ({run.duplicates:,} repeated IDs left out)")
    if run.reused_files:
        click.echo(f"reused      {run.reused_files:,}  (from earlier runs; not sent)")
    size = settings.files_per_job
    click.echo(f"chunks      {chunks:,}  (of up to {size} {'file' if size == 1 else 'files'})")
    capabilities = settings.api.capabilities
    if capabilities.answers_in_job:
        click.echo(f"requests    {chunks:,}  at least: a create a file; answers come with polls, which come on top")
    else:
        click.echo(f"requests    {2 * chunks:,}  at least: a create and a results call a job; polls come on top")
    click.echo(
        f"cost        at most {cost.credits:,.10g} credits, ${cost.dollars:,.2f}, {cost.pages:,} pages"
        f"  ({cost.pages_per_file} pages a file, {rates} credits a page)"
    )
    if capabilities.unset_pages_max is None:
        pages = max_pages_of(settings.job.parsing_configuration)
        click.echo(f"max_pages   {pages}, sent with every job: {settings.api.version} would read all pages of a file")
    click.echo(f"next: {shlex.join(['classify-batch', 'resume', str(run_dir)])}", err=True)
    return 0
