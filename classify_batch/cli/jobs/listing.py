"""classify-batch jobs list"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from classify_batch.cli.jobs.options import (
    api_options,
    api_version_option,
    json_option,
    load,
    named_ids,
    page_size_option,
    page_token_option,
)

STATUSES = ("PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED")
"""v2's; v1 can't filter."""

FILTERS = ("status", "job_ids", "created_at_on_or_after", "created_at_on_or_before")


def _moment(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    from classify_batch.clock import from_iso, to_iso

    if value is None:
        return None
    moment_s = from_iso(value)
    if moment_s is None:
        raise click.BadParameter(f"{value!r} is no time like 2026-11-22 or 2026-11-22T06:00+01:00")
    return to_iso(moment_s)


@click.command("list")
@page_size_option
@page_token_option
@click.option("--status", type=click.Choice(STATUSES), help="v2: only jobs that stand so.")
@click.option("--job-id", "job_ids", multiple=True, metavar="ID", callback=named_ids, help="v2: only this; repeatable.")
@click.option("--created-at-on-or-after", metavar="TIME", callback=_moment, help="v2: only jobs made since then (UTC).")
@click.option("--created-at-on-or-before", metavar="TIME", callback=_moment, help="v2: only jobs made until then.")
@api_version_option
@api_options
@json_option
def command(page_size: int | None, page_token: str | None, as_json: bool, **options: Any) -> int:
    """Show one page of the project's jobs, in the API's order.

    \b
    Example:
      classify-batch jobs list --page-size 20
      classify-batch jobs list --api-version v2 --status FAILED --created-at-on-or-after 2026-11-22
    """
    from functools import partial

    settings = load(options)

    from classify_batch.cli.jobs.api_call import call
    from classify_batch.cli.rendering.jobs import hint_of_next_page, listed, show
    from classify_batch.operations.jobs.single_calls import list_jobs

    filters = {name: options[name] for name in FILTERS}
    page = call(partial(list_jobs, settings, page_size=page_size, page_token=page_token, **filters))
    answers_in_job = settings.api.capabilities.answers_in_job
    headings = ("id", "status", "type" if answers_in_job else "mode", "created")
    rows = _rows_with_answers(page) if answers_in_job else _rows(page)
    show(page, partial(listed, headings, rows, whole=("id", "created")), as_json=as_json)
    hint_of_next_page(page)
    return 0


def _rows(page: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    from classify_batch.cli.rendering.jobs import moment

    for job in page["items"]:
        yield job.get("id"), job.get("status"), job.get("mode"), moment(job.get("created_at"))


def _rows_with_answers(page: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    """There is one mode only, and a finished job brings its answer along."""
    from classify_batch.cli.rendering.jobs import kind, moment

    for job in page["items"]:
        answer = kind(job.get("result")) if job.get("status") == "COMPLETED" else None
        yield job.get("id"), job.get("status"), answer, moment(job.get("created_at"))
