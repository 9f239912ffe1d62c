"""classify-batch files: what the project holds, and how it comes there."""

from __future__ import annotations

from importlib import import_module

import click

VERBS = {"upload": "upload", "list": "listing"}
"""Each verb, and the file that it has."""


class _Verbs(click.Group):
    """Imports a verb's file when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        module = import_module(f"classify_batch.cli.files.{VERBS[cmd_name]}")
        command: click.Command = module.command
        return command


@click.group("files", cls=_Verbs, no_args_is_help=False)
def files_command() -> None:
    """Bring files to the project, and list what it holds.

    \b
    Example:
      classify-batch files upload --recursive inbox > files.jsonl
      classify-batch run my.toml --input files.jsonl --run-dir runs/today
    """
