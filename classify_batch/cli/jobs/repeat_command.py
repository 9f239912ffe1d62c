"""Commands for a person to paste: they repeat the options of the current command."""

from __future__ import annotations

import re
import shlex
from collections.abc import Container, Iterator

import click
from click.core import ParameterSource

_WHERE = ("config", "api__version", "api__base_url", "api__project_id", "api__organization_id")
"""The options that name the API and the project. Every subcommand of `jobs` has them."""

_JOBS_COMMAND = re.compile(r"`classify-batch jobs [a-z-]+")


def complete_commands(hint: str) -> str:
    """The hint, its `jobs` commands (in backticks) completed by options: they ask the same API and project."""
    context = click.get_current_context(silent=True)
    options = [] if context is None else list(given_options(context, only=_WHERE))
    return _JOBS_COMMAND.sub(lambda command: f"{command[0]} {shlex.join(options)}", hint) if options else hint


def next_page_command(token: str) -> str:
    """The current command, for the page behind `token`."""
    context = click.get_current_context()
    command = [*context.command_path.split(), *given_options(context, without=("page_token",))]
    return shlex.join([*command, "--page-token", token])


def given_options(
    context: click.Context, only: Container[str] | None = None, without: Container[str] = ()
) -> Iterator[str]:
    """The options on the command line, all or some. What the environment sets is set for the next command, too."""
    for option in context.command.params:
        name = option.name or ""
        wanted = name not in without and (only is None or name in only)
        if not (isinstance(option, click.Option) and wanted):
            continue
        if context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        value = context.params[name]
        for each in value if option.multiple else (value,):
            yield option.opts[0]
            if not option.is_flag:
                yield str(each)
