"""classify-batch jobs get-results"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from classify_batch.cli.jobs.options import (
    api_options,
    api_version_option,
    job_id_argument,
    json_option,
    load_call_settings,
    page_token_option,
)

if TYPE_CHECKING:
    from classify_batch.llamacloud.raw_bodies import Body


@click.command("get-results")
@job_id_argument
@page_token_option
@api_version_option
@api_options
@json_option
def get_results_command(job_id: str, page_token: str | None, as_json: bool, **options: Any) -> int:
    """Show the answers of a finished job: all pages, or the one behind --page-token.

    On v2 a job has one file, and its answer is shown in the same shape. Exits with 1 where v1 refuses a
    page token that it gave out itself: the answers that came are printed.

    \b
    Example:
      classify-batch jobs get-results 182bd5e5-6e1a-4fe4-a799-aa6d9a6ab26e --json
    """
    from functools import partial

    settings = load_call_settings(options)

    from classify_batch.cli.interruption import run_until_signal
    from classify_batch.cli.rendering.jobs import make_item_table, print_body
    from classify_batch.cli.rendering.outputs import printable
    from classify_batch.errors import ExitStatus
    from classify_batch.operations.jobs.single_calls import get_results

    page, withheld = run_until_signal(partial(get_results, settings, job_id, page_token=page_token))
    headings = ("file id", "type", "sure", "reasoning")
    print_body(page, partial(make_item_table, headings, result_rows(page), whole=("file id", "sure")), as_json=as_json)
    if withheld:
        click.echo(printable(f"warning: there may be more: {withheld}"), err=True)
        click.echo("hint: the answers that came are printed; --page-token reads another page", err=True)
        return ExitStatus.FAILURES
    return 0


def result_rows(page: Body) -> Iterator[tuple[object, ...]]:
    from classify_batch.cli.rendering.jobs import format_type

    for item in page["items"]:
        result = item.get("result") or {}
        yield item.get("file_id"), format_type(item.get("result")), result.get("confidence"), result.get("reasoning")
