"""classify-batch plan"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classify_batch.cli.options import (
    carry_option,
    config_argument,
    exclude_option,
    group_by_section,
    include_option,
    input_option,
    reading_options,
    reuse_option,
    run_dir_option,
    settings_options,
    shards_option,
    take_reading,
    trust_option,
)
from classify_batch.vocabulary import PLAN_JSONL

if TYPE_CHECKING:
    from classify_batch.inputs.folder import FolderScan
    from classify_batch.rundir.run_json import RunFile
    from classify_batch.settings import Settings


@click.command("plan", short_help="Write the plan of a run, and send nothing.")
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
@settings_options
def plan_command(config: Path, sources: tuple[str, ...], run_dir: Path, **options: Any) -> int:
    """Write the plan of a run, and send nothing; `run` or `resume` then carries it out.

    \b
    Example:
      classify-batch plan my.toml --input ids.csv --column id --run-dir runs/today
    """
    from functools import partial

    from classify_batch.cli.event_loop import run_in_event_loop
    from classify_batch.cli.resume_command import resume_command_for
    from classify_batch.inputs.open import make_sources
    from classify_batch.operations.check.estimate import UploadSize, format_uploads
    from classify_batch.operations.make_plan import make_plan
    from classify_batch.operations.shards.choice import parse_shards
    from classify_batch.protocol.page_limits import max_pages_of
    from classify_batch.rundir.cost import estimate_cost_max, format_cost
    from classify_batch.rundir.planned_parse_jobs import count_planned_parse_jobs
    from classify_batch.settings import Settings
    from classify_batch.store import place_of

    settings = Settings.load(config, **group_by_section(options))
    capabilities = settings.api.capabilities
    source, reading = make_sources(sources), take_reading(options)
    place = place_of(run_dir, trusted=options["trust_run_dir"])
    chosen = {"include": options["include"], "exclude": options["exclude"]}
    scans: list[FolderScan] = []
    shards = parse_shards(options["shards"], None).shards
    took = {"reading": reading, "reuse": options["reuse"], "on_scan": scans.append, "shards": shards}
    run = run_in_event_loop(partial(make_plan, settings, source, place, **took, **chosen))
    chunks = run.chunks - (run.reused.chunks if run.reused is not None else 0)
    parse_jobs = (
        run_in_event_loop(count_planned_parse_jobs, place.open(), run.chunks - chunks)
        if capabilities.takes_parse_jobs
        else 0
    )
    cost = estimate_cost_max(run.files - run.reused_files, settings, parse_jobs=parse_jobs)
    click.echo(f"files       {run.files:,}  ({run.duplicates:,} repeated IDs left out)")
    if run.reused_files:
        click.echo(f"reused      {run.reused_files:,}  (from earlier runs; not sent)")
    size = settings.files_per_job
    click.echo(f"chunks      {chunks:,}  (of up to {size} {'file' if size == 1 else 'files'})")
    if run.shards is not None:
        click.echo(f"shards      {len(run.shards):,}  (of up to {max(each['files'] for each in run.shards):,} files)")
    lookups, each = 0, ""
    if run.folder is not None and scans:
        uploads = UploadSize(scans[-1].contents_to_upload(run.files - run.reused_files), scans[-1].bytes)
        lookups, each = uploads.documents, "a lookup a document, "
        click.echo(format_uploads(uploads))
    if capabilities.answers_in_job:
        what = f"{each}a create a file; answers come with polls, which come on top"
        click.echo(f"requests    {lookups + chunks:,}  at least: {what}")
    else:
        what = f"{each}a create and a results call a job; polls come on top"
        click.echo(f"requests    {lookups + 2 * chunks:,}  at least: {what}")
    click.echo("\n".join(format_cost(cost)))
    if capabilities.unset_pages_max is None:
        pages = max_pages_of(settings.job.parsing_configuration)
        click.echo(f"max_pages   {pages}, sent with every job: {settings.api.version} would read all pages of a file")
    print_disk_space(run_dir, run, settings)
    next_command = resume_command_for(run_dir, settings, config, trusted=options["trust_run_dir"])
    click.echo(f"next: {next_command}", err=True)
    return 0


def print_disk_space(run_dir: Path, run: RunFile, settings: Settings) -> None:
    """Prints the disk space that a planned run still needs, and warns where there is less."""
    from classify_batch.rundir.disk_space import (
        NO_SPACE_HINT,
        describe_missing_space,
        estimate_disk_space,
        format_disk_space,
        free_disk_space,
    )

    reused_chunks = 0 if run.reused is None else run.reused.chunks
    files, jobs = run.files - run.reused_files, run.chunks - reused_chunks
    # What is carried stands in each outcome once more.
    carried_bytes = (run_dir / PLAN_JSONL).stat().st_size if settings.plan.carry else 0
    space = estimate_disk_space(files, jobs, settings, id_bytes=0, carried_bytes=carried_bytes)
    free = free_disk_space(run_dir)
    click.echo("\n".join(format_disk_space(space, files, free, planned=True)))
    if words := describe_missing_space(space.bytes_besides_plan, free):
        click.echo(f"warning: {words}\nhint: {NO_SPACE_HINT}", err=True)
