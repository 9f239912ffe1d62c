"""classify-batch jobs list"""

from __future__ import annotations

from typing import Any

import click

from classify_batch.cli.jobs.options import api_options, json_option, load, page_size_option, page_token_option


@click.command("list")
@page_size_option
@page_token_option
@api_options
@json_option
def command(page_size: int | None, page_token: str | None, as_json: bool, **options: Any) -> int:
    """Show one page of the project's jobs, in the API's order.

    \b
    Example:
      classify-batch jobs list --page-size 20
    """
    from functools import partial

    settings = load(options)

    from classify_batch.cli.jobs.calling import call
    from classify_batch.cli.jobs.shown import hint_of_next_page, listed, moment, show
    from classify_batch.runs.jobs import list_jobs

    page = call(partial(list_jobs, settings, page_size=page_size, page_token=page_token))
    rows = ((job.get("id"), job.get("status"), job.get("mode"), moment(job.get("created_at"))) for job in page["items"])
    show(page, partial(listed, ("id", "status", "mode", "created"), rows, whole=("id",)), as_json=as_json)
    hint_of_next_page("classify-batch jobs list", page)
    return 0
