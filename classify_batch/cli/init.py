"""classify-batch init"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import click

from classify_batch.cli.options import PATH


@click.command("init")
@click.argument("config", type=PATH)
@click.option(
    "--rule",
    "rules",
    multiple=True,
    metavar="TYPE=DESCRIPTION",
    help="A type of file, and how to recognize it; may be given several times.",
)
@click.option("--api-version", type=click.Choice(["v1", "v2"]), help="v2, unless many files a job are wanted.")
@click.option("--mode", type=click.Choice(["FAST", "MULTIMODAL"]), help="MULTIMODAL reads images, too: v1 only.")
@click.option("--base-url", metavar="URL", help='Another region of the API, or "sandbox" to practise without a key.')
def init_command(
    config: Path, rules: tuple[str, ...], api_version: str | None, mode: str | None, base_url: str | None
) -> int:
    """Write a config to begin with into the new file CONFIG.

    Without a rule it asks, where a person is there to answer.

    \b
    Examples:
      classify-batch init my.toml
      classify-batch init my.toml --api-version v2 --rule "invoice=has line items and a total amount"
      classify-batch init practice.toml --base-url sandbox --rule "letter=dear, sincerely"
    """
    from classify_batch.cli.rendering.outputs import printable
    from classify_batch.errors import UsageError
    from classify_batch.settings.new_config import INPUT_EXAMPLE, check_config, format_config, recommend_version

    refuse_bad_target(config)
    asks = sys.stdin is not None and sys.stdin.isatty()
    version = api_version or recommend_version(mode)
    decided = bool(api_version or mode or rules) or base_url == "sandbox"  # where it makes no difference
    if asks and not decided:
        click.echo("v2 repeats a lost create safely; v1 has MULTIMODAL, and up to 500 files a job.", err=True)
        version = click.prompt("API version", type=click.Choice(["v1", "v2"]), default=version, err=True)
    pairs = [split_rule(rule) for rule in rules] or (ask_for_rules() if asks else [])
    if not pairs:
        raise UsageError(
            "there is no rule, and nobody to ask",
            hint='name each type and how to recognize it: --rule "invoice=has line items and a total amount"',
        )
    name = shlex.quote(str(config))
    name = name if name.isprintable() else "CONFIG"  # it stands in a comment of one line, in UTF-8
    text = format_config(name, pairs, version=version, mode=mode, base_url=base_url)
    check_config(text)
    write_new_file(config, text)
    click.echo(printable(f"wrote {config}\nnext: classify-batch check {name} --input {INPUT_EXAMPLE}"), err=True)
    return 0


def refuse_bad_target(path: Path) -> None:
    """Raises UsageError where no new file can be made, before anybody is asked anything."""
    from classify_batch.errors import UsageError
    from classify_batch.store.atomic_file import beside

    try:
        if path.is_symlink() or path.exists():
            raise UsageError(f"{path} is there already", hint="name another file, or remove it first")
        if not path.parent.is_dir():
            raise UsageError(f"{path} can't be written: there is no such folder", hint="name a path in one that exists")
        if not os.access(path.parent, os.W_OK):
            raise UsageError(
                f"{path} can't be written: its folder is read-only, or not this user's", hint="name another file"
            )
        beside(path).exists()  # raises where no file can have such a name
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror or error}", hint="name another file") from None


def write_new_file(path: Path, text: str) -> None:
    """Writes a file that isn't there yet, whole or not at all. Raises UsageError; StoreError where the disk refuses."""
    from classify_batch.cli.event_loop import run_in_event_loop
    from classify_batch.errors import UsageError
    from classify_batch.store.atomic_file import create_file

    try:
        run_in_event_loop(create_file, path, text.encode())
    except FileExistsError:
        raise UsageError(f"{path} is there already", hint="name another file, or remove it first") from None


def split_rule(rule: str) -> tuple[str, str]:
    kind, sign, description = rule.partition("=")
    if not sign:
        raise click.BadParameter(f"{rule!r} is not TYPE=DESCRIPTION", param_hint="--rule")
    return kind.strip(), description.strip()


def ask_for_rules() -> list[tuple[str, str]]:
    from classify_batch.settings.new_config import find_rule_error

    pairs: list[tuple[str, str]] = []
    click.echo("Which types of files are there? An empty answer ends the list.", err=True)
    while True:
        kind = click.prompt(f"type {len(pairs) + 1}", default="", show_default=False, err=True).strip()
        if not kind:
            return pairs
        description = click.prompt(f"how to recognize {kind}", err=True).strip()
        if (wrong := find_rule_error(kind, description)) is None:
            pairs.append((kind, description))
        else:
            click.echo(wrong, err=True)
