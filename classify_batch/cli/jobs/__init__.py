"""classify-batch jobs: the verbs of the API's own reference, one call each.

options   what the verbs share
calling   a call, its interruption, and the last word
shown     JSON, or a table on a terminal
"""

from __future__ import annotations

from importlib import import_module

import click

VERBS = {"create": "create", "list": "listing", "get": "get", "get-results": "results"}
"""Each verb, and the file that it has."""


class _Verbs(click.Group):
    """Imports a verb's file when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        module = import_module(f"classify_batch.cli.jobs.{VERBS[cmd_name]}")
        command: click.Command = module.command
        return command


@click.group("jobs", cls=_Verbs, no_args_is_help=False)
def jobs_command() -> None:
    """Create, list and look at single jobs: one call each, answered in the API's own words.

    \b
    Example:
      classify-batch jobs create --file-id ID --rule "invoice=has an invoice number and a total"
    """
