"""classify-batch jobs cancel"""

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


@click.command("cancel")
@job_id_argument
@api_version_option
@api_options
@json_option
def cancel_job_command(job_id: str, as_json: bool, **options: Any) -> int:
    """Stop a job that is not finished, and show it. v2 only; what is cancelled is not classified.

    \b
    Example:
      classify-batch jobs cancel 182bd5e5-6e1a-4fe4-a799-aa6d9a6ab26e --api-version v2
    """
    from functools import partial

    settings = load_call_settings(options)

    from classify_batch.cli.interruption import run_until_signal
    from classify_batch.cli.rendering.jobs import make_field_table, print_body
    from classify_batch.operations.jobs.single_calls import cancel_job

    job = run_until_signal(partial(cancel_job, settings, job_id))
    print_body(job, partial(make_field_table, job), as_json=as_json)
    return 0
