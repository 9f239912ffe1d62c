"""Runs over a folder of documents: an inbox, its config, and what became of it, here and on the server."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.command_line import command

RULES = (
    '[{ type = "invoice", description = "has an invoice number, line items and a total" },'
    ' { type = "letter", description = "a letter that greets: dear sir, sincerely" }]'
)
INVOICE = "Invoice number 12, line items and a total of 30 EUR"
LETTER = "Dear Sir, this letter greets you. Sincerely"


def make_inbox(folder: Path) -> Path:
    """A folder that holds an inbox of three contents at four paths."""
    inbox = folder / "inbox"
    (inbox / "sub").mkdir(parents=True)
    (inbox / "a.txt").write_text(INVOICE)
    (inbox / "copy.txt").write_text(INVOICE)
    (inbox / "sub" / "b.txt").write_text(LETTER)
    (inbox / "c.md").write_text(INVOICE + ", once more")
    return folder


def configure(place: Path, server: str, version: str = "v1", more: str = "", *, files_per_job: int = 2) -> None:
    """Writes c.toml. `more`: further lines for its [limits], and further sections."""
    (place / "c.toml").write_text(
        f'[api]\nversion = "{version}"\nbase_url = "{server}"\ntimeout_s = 1\n'
        f"[plan]\nfiles_per_job = {files_per_job}\n[job]\nrules = {RULES}\n"
        f"[limits]\nrequests_per_s = 500.0\nsettle_s = 0.5\naccept_s = 1\n{more}\n"
    )


def run_words(name: str = "today", *options: str) -> list[str]:
    """The command that runs the inbox in `runs/NAME`."""
    return ["run", "c.toml", "--input", "inbox", "--run-dir", f"runs/{name}", *options]


def lines(place: Path, name: str = "today", file: str = "results.jsonl") -> list[dict[str, Any]]:
    """The lines of a file of a run."""
    return [json.loads(line) for line in (place / "runs" / name / file).read_text().splitlines()]


def listed(place: Path, server: str) -> list[dict[str, Any]]:
    """The files that the project has."""
    done = command("files", "list", "--all", "--json", "--base-url", server, folder=place, status=0)
    return [json.loads(line) for line in done.stdout.splitlines()]


def uploads_by_content(place: Path, server: str) -> Counter[str]:
    """How often each content is in the project."""
    return Counter(str(each["external_file_id"]) for each in listed(place, server))
