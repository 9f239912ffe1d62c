"""classify-batch jobs list"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from classify_batch.cli.jobs.options import (
    api_options,
    api_version_option,
    json_option,
    load_call_settings,
    page_size_option,
    page_token_option,
    validate_ids,
)

if TYPE_CHECKING:
    from classify_batch.llamacloud.raw_bodies import Body

STATUSES = ("PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED")
"""The statuses of v2, whose list can filter; the list of v1 can't."""

FILTERS = ("status", "job_ids", "created_at_on_or_after", "created_at_on_or_before")


def to_utc_time(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """The callback of an option that is a time: gives it as the API takes it, in UTC."""
    from classify_batch.clock import from_iso, to_iso

    if value is None:
        return None
    time_s = from_iso(value)
    if time_s is None:
        raise click.BadParameter(f"{value!r} is no time like 2026-11-22 or 2026-11-22T06:00+01:00")
    return to_iso(time_s)


@click.command("list")
@page_size_option
@page_token_option
@click.option("--status", type=click.Choice(STATUSES), help="v2: only jobs with this status.")
@click.option(
    "--job-id",
    "job_ids",
    multiple=True,
    metavar="ID",
    callback=validate_ids,
    help="v2: only this; repeatable.",
)
@click.option(
    "--created-at-on-or-after", metavar="TIME", callback=to_utc_time, help="v2: only jobs made since then (UTC)."
)
@click.option("--created-at-on-or-before", metavar="TIME", callback=to_utc_time, help="v2: only jobs made until then.")
@api_version_option
@api_options
@json_option
def list_jobs_command(page_size: int | None, page_token: str | None, as_json: bool, **options: Any) -> int:
    """Show one page of the project's jobs, in the API's order.

    \b
    Example:
      classify-batch jobs list --page-size 20
      classify-batch jobs list --api-version v2 --status FAILED --created-at-on-or-after 2026-11-22
    """
    from functools import partial

    settings = load_call_settings(options)

    from classify_batch.cli.interruption import run_until_signal
    from classify_batch.cli.rendering.jobs import make_item_table, print_body, print_next_page_hint
    from classify_batch.operations.jobs.single_calls import list_jobs

    filters = {name: options[name] for name in FILTERS}
    page = run_until_signal(partial(list_jobs, settings, page_size=page_size, page_token=page_token, **filters))
    answers_in_job = settings.api.capabilities.answers_in_job
    headings = ("id", "status", "type" if answers_in_job else "mode", "created")
    rows = job_rows_with_answers(page) if answers_in_job else format_job_rows(page)
    print_body(page, partial(make_item_table, headings, rows, whole=("id", "created")), as_json=as_json)
    print_next_page_hint(page)
    return 0


def format_job_rows(page: Body) -> Iterator[tuple[object, ...]]:
    from classify_batch.cli.rendering.jobs import format_time

    for job in page["items"]:
        yield job.get("id"), job.get("status"), job.get("mode"), format_time(job.get("created_at"))


def job_rows_with_answers(page: Body) -> Iterator[tuple[object, ...]]:
    """v2 has only one mode, so the answer stands in its place: a finished job brings it along."""
    from classify_batch.cli.rendering.jobs import format_time, format_type

    for job in page["items"]:
        answer = format_type(job.get("result")) if job.get("status") == "COMPLETED" else None
        yield job.get("id"), job.get("status"), answer, format_time(job.get("created_at"))
