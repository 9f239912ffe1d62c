"""Commands that a person can paste: they carry the options that the command at hand was given."""

from __future__ import annotations

import re
import shlex
from collections.abc import Container, Iterator

import click
from click.core import ParameterSource

_WHERE = ("config", "api__version", "api__base_url", "api__project_id", "api__organization_id")
"""The options that say whose jobs are meant. Every verb of `jobs` has them."""

_VERB = re.compile(r"`classify-batch jobs [a-z-]+")


def completed(hint: str) -> str:
    """A hint whose commands (in backticks) ask the API, and the project, that this command asked."""
    context = click.get_current_context(silent=True)
    options = [] if context is None else list(_given(context, only=_WHERE))
    return _VERB.sub(lambda verb: f"{verb[0]} {shlex.join(options)}", hint) if options else hint


def with_page_token(token: str) -> str:
    """This command, for another page."""
    context = click.get_current_context()
    command = [*context.command_path.split(), *_given(context, but=("page_token",))]
    return shlex.join([*command, "--page-token", token])


def _given(context: click.Context, only: Container[str] | None = None, but: Container[str] = ()) -> Iterator[str]:
    """The options on the command line. What comes from the environment is there for the next command, too."""
    for option in context.command.params:
        name = option.name or ""
        wanted = name not in but and (only is None or name in only)
        if not (isinstance(option, click.Option) and wanted):
            continue
        if context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        value = context.params[name]
        for each in value if option.multiple else (value,):
            yield option.opts[0]
            if not option.is_flag:
                yield str(each)
