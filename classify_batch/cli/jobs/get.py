"""classify-batch jobs get"""

from __future__ import annotations

from typing import Any

import click

from classify_batch.cli.jobs.options import (
    api_options,
    api_version_option,
    job_id_argument,
    json_option,
    load_call_settings,
)


@click.command("get")
@job_id_argument
@api_version_option
@api_options
@json_option
def get_job_command(job_id: str, as_json: bool, **options: Any) -> int:
    """Show one job: its status, its rules, and how it reads the files.

    \b
    Example:
      classify-batch jobs get 182bd5e5-6e1a-4fe4-a799-aa6d9a6ab26e --json
    """
    from functools import partial

    settings = load_call_settings(options)

    from classify_batch.cli.interruption import run_until_signal
    from classify_batch.cli.rendering.jobs import make_field_table, print_body
    from classify_batch.operations.jobs.single_calls import get_job

    job = run_until_signal(partial(get_job, settings, job_id))
    print_body(job, partial(make_field_table, job), as_json=as_json)
    return 0
