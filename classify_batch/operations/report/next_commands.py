"""What to do next with a run, as commands to paste into a shell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from classify_batch.rundir.failure_messages import is_worth_a_retry
from classify_batch.rundir.manifest_json import Manifest
from classify_batch.rundir.next_step import resume_options
from classify_batch.rundir.run_json import RunFile
from classify_batch.shell_words import command_of


@dataclass(frozen=True, slots=True)
class NextCommand:
    """A command, and what it is for."""

    purpose: str
    command: str


def next_commands(run: RunFile, manifest: Manifest, run_dir: Path) -> list[NextCommand]:
    """What a person would do next, the most urgent first."""
    found: list[NextCommand] = []
    state, counts = manifest["state"], manifest["counts"]
    options = resume_options(manifest, run)
    if state == "running":
        found.append(NextCommand("See how far it is now", command_of("status", run_dir)))
        found.append(NextCommand("Make this report again", command_of("report", run_dir)))
    elif state == "incomplete":
        first = "When the reason is mended: go on" if manifest.get("exit_status") == 77 else "Go on where it stopped"
        found.append(NextCommand(first, command_of("resume", run_dir, *options)))
    retry = sum(files for code, files in manifest["failure_codes"].items() if is_worth_a_retry(code))
    retry = manifest.get("failures_worth_a_retry", retry)  # which also knows the messages
    if state == "complete" and retry:
        again = command_of("resume", run_dir, "--retry-failed", *options)
        found.append(NextCommand(f"Try {retry:,} failed files again", again))
    folder = run_dir
    if counts["failed"]:
        found.append(_export_command("failed", "List the failed files", folder))
    if (manifest.get("triage") or {}).get("review"):
        found.append(_export_command("review", "List the answers that a person should look at", folder))
    if counts["unmatched"]:
        found.append(_export_command("unmatched", "List the files that no rule matched", folder))
    if state == "complete":
        found.append(NextCommand("All answers as a table", command_of("export", folder, folder / "all.csv")))
        found.append(NextCommand("Prove that no file is lost or altered", command_of("verify", folder)))
    return found


def compare_commands(before: Path, after: Path) -> list[NextCommand]:
    """What to ask about the changes between two runs."""
    diff = ("diff", before, after)
    return [
        NextCommand("The files whose type changed", command_of(*diff, "--only", "type")),
        NextCommand("The files whose outcome changed", command_of(*diff, "--only", "outcome")),
    ]


def _export_command(only: str, purpose: str, run_dir: Path) -> NextCommand:
    return NextCommand(purpose, command_of("export", run_dir, run_dir / f"{only}.csv", "--only", only))
