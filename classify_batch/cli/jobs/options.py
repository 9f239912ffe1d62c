"""Options that single calls share. An option overrides the environment and the config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from classify_batch.cli.options import PATH

if TYPE_CHECKING:
    from classify_batch.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])

_API = (
    ("base_url", "The API's address."),
    ("project_id", "The project of the jobs and files."),
    ("organization_id", "The organization of the project."),
)


def api_options(command: Command) -> Command:
    """Adds `--config`, and options for the settings of the [api] section."""
    for name, words in reversed(_API):
        command = click.option(f"--{name.replace('_', '-')}", f"api__{name}", help=words)(command)
    return click.option("--config", metavar="FILE", type=PATH, help="A config, as `run` takes it.")(command)


api_version_option = click.option(
    "--api-version", "api__version", metavar="v1|v2", help="The API's version; v2 has one file a job.  [default: v1]"
)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON also on a terminal.")
page_size_option = click.option("--page-size", metavar="N", type=click.IntRange(min=1), help="Items on the page.")
page_token_option = click.option("--page-token", metavar="TOKEN", help="The page behind a next_page_token.")


def validate_id(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """The callback of an argument or option that is an ID."""
    from classify_batch.inputs.ids import all_valid

    if value is not None and not all_valid([value]):
        raise click.BadParameter("it is empty, or not an ID (is a variable not set?)")
    return value


def validate_ids(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """The callback of an option that is an ID and may be repeated."""
    for value in values:
        validate_id(ctx, param, value)
    return values


job_id_argument = click.argument("job_id", metavar="JOB_ID", callback=validate_id)


def load_call_settings(options: Mapping[str, Any], job: Mapping[str, Any] | None = None) -> Settings:
    """The settings of a single call. `job`: what the options say of the [job] section; None: no job is created."""
    from classify_batch.cli.options import group_by_section
    from classify_batch.operations.jobs.single_calls import load_single_call_settings

    sections = group_by_section({name: value for name, value in options.items() if name.startswith("api__")})
    if job is None:
        return load_single_call_settings(options["config"], sections)
    return load_single_call_settings(options["config"], {**sections, "job": dict(job)}, job=True)
