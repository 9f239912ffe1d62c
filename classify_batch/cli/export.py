"""classify-batch export"""

from __future__ import annotations

from pathlib import Path

import click

from classify_batch.cli.options import NonEmptyPath, directory_argument, json_option

STDOUT = "-"


@click.command("export", short_help="Write the outcomes of a run as a table, all or some.")
@directory_argument
@click.argument("target", metavar="TARGET", type=NonEmptyPath())
@click.option(
    "--only",
    type=click.Choice(("classified", "unmatched", "failed", "accepted", "review")),
    help="Export only these outcomes; `accepted` and `review` as the run's [triage] says.",
)
@click.option(
    "--partition",
    metavar="KEY=VALUE",
    multiple=True,
    help="TARGET is a directory: write TARGET/KEY=VALUE/RUN_ID.parquet. Repeatable, from the outermost level on.",
)
@json_option
def export_command(directory: Path, target: str, only: str | None, partition: tuple[str, ...], as_json: bool) -> int:
    """Write the outcomes of the run in DIR to TARGET: a .jsonl, .csv, .parquet or .arrow file, an object of such
    a name (s3://BUCKET/KEY), or `-` for JSONL on stdout.

    Exports what is committed, so the run may be incomplete, or still running. The target is written whole or not at
    all.

    \b
    Example:
      classify-batch export runs/today review.csv --only review
      classify-batch export runs/today outcomes/ --partition dt=2026-11-22
    """
    from functools import partial

    from classify_batch.cli.event_loop import run_in_event_loop
    from classify_batch.cli.interruption import run_until_signal
    from classify_batch.cli.rendering.outputs import echo_json_lines, printable
    from classify_batch.errors import UsageError
    from classify_batch.operations.export.export_run import export_lines, export_run
    from classify_batch.operations.export.selection import Only
    from classify_batch.rundir.outcome_lines import encode_line

    selected = Only(only) if only else None
    if target == STDOUT:
        if partition:
            raise UsageError("a partition is a directory, and - is stdout", hint="name a directory as the target")
        if as_json:
            raise UsageError("--json and the outcomes can't both go to stdout", hint="leave --json out, or name a file")
        exported = run_in_event_loop(partial(export_lines, directory, echo_json_lines, only=selected))
    else:
        exported = run_until_signal(partial(export_run, directory, target, only=selected, partition=partition))
    where = exported.path or exported.url or "stdout"
    which = f" ({only})" if only else ""
    words = f"exported    {exported.files:,} of {exported.of:,} files{which} to {where}"
    click.echo(printable(words), err=True)
    if exported.waiting:
        click.echo(f"waiting     {exported.waiting:,} files have no outcome yet", err=True)
    if as_json:
        values = {"target": str(where), "files": exported.files, "only": only}
        echo_json_lines(encode_line(values))  # a path may hold bytes that are no UTF-8
    return 0
