"""classify-batch config: the settings that a run would have."""

from __future__ import annotations

import click

from classify_batch.cli.subcommands import LazySubcommands

SUBCOMMANDS = {"show": "show:show_config_command"}


@click.group(
    "config",
    cls=LazySubcommands,
    package=__name__,
    subcommands=SUBCOMMANDS,
    no_args_is_help=False,
    short_help="Show the settings that a run would have.",
)
def config_command() -> None:
    """Show the settings that a run would have, and where each came from.

    \b
    Example:
      classify-batch config show my.toml --requests-per-s 50
    """
