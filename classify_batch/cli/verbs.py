"""A command that has verbs: each stands in a file of its own, as `command`, imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class Verbs(click.Group):
    """The verbs of a command.

    Args:
        package: where their files are.
        verbs: each verb, and the file that it has.
    """

    def __init__(self, *args: Any, package: str, verbs: Mapping[str, str], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._package, self._verbs = package, dict(verbs)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self._verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self._verbs:
            return None
        command: click.Command = import_module(f"{self._package}.{self._verbs[cmd_name]}").command
        return command
