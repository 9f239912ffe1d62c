"""classify-batch files: what the project holds, and how it comes there."""

from __future__ import annotations

import click

from classify_batch.cli.verbs import Verbs

VERBS = {"upload": "upload", "list": "listing"}
"""Each verb, and the file that it has."""


@click.group("files", cls=Verbs, package=__name__, verbs=VERBS, no_args_is_help=False)
def files_command() -> None:
    """Bring files to the project, and list what it holds.

    \b
    Example:
      classify-batch files upload --recursive inbox > files.jsonl
      classify-batch run my.toml --input files.jsonl --run-dir runs/today
    """
