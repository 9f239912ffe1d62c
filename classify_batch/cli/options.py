"""Options that several commands share. An option overrides the environment and the config."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from classify_batch.cli.time_options import parse_deadline_option, parse_duration_option
from classify_batch.object_store.url import is_object_url

if TYPE_CHECKING:
    from classify_batch.cli.rendering.progress import Verbosity
    from classify_batch.inputs.reading import Reading
    from classify_batch.operations.run_request import Executor

INPUT_FORMATS = ("auto", "lines", "csv", "tsv", "jsonl", "json", "parquet", "arrow")
"""As inputs/reading.py has them, which `--help` doesn't import."""

Command = TypeVar("Command", bound=Callable[..., Any])

_SETTINGS: tuple[tuple[str, str, type[int] | type[float] | type[str], str], ...] = (
    ("api", "base_url", str, 'the API\'s address, or "sandbox"'),
    ("api", "project_id", str, "the project of the files"),
    ("api", "organization_id", str, "the organization of the project"),
    ("plan", "files_per_job", int, "file IDs in one job, 1 to 500; only for a new plan"),
    ("limits", "jobs_in_flight", int, "jobs in flight; 0: no limit"),
    ("limits", "requests_in_flight", int, "requests in flight"),
    ("limits", "requests_per_s", float, "requests a second"),
    ("limits", "attempts", int, "jobs that may end without an answer before a file fails"),
    ("limits", "job_timeout_s", float, "seconds that a job may take"),
    ("limits", "settle_s", float, "seconds until an accepted job appears in the list"),
    ("limits", "patience_s", float, "seconds without any answer of the API after which the run stops for now"),
    ("limits", "drain_s", float, "seconds that the run still collects after a deadline or a cancel"),
    ("limits", "max_credits", float, "credits that the run may cost at most; exits with 77 where they don't suffice"),
    ("limits", "stop_at_failure_percentage", float, "failed files, in percent, at which no more jobs are created"),
    ("limits", "tolerated_failure_percentage", float, "failed files, in percent, that still exit with 0"),
)


def settings_options(command: Command) -> Command:
    """Adds the common settings as options."""
    for section, name, kind, words in reversed(_SETTINGS):
        option = click.option(f"--{name.replace('_', '-')}", f"{section}__{name}", type=kind, help=words)
        command = option(command)
    return command


def group_by_section(options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The options that were given, by section, as `Settings.load` takes them."""
    sections: dict[str, dict[str, Any]] = {}
    for key, value in options.items():
        section, _, name = key.partition("__")
        if value is not None and name:  # an option without `section__` is no setting
            sections.setdefault(section, {})[name] = value
    return sections


class NonEmptyPath(click.Path):
    """Refuses an empty path or source: an unset variable in a script must not mean the working directory. What becomes
    a `Path` is no URL of an object."""

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        if value == "":
            self.fail("it is empty (is a variable not set?)", param, ctx)
        if self.type is Path and is_object_url(value):
            self.fail("it is a path, and not the URL of an object", param, ctx)
        return super().convert(value, param, ctx)


PATH = NonEmptyPath(path_type=Path)

config_argument = click.argument("config", type=PATH)
directory_argument = click.argument("directory", metavar="DIR", type=PATH)
run_dir_option = click.option("--run-dir", required=True, metavar="DIR", type=PATH, help="The run directory.")
trust_option = click.option(
    "--trust-run-dir",
    is_flag=True,
    help="Use the run directory also where other users could misuse it: see `manual run-directory`.",
)
input_option = click.option(
    "--input",
    "sources",
    required=True,
    multiple=True,
    metavar="SOURCE",
    type=NonEmptyPath(),
    help='A path, an object (s3://BUCKET/KEY), a folder of documents, "-" for stdin, or "project:" for all files of '
    "the project. Files may be repeated, one after the other.",
)
include_option = click.option(
    "--include", multiple=True, metavar="GLOB", help="Of a folder, only documents that it matches; may be repeated."
)
exclude_option = click.option(
    "--exclude", multiple=True, metavar="GLOB", help="Of a folder, no documents that it matches; may be repeated."
)
deadline_option = click.option(
    "--deadline",
    metavar="TIME",
    callback=parse_deadline_option,
    help="Create no jobs after it (06:00, local without an offset), collect those in flight, exit with 75.",
)
max_runtime_option = click.option(
    "--max-runtime", metavar="SPAN", callback=parse_duration_option, help="The same, counted from now (4h, 1h30m, 45s)."
)
submit_only_option = click.option(
    "--submit-only",
    is_flag=True,
    help="Create as many jobs as may be in flight, and exit with 75; `resume` collects them.",
)
shards_option = click.option(
    "--shards",
    metavar="N",
    type=int,
    help="Divide a new run into N shards, which several processes or machines can carry out.",
)
shard_option = click.option(
    "--shard",
    metavar="I/N|auto",
    type=NonEmptyPath(),
    help="Carry out shard I of N alone, from 0 on; auto: the one that Kubernetes or Slurm names.",
)
executor_option = click.option(
    "--executor",
    type=click.Choice(["ray"]),
    help="Carry the shards out on a cluster, and not one after the other in this process.",
)
ray_address_option = click.option(
    "--ray-address",
    metavar="HOST:PORT",
    type=NonEmptyPath(),
    help="The cluster of --executor ray, or auto; without it one is started on this machine.",
)
carry_option = click.option(
    "--carry",
    "plan__carry",
    metavar="NAME",
    multiple=True,
    callback=lambda _ctx, _param, names: names or None,  # not given: what the config says
    help="A further column or key that each outcome repeats; may be given several times. Only for a new plan.",
)
column_option = click.option("--column", metavar="NAME", help="The column or key of the IDs.  [default: file_id]")
format_option = click.option(
    "--format",
    "input_format",
    metavar="|".join(INPUT_FORMATS),
    type=click.Choice(INPUT_FORMATS),
    help="How the input is written. Unset, its content decides. lines: each line is a file ID.",
)
delimiter_option = click.option(
    "--delimiter", metavar="CHARACTER", help="What stands between the columns of a table (tab: a tab)."
)


def reading_options(command: Command) -> Command:
    """Adds the options that say how an input is read."""
    return column_option(format_option(delimiter_option(command)))


def take_reading(options: dict[str, Any]) -> Reading:
    """What the options say of how an input is read; takes them out of `options`."""
    from classify_batch.inputs.reading import parse_reading

    return parse_reading(options.pop("input_format"), options.pop("delimiter"), options.pop("column"))


reuse_option = click.option(
    "--reuse",
    multiple=True,
    metavar="RUNS",
    type=PATH,
    help="A run directory, or a folder of them: their answers are reused. Only for a new plan; may be repeated.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on the last line of stdout.")


_log_format_option = click.option(
    "--log-format",
    type=click.Choice(("text", "json")),
    help="Write a log; without --log-file on stderr, in place of progress, warnings and summary.",
)
_log_file_option = click.option(
    "--log-file", metavar="FILE", type=PATH, help="Append the log to FILE; with --verbose also jobs and requests."
)
_metrics_file_option = click.option(
    "--metrics-file", metavar="FILE", type=PATH, help="Keep the run's numbers in FILE, in Prometheus' text format."
)
_summary_file_option = click.option(
    "--summary-file", metavar="FILE", type=PATH, help="Write how the command ended to FILE, as JSON of at most 4 KiB."
)


def verbosity_options(command: Command) -> Command:
    """Adds the options that say how much is shown while a run is on."""
    command = click.option(
        "-v", "--verbose", is_flag=True, help="Also a line for each job: created, ended, collected."
    )(command)
    command = click.option("-q", "--quiet", is_flag=True, help="Only errors and the summary.")(command)
    for option in (_summary_file_option, _metrics_file_option, _log_file_option, _log_format_option):
        command = option(command)
    return click.option(
        "--progress",
        type=click.Choice(("auto", "live", "lines", "none")),
        default="auto",
        help="What shows how far the run is: a live view on a terminal, a line every few seconds elsewhere.",
    )(command)


def take_verbosity(options: dict[str, Any]) -> Verbosity:
    """What the options say of how much is shown."""
    from classify_batch.cli.rendering.progress import Verbosity

    if options["quiet"] and options["verbose"]:
        raise click.UsageError("--quiet and --verbose contradict each other")
    from classify_batch.cli.run_outputs import RunOutputs

    names = ("log_format", "log_file", "metrics_file", "summary_file")
    outputs = RunOutputs(*(options[name] for name in names))
    return Verbosity(options["progress"], options["quiet"], options["verbose"], outputs)


def take_executor(options: dict[str, Any]) -> Executor | None:
    """Who carries the shards out; None: this process."""
    if options["executor"] is None:
        if options["ray_address"] is not None:
            raise click.UsageError("--ray-address is for --executor ray")
        return None
    from classify_batch.scale.ray_executor import RayExecutor

    return RayExecutor(options["ray_address"])


def executor_words(options: dict[str, Any]) -> list[str]:
    """The same options, for the command that goes on."""
    given = (("--executor", options["executor"]), ("--ray-address", options["ray_address"]))
    return [word for name, value in given if value is not None for word in (name, value)]
