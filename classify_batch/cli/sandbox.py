"""classify-batch sandbox"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from classify_batch.cli.options import PATH
from classify_batch.cli.signals import has_room

_EPILOG = """\b
Example: a sandbox that loses 5 % of the create answers, and the vendor's API key variable set for it:
  classify-batch sandbox --port 8765 --fault lost_create_answer=0.05
  LLAMA_CLOUD_API_KEY=sandbox LLAMA_CLOUD_BASE_URL=http://127.0.0.1:8765 python your_pipeline.py
Any fault is CALL.MOMENT.WHAT, like read.before.slow; `classify-batch manual sandbox` lists them all:
  classify-batch sandbox --fault create.after.502=0.01 --fault list_lag_s=3 --fault credits=1000
Its requests so far: curl http://127.0.0.1:8765/sandbox/stats
"""


@click.command("sandbox", epilog=_EPILOG, context_settings={"show_default": True})
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Where to listen on 127.0.0.1; 0: any free port."
)
@click.option("--documents", type=PATH, help="Classify the text files and PDFs of this folder.")
@click.option("--files", type=int, default=0, help="Without --documents: made-up files in the project's file list.")
@click.option("--files-expire-in-s", type=float, help="When all files expire, counted from the start; else never.")
@click.option("--uploads-expire-in-s", type=float, help="When an upload expires, counted from it; else never.")
@click.option("--api-key", default="sandbox", help="The key that clients must send.")
@click.option(
    "--further-key", multiple=True, metavar="KEY=PROJECT", help="A key that sees this project only; may be repeated."
)
@click.option("--files-of-project", metavar="PREFIX", help="File IDs that begin so are in the default project only.")
@click.option("--ledger", type=PATH, help="Keep accepted jobs in this file over a restart.")
@click.option("--seed", type=int, help="Same seed and requests: same durations, endings and faults.")
@click.option("--job-duration-s", type=float, default=0.2, help="Median time a job takes.")
@click.option("--job-duration-sigma", type=float, default=0.6, help="Lognormal spread of it; 0: all the same.")
@click.option(
    "--list-order",
    type=click.Choice(["newest", "oldest", "shuffled", "changed"]),
    default="newest",
    help="Of jobs; changed: by last change, newest first, with offsets as page tokens.",
)
@click.option("--list-page-size-max", type=int, default=100, help="Larger pages of jobs are refused with 422 …")
@click.option("--list-page-size-clamp", is_flag=True, help="… or cut down, with this.")
@click.option("--results-page-size", type=int, help="Results in pages of this size; else all in one.")
@click.option("--requests-per-s", type=float, help="Answer 429 beyond this rate.")
@click.option(
    "--creates-per-s", type=int, help="Answer 429 to v2 creates beyond so many in any second; documented: 40."
)
@click.option(
    "--forget-transactions-after-s", type=float, help="Forget a transaction_id of v2 so long after its job was created."
)
@click.option("--jobs-at-once", type=int, help="Answer 429 to creates beyond so many unfinished jobs.")
@click.option("--date-ahead-s", type=float, help="How far the Date header is ahead of the clock that stamps jobs.")
@click.option("--silent-mode", is_flag=True, help="Jobs don't say which mode they were given.")
@click.option("--silent-created-at", is_flag=True, help="Jobs don't say when they were created.")
@click.option("--upper-case-ids", is_flag=True, help="Results spell file IDs that are UUIDs in upper case.")
@click.option("--faults", type=PATH, help="Faults: a TOML file of names and values, as for --fault.")
@click.option("--fault", multiple=True, metavar="NAME=VALUE", help="One fault, like error=0.1; may be repeated.")
def sandbox_command(
    port: int, faults: Path | None, fault: tuple[str, ...], further_key: tuple[str, ...], **values: Any
) -> None:
    """Serve a LlamaCloud to practise on, until SIGINT or SIGTERM.

    It speaks v1 and v2 of the classifier's API, so any client works against it. Once it listens, it prints its base
    URL: one line on stdout. By default it has no faults and no limits, and sends results in one page.

    With --documents it ranks the folder's text files (and PDFs, with the extra pdf) by the words of the rules: a
    stand-in, not a language model. A file's ID is uuid5(NAMESPACE_URL, its path relative to the folder).
    Without, every file ID is known and the answers are random. Uploads are ranked by their words in any case.
    """
    from functools import partial

    import anyio

    from classify_batch.sandbox import Faults, Options, open_sandbox, serve_until_stopped

    single_faults = parse_pairs(fault, "--fault", "NAME=VALUE")
    further_keys = parse_pairs(further_key, "--further-key", "KEY=PROJECT")
    fault_rates = (
        Faults.load_file(faults, **single_faults)
        if faults is not None
        else Faults.from_values(single_faults, "--fault")
    )
    with open_sandbox(Options.from_values(**values, further_keys=further_keys, faults=fault_rates)) as app:
        announce = partial(print_base_url, api_key=values["api_key"])
        anyio.run(serve_until_stopped, app, port, announce, can_print_base_url)


def can_print_base_url() -> bool:
    """Whether neither stdout nor a terminal stands still."""
    return has_room(1) and (sys.stderr is None or not sys.stderr.isatty() or has_room(2))


def print_base_url(base_url: str, api_key: str) -> None:
    from classify_batch.sandbox.documents.pdf_text import PDF_EXTRA, can_read_pdfs

    click.echo(base_url)  # click flushes: a script that reads a pipe waits for this line
    if sys.stderr is not None and sys.stderr.isatty():
        if not can_read_pdfs():
            click.echo(f"PDFs will be unmatched: it reads them only after {PDF_EXTRA}", err=True)
        key = shlex.quote(api_key)
        click.echo(f"in another terminal: export LLAMA_CLOUD_BASE_URL={base_url} LLAMA_CLOUD_API_KEY={key}", err=True)


def parse_pairs(texts: tuple[str, ...], option: str, form: str) -> dict[str, str]:
    """The values of an option like `--fault NAME=VALUE`."""
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r} is not {form}", param_hint=option)
        pairs[name.strip()] = value.strip()
    return pairs
