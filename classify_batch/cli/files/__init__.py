"""classify-batch files: uploads files to the project, lists the files that it holds, and deletes uploads."""

from __future__ import annotations

import click

from classify_batch.cli.subcommands import LazySubcommands

SUBCOMMANDS = {
    "upload": "upload:upload_command",
    "list": "listing:list_files_command",
    "delete": "delete:delete_command",
}


@click.group(
    "files",
    cls=LazySubcommands,
    package=__name__,
    subcommands=SUBCOMMANDS,
    no_args_is_help=False,
    short_help="Upload, list and delete files of the project.",
)
def files_command() -> None:
    """Upload files to the project, list the files that it holds, and delete what was uploaded.

    \b
    Example:
      classify-batch files upload --recursive inbox > files.jsonl
      classify-batch run my.toml --input files.jsonl --run-dir runs/today
    """
