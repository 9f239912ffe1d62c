"""Groups of commands: each command has a file of its own, which is imported only when it is given.

An option that takes one value and is given twice is refused, for every command: which of the two is meant nobody knows,
and click would silently take the last.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

import click

from classify_batch.cli.rendering.outputs import color_label
from classify_batch.spelling import suggest


class HelpFormatter(click.HelpFormatter):
    """Colors headings, and the names of commands and options, where stdout shows colors."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """The line on top."""
        super().write_usage(prog, args, color_label(prefix or "Usage:", "yellow", sys.stdout) + " ")

    def write_heading(self, heading: str) -> None:
        """A heading, like `Options:`."""
        self.write(f"{'':>{self.current_indent}}{color_label(f'{heading}:', 'yellow', sys.stdout)}\n")

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Names, and what they mean."""
        colored = [(color_label(name, "green", sys.stdout), words) for name, words in rows]
        super().write_dl(colored, col_max, col_spacing)


class HelpContext(click.Context):
    """Of every command."""

    formatter_class = HelpFormatter


class CommandGroup(click.Group):
    """A group whose commands take no option twice."""

    context_class = HelpContext

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is given, with its arguments."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None and not ctx.resilient_parsing:
            ctx.fail(f"there is no command {name!r}{suggest(name, self.list_commands(ctx))}")
        given, command, rest = super().resolve_command(ctx, args)
        if command is not None and not ctx.resilient_parsing:
            refuse_repeated_options(click.Context(command, info_name=given, parent=ctx), rest)
        return given, command, rest


def refuse_repeated_options(ctx: click.Context, args: list[str]) -> None:
    """Raises UsageError where an option that takes one value is given more than once."""
    given: list[click.Parameter] = []
    with suppress(click.UsageError):  # whatever else is wrong is said when the command is run
        _, _, given = ctx.command.make_parser(ctx).parse_args(list(args))
    times = Counter(each for each in given if isinstance(each, click.Option) and takes_one_value(each))
    if repeated := [option.opts[0] for option, count in times.items() if count > 1]:
        raise click.UsageError(f"{', '.join(repeated)}: given more than once, and takes one value", ctx)


def takes_one_value(option: click.Option) -> bool:
    """Whether a second value would replace the first. A flag that is given twice says the same twice."""
    return not (option.multiple or option.is_flag or option.count)


class LazySubcommands(CommandGroup):
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
        command.context_class = HelpContext
        return command
