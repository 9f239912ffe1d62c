"""`check` and `plan` say how much disk space a run needs, and warn where less is free."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import command

CONFIG = """
[api]
base_url = "sandbox"
[job]
rules = [{ type = "invoice", description = "has line items and a total" }]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "c.toml").write_text(CONFIG)
    (tmp_path / "ids").write_text("".join(f"file-{number:07}\n" for number in range(1000)))
    (tmp_path / "ids.csv").write_text("file_id,name\n" + "".join(f"file-{n:07},{'x' * 88}\n" for n in range(1000)))
    return tmp_path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that takes a plan of 1,000 files, and not their answers."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "none", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def test_check_says_what_a_run_needs(folder: Path) -> None:
    """In the report for a person and for a program; carried columns take space twice."""
    words = ("check", "c.toml", "--json", "--input")
    plain = json.loads(command(*words, "ids", folder=folder, status=0).stdout)["disk"]
    assert plain["bytes"] == 1000 * (12 + 3) + 10 * 32 + 1000 * 1000 + 10 * 850
    assert plain["free_bytes"] > 0
    carrying = json.loads(command(*words, "ids.csv", "--carry", "name", folder=folder, status=0).stdout)["disk"]
    assert carrying["bytes"] - plain["bytes"] == pytest.approx(2 * 1000 * 99, rel=0.02)
    report = command("check", "c.toml", "--input", "ids", "--run-dir", "nights/monday", folder=folder, status=0).stdout
    assert "disk        about 1.0 MB; " in report
    assert f" are free in {folder}" in report
    assert "(estimated; a file takes 1,000 bytes of answers, 15.3 of the plan, 8.5 of the journal)" in report


@pytest.mark.parametrize(("version", "files_per_job"), [("v1", 1), ("v1", 2), ("v2", 1)])
def test_the_estimate_covers_the_journal_of_a_run(folder: Path, version: str, files_per_job: int) -> None:
    """Where a job has one file, too: then each create has lines of its own in the journal. What shares a line depends
    on the machine's pace, so the estimate counts none that do."""
    files = 200
    options = f'[limits]\nrequests_per_s = 60\n[plan]\nfiles_per_job = {files_per_job}\n[api]\nversion = "{version}"'
    (folder / "c.toml").write_text(CONFIG.replace("[api]", options))
    (folder / "ids").write_text("".join(f"file-{number:07}\n" for number in range(files)))
    checked = json.loads(command("check", "c.toml", "--json", "--input", "ids", folder=folder, status=0).stdout)
    estimated = checked["disk"]["bytes"] - files * (12 + 3 + 1000) - files // files_per_job * 32
    command("run", "c.toml", "--input", "ids", "--run-dir", "run", folder=folder, status=0)
    journal = (folder / "run" / "journal.jsonl").stat().st_size
    assert 0.4 * estimated < journal < estimated


def test_little_space_is_a_warning_of_check(folder: Path, small_disk: Path) -> None:
    """A warning stops nothing; where the run would be is looked at."""
    words = ("check", "c.toml", "--json", "--input", "ids")
    findings = json.loads(command(*words, "--run-dir", small_disk / "run", folder=folder, status=0).stdout)["findings"]
    (found,) = (each for each in findings if each["code"] == "disk_space")
    assert found["severity"] == "warning"
    assert f"the run needs about 1.0 MB of disk space, and 409.6 kB are free in {small_disk}" in found["message"]
    assert "disk_space" not in command(*words, folder=folder, status=0).stdout


def test_plan_says_what_is_still_needed_and_warns(folder: Path, small_disk: Path) -> None:
    """The plan is written by then; where there is less for the rest, a warning with a hint goes to stderr."""
    here = command("plan", "c.toml", "--input", "ids", "--run-dir", "run", folder=folder, status=0)
    assert "disk        about 1.0 MB more; " in here.stdout
    assert "warning" not in here.stderr
    there = command("plan", "c.toml", "--input", "ids", "--run-dir", small_disk / "run", folder=folder, status=0)
    assert "warning: the run needs about 1.0 MB of disk space, and " in there.stderr
    assert "hint: make room" in there.stderr


def test_reused_files_need_no_more_space(folder: Path) -> None:
    """What is reused is written already."""
    command("run", "c.toml", "--input", "ids", "--run-dir", "first", folder=folder, status=0)
    again = command(
        "plan", "c.toml", "--input", "ids", "--run-dir", "again", "--reuse", "first", folder=folder, status=0
    )
    assert "disk        about 0 B more" in again.stdout
