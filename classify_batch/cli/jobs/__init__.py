"""classify-batch jobs: single calls of the API, named as in its own reference.

options         options that the subcommands share
repeat_command  commands for a person to paste

"""

from __future__ import annotations

import click

from classify_batch.cli.subcommands import LazySubcommands

SUBCOMMANDS = {
    "create": "create:create_job_command",
    "list": "listing:list_jobs_command",
    "get": "get:get_job_command",
    "get-results": "results:get_results_command",
    "cancel": "cancel:cancel_job_command",
}


@click.group(
    "jobs",
    cls=LazySubcommands,
    package=__name__,
    subcommands=SUBCOMMANDS,
    no_args_is_help=False,
    short_help="Create, list, show and cancel single jobs.",
)
def jobs_command() -> None:
    """Create, list, show and cancel single jobs. Each is one call, and shows the API's own answer.

    \b
    Example:
      classify-batch jobs create --file-id ID --rule "invoice=has an invoice number and a total"
    """
