"""classify-batch diff"""

from __future__ import annotations

import math
from pathlib import Path

import click

from classify_batch.cli.options import PATH, json_option


def refuse_nan(_context: click.Context, _option: click.Parameter, value: float) -> float:
    """The callback of an option that is a number: nan is neither below nor above a bound, so no range refuses it."""
    if math.isnan(value):
        raise click.BadParameter("nan is not a number.")
    return value


@click.command("diff", short_help="Show what changed from one run to another.")
@click.argument("before", metavar="RUN_A", type=PATH)
@click.argument("after", metavar="RUN_B", type=PATH)
@json_option
@click.option(
    "--only",
    type=click.Choice(("new", "gone", "type", "outcome", "confidence")),
    help="Print the files with this change as JSONL; the summary goes to stderr.",
)
@click.option(
    "--min-confidence-change",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    callback=refuse_nan,
    help="How far a confidence must move to count.",
)
def diff_command(before: Path, after: Path, as_json: bool, only: str | None, min_confidence_change: float) -> int:
    """Show what changed from the run in RUN_A to the run in RUN_B.

    Each file counts once: as new or gone, or for another outcome, another type, or a confidence that moved. A run may
    be incomplete, or still running: its files without an outcome are waiting. Exits with 0, also where nothing changed.

    \b
    Example:
      classify-batch diff runs/monday runs/tuesday --only type
    """
    from classify_batch.cli.event_loop import run_in_event_loop
    from classify_batch.cli.rendering.outputs import echo_json_lines
    from classify_batch.operations.diff.changes import Change, Diff
    from classify_batch.operations.diff.diff_runs import diff_runs
    from classify_batch.operations.diff.summary import format_diff, summarize_diff
    from classify_batch.rundir.outcome_lines import encode_line

    async def compare_runs() -> Diff:
        return await diff_runs(
            before,
            after,
            min_confidence_change=min_confidence_change,
            only=Change(only) if only else None,
            sink=echo_json_lines,
        )

    summary = summarize_diff(run_in_event_loop(compare_runs), (str(before), str(after)))
    if as_json:
        echo_json_lines(encode_line(summary))  # types come from the server, and may hold lone surrogates
    else:
        click.echo("\n".join(format_diff(summary)), err=only is not None)
    return 0
