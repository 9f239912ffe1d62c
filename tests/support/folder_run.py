"""Runs over a folder of documents: an inbox, its config, and what became of it, here and on the server."""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.command_line import command, environment
from tests.support.start_command import run_process

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


def configure(
    place: Path, server: str, version: str = "v1", more: str = "", *, files_per_job: int = 2, timeout_s: float = 1
) -> None:
    """Writes c.toml. `more`: further lines for its [limits], and further sections; `timeout_s`: so long a lost create's
    job is waited for, too, which is why it is short."""
    (place / "c.toml").write_text(
        f'[api]\nversion = "{version}"\nbase_url = "{server}"\ntimeout_s = {timeout_s}\n'
        f"[plan]\nfiles_per_job = {files_per_job}\n[job]\nrules = {RULES}\n"
        f"[limits]\nrequests_per_s = 500.0\nsettle_s = 0.5\naccept_s = 1\n{more}\n"
    )


def run_words(name: str = "today", *options: str) -> list[str]:
    """The command that runs the inbox in `runs/NAME`."""
    return ["run", "c.toml", "--input", "inbox", "--run-dir", f"runs/{name}", *options]


def lines(place: Path, name: str = "today", file: str = "results.jsonl") -> list[dict[str, Any]]:
    """The lines of a file of a run."""
    return [json.loads(line) for line in (place / "runs" / name / file).read_text().splitlines()]


def delete_uploads(place: Path, server: str) -> None:
    """What happens to uploads after 48 hours: they are gone from the project."""
    ids = place / "ids.jsonl"
    ids.write_text("".join(json.dumps({"file_id": each["id"]}) + "\n" for each in listed(place, server)))
    command("files", "delete", "--yes", ids, "--base-url", server, folder=place, status=0)


def listed(place: Path, server: str) -> list[dict[str, Any]]:
    """The files that the project has."""
    done = command("files", "list", "--all", "--json", "--base-url", server, folder=place, status=0)
    return [json.loads(line) for line in done.stdout.splitlines()]


def uploads_by_content(place: Path, server: str) -> Counter[str]:
    """How often each content is in the project."""
    return Counter(str(each["external_file_id"]) for each in listed(place, server))


# --- Kills ------------------------------------------------------------------------------------------------------------

KILLED = """
import os, runpy, signal, sys
from classify_batch.llamacloud import file_client, client
from classify_batch.operations import documents
from classify_batch.engine import intent, submitter

step = sys.argv.pop(1)
left = 1 if "first" in step else 2

def die(at):
    global left
    if at == step:
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

def around(owner, name, before, after):
    work = getattr(owner, name)
    async def worked(*args, **named):
        die(before)
        found = await work(*args, **named)
        die(after)
        return found
    setattr(owner, name, worked)

around(file_client.FileClient, "store_file", "before an upload", "after an upload")
around(documents.FolderDocuments, "bring", "", "after its line")
around(intent.Intent, "make_durable", "before the intent", "after the intent")
around(intent.Intent, "make_durable", "", "after the first intent")
around(submitter.Submitter, "_call_create", "", "after the create")
sys.argv = ["classify-batch", *sys.argv[1:]]
runpy.run_module("classify_batch", run_name="__main__")
"""

STEPS = (
    "before an upload",
    "after an upload",
    "after its line",
    "before the intent",
    "after the intent",
    "after the create",
)
"""At which a process can be killed, in their order."""


def run_killed_at(step: str, place: Path, *words: str) -> None:
    """Runs the inbox in a process that is killed at a step of the second document or job."""
    script = [sys.executable, "-c", KILLED, step, *(words or run_words())]
    killed = run_process(script, cwd=place, env=environment())
    assert killed.returncode == -signal.SIGKILL, killed.stderr
