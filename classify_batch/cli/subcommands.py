"""A command with subcommands: each has a file of its own, which is imported only when the subcommand is given."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LazySubcommands(click.Group):
    """A group of subcommands.

    Args:
        package: where their files are.
        subcommands: each name, and where it is: `file:function`.
    """

    def __init__(self, *args: Any, package: str, subcommands: Mapping[str, str], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._package, self._subcommands = package, dict(subcommands)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self._subcommands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self._subcommands:
            return None
        file, _, function = self._subcommands[cmd_name].partition(":")
        command: click.Command = getattr(import_module(f"{self._package}.{file}"), function)
        return command
