"""classify-batch diff"""

from __future__ import annotations

import math
from pathlib import Path

import click

from classify_batch.cli.options import PATH, json_option


def _share(_context: click.Context, _option: click.Parameter, value: float) -> float:
    if math.isnan(value):  # which no range refuses, since it is neither below nor above
        raise click.BadParameter("nan is no number.")
    return value


@click.command("diff")
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
    callback=_share,
    help="How far a confidence must move to count.",
)
def diff_command(before: Path, after: Path, as_json: bool, only: str | None, min_confidence_change: float) -> int:
    """Tell what changed from the run in RUN_A to the run in RUN_B.

    Each file counts once: as new or gone, or for another outcome, another type, or a confidence that moved. A run may
    be incomplete, or on: its files without an outcome are waiting. Exits with 0, whether or not anything changed.

    \b
    Example:
      classify-batch diff runs/monday runs/tuesday --only type
    """
    import anyio

    from classify_batch.operations.diff.changes import Change, Diff
    from classify_batch.operations.diff.diff_runs import diff_runs
    from classify_batch.operations.diff.summary import describe, summary
    from classify_batch.rundir.outcome_lines import encode_line

    async def compare() -> Diff:
        return await diff_runs(
            before,
            after,
            min_confidence_change=min_confidence_change,
            only=Change(only) if only else None,
            took=lambda lines: click.echo(lines, nl=False),
        )

    summed = summary(anyio.run(compare), (str(before), str(after)))
    if as_json:
        click.echo(encode_line(summed), nl=False)  # types are the server's words, and may hold anything
    else:
        click.echo("\n".join(describe(summed)), err=only is not None)
    return 0
