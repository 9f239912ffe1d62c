"""classify-batch jobs create"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from classify_batch.cli.jobs.options import (
    api_options,
    api_version_option,
    json_option,
    load_call_settings,
    validate_id,
)
from classify_batch.cli.options import NonEmptyPath, reading_options, take_reading

if TYPE_CHECKING:
    from classify_batch.errors import WorldError
    from classify_batch.llamacloud.raw_bodies import Body
    from classify_batch.settings import Settings


@click.command("create", context_settings={"allow_extra_args": True})
@click.pass_context
@click.option("--file-id", "file_ids", multiple=True, metavar="ID", help="A file to classify; may be repeated.")
@click.option(
    "--input", "sources", multiple=True, metavar="SOURCE", type=NonEmptyPath(), help="More files, as `run` takes them."
)
@reading_options
@click.option("--rule", "rules", multiple=True, metavar="TYPE=DESCRIPTION", help="A rule; may be repeated.")
@click.option("--mode", metavar="FAST|MULTIMODAL", help="1 or 2 credits a page.  [default: FAST]")
@click.option("--lang", metavar="CODE", help="The language of the files, one of the API's 86 codes.")
@click.option("--max-pages", type=int, metavar="N", help="Pages of a file that are read; unset, the API reads 5.")
@click.option("--target-page", "target_pages", type=int, multiple=True, metavar="N", help="A page to read, from 0.")
@click.option("--webhook-url", metavar="URL", help="Where the API reports what happens to the job; https only.")
@click.option("--webhook-event", "webhook_events", multiple=True, metavar="EVENT", help="What it reports; unset, all.")
@click.option(
    "--webhook-header",
    "webhook_headers",
    multiple=True,
    metavar="NAME=VALUE",
    help="A secret, never shown; others on this machine may see a command line, and a config not.",
)
@click.option("--webhook-signing-secret", metavar="SECRET", help="What the API signs its reports with; a secret, too.")
@click.option(
    "--webhook-output-format", metavar="string|json", help="Of the results in its reports.  [default: string]"
)
@click.option("--webhook-id", "webhook_ids", multiple=True, metavar="ID", help="v2: a webhook that the API keeps.")
@click.option("--transaction-id", metavar="ID", callback=validate_id, help="v2: the same ID again gives the same job.")
@api_version_option
@api_options
@json_option
def create_job_command(
    ctx: click.Context,
    /,
    file_ids: tuple[str, ...],
    sources: tuple[str, ...],
    transaction_id: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Create one job of up to 500 files and show it; on v2 a job for each file. It costs credits.

    Rules, mode and the rest also come from the [job] section of --config; an option wins. On v1 the call is never
    repeated when its answer is lost: then it exits with 77, and `jobs list` shows whether the job is there. On v2 it
    is repeated under the same transaction ID, which gives the same job.

    \b
    Example:
      classify-batch jobs create --file-id ID --rule "invoice=has an invoice number and a total" --lang de
    """
    from functools import partial

    if ctx.args:  # click would print them, and they may be the rest of a secret header
        raise click.UsageError("there are too many words: put a value with spaces into quotes", ctx)
    reading = take_reading(options)
    settings = load_job_settings(options)

    from classify_batch.cli.interruption import run_until_signal
    from classify_batch.cli.rendering.jobs import make_field_table, print_body
    from classify_batch.cli.rendering.outputs import StdoutError
    from classify_batch.inputs.open import make_sources
    from classify_batch.operations.jobs.create import CreateJobs

    def print_job(job: Body) -> None:
        try:
            print_body(job, partial(make_field_table, job), as_json=as_json)
        except (StdoutError, BrokenPipeError) as error:
            raise unprinted_job_error(job, error, pays_again=transaction_id is None) from error

    creation = CreateJobs(settings, transaction_id, print_job)
    source = make_sources(sources) if sources else None
    run_until_signal(partial(creation.create_jobs, file_ids, source, reading), creation.interrupted_error)
    return 0


def unprinted_job_error(job: Body, error: Exception, *, pays_again: bool) -> WorldError:
    """A job was created, and paid for, that can't be printed. `pays_again`: the same command would create another."""
    from classify_batch.errors import ExitStatus, WorldError
    from classify_batch.protocol.sanitize import printable_line

    reason = "nobody reads stdout anymore" if isinstance(error, BrokenPipeError) else str(error)
    job_id = printable_line(str(job["id"]))
    shows = f"`classify-batch jobs get {shlex.quote(job_id)}` shows it; "
    if not pays_again:
        return WorldError(f"{reason}; the job {job_id} was created", hint=shows + "so does the same command")
    hint = f"{shows}give the command again only for files that have no job yet, or they are paid twice"
    failure = WorldError(f"{reason}; the job {job_id} was created", hint=hint)
    failure.exit_status = ExitStatus.PERSON
    return failure


def load_job_settings(options: dict[str, Any]) -> Settings:
    """The settings of a job. Raises SettingsError."""
    from classify_batch.errors import SettingsError

    try:
        return load_call_settings(options, job_section(options))
    except SettingsError as error:
        if "job.rules: missing" not in str(error):
            raise
        hint = "--rule TYPE=DESCRIPTION gives a rule, and may be repeated; --config names a config that has some"
        raise SettingsError(str(error), hint=hint) from None


def job_section(options: dict[str, Any]) -> dict[str, Any]:
    """What the options say of the [job] section."""
    job: dict[str, Any] = {}
    if options["rules"]:
        pairs = [split_pair(rule, "--rule", "TYPE=DESCRIPTION") for rule in options["rules"]]
        job["rules"] = [{"type": kind, "description": description} for kind, description in pairs]
    if options["mode"] is not None:
        job["mode"] = options["mode"]
    parsing = {name: options[name] for name in ("lang", "max_pages") if options[name] is not None}
    if options["target_pages"]:
        parsing["target_pages"] = list(options["target_pages"])
    if parsing:
        job["parsing_configuration"] = parsing
    names = ("webhook_url", "webhook_signing_secret", "webhook_output_format")
    webhook = {name: options[name] for name in names if options[name] is not None}
    if options["webhook_events"]:
        webhook["webhook_events"] = list(options["webhook_events"])
    if options["webhook_headers"]:
        webhook["webhook_headers"] = dict(
            split_pair(header, "--webhook-header", "NAME=VALUE", secret=True) for header in options["webhook_headers"]
        )
    if webhook:
        job["webhook_configurations"] = [webhook]
    if options["webhook_ids"]:
        job["webhook_configuration_ids"] = list(options["webhook_ids"])
    return job


def split_pair(text: str, option: str, shape: str, *, secret: bool = False) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (equals and name.strip()):
        said = "a value" if secret else repr(text)
        raise click.BadParameter(f"{said} is not {shape}", param_hint=option)
    return name.strip(), value.strip()
