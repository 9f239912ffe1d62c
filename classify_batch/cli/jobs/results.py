"""classify-batch jobs get-results"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from classify_batch.cli.jobs.options import (
    api_options,
    api_version_option,
    job_id_argument,
    json_option,
    load,
    page_token_option,
)


@click.command("get-results")
@job_id_argument
@page_token_option
@api_version_option
@api_options
@json_option
def command(job_id: str, page_token: str | None, as_json: bool, **options: Any) -> int:
    """Show the answers of a finished job, all pages of them; with --page-token, that page only.

    On v2 a job has one file, and its answer is shown in the same shape. Exits with 1 where the API (v1) gives out a
    page token and refuses to take it back: what came is printed.

    \b
    Example:
      classify-batch jobs get-results 182bd5e5-6e1a-4fe4-a799-aa6d9a6ab26e --json
    """
    from functools import partial

    settings = load(options)

    from classify_batch.cli.jobs.api_call import call
    from classify_batch.cli.rendering.jobs import listed, show
    from classify_batch.errors import ExitStatus
    from classify_batch.operations.jobs.single_calls import get_results

    page, withheld = call(partial(get_results, settings, job_id, page_token=page_token))
    headings = ("file id", "type", "sure", "reasoning")
    show(page, partial(listed, headings, _rows(page), whole=("file id", "sure")), as_json=as_json)
    if withheld:
        click.echo(f"warning: there may be more: {withheld}", err=True)
        click.echo("hint: the answers that came are printed; --page-token reads another page", err=True)
        return ExitStatus.FAILURES
    return 0


def _rows(page: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    from classify_batch.cli.rendering.jobs import kind

    for item in page["items"]:
        result = item.get("result") or {}
        yield item.get("file_id"), kind(item.get("result")), result.get("confidence"), result.get("reasoning")
