"""What a command says to do next: commands that can be pasted as they stand, and ids that are whole."""

from __future__ import annotations

import json
import os
import pty
import select
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.command_line import PATIENCE_S, command, environment, mirror, on_a_terminal, sandbox
from tests.support.start_command import COMMAND, CommandProcess

RULE = "invoice=has an invoice number and a total"
CREATE = ("jobs", "create", "--rule", RULE)
WIDE = 400


@pytest.fixture(scope="module")
def stuck() -> Iterator[str]:
    """The base URL of a sandbox whose jobs are never finished."""
    with sandbox("--fault", "stuck=1") as base_url:
        yield base_url


@pytest.fixture(scope="module")
def quick() -> Iterator[str]:
    with sandbox("--files", "7") as base_url:
        yield base_url


def asked_in(said: str) -> list[str]:
    """The words of the command that a message names in backticks, as a shell takes them."""
    words = shlex.split(said.split("`")[1])
    assert words.pop(0) == "classify-batch"
    return words


def made(where: Sequence[str], *file_ids: str) -> list[dict[str, Any]]:
    done = command(*CREATE, *(word for file_id in file_ids for word in ("--file-id", file_id)), *where)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


# --- Commands in hints ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("by", ["option", "config"])
def test_the_hint_of_get_results_asks_for_the_same_job_again(stuck: str, tmp_path: Path, version: str, by: str) -> None:
    """The hint of `get-results` asks the same API, by the same version, about the same job."""
    where = ["--api-version", version, "--base-url", stuck, "--project-id", "a b"]
    if by == "config":
        (tmp_path / "c d.toml").write_text(f'[api]\nversion = "{version}"\nbase_url = "{stuck}"\nproject_id = "a b"\n')
        where = ["--config", str(tmp_path / "c d.toml")]
    [job] = made(where, "a")
    done = command("jobs", "get-results", job["id"], *where)
    assert done.returncode == 75
    shown = command(*asked_in(done.stderr))
    assert json.loads(shown.stdout)["id"] == job["id"], shown.stderr


def test_a_mended_address_is_said_to_need_a_new_run_directory(quick: str, tmp_path: Path) -> None:
    """A run directory keeps its address: whoever mends it finds a way that works in the hint, not an error."""
    rule = '{ type = "invoice", description = "has line items and a total" }'
    (tmp_path / "c.toml").write_text(f"[job]\nrules = [{rule}]\n[limits]\naccept_s = 1\n[api]\ntimeout_s = 1\n")
    (tmp_path / "ids.txt").write_text("a\n")
    words = ("run", "c.toml", "--input", "ids.txt", "--run-dir")
    for run, base_url, environ in (
        ("path", f"{quick}/api/v1", {}),
        ("nothing", f"{quick}/nothing", {}),
        ("key", quick, {"LLAMA_CLOUD_API_KEY": "llx-of-another-region"}),
    ):
        done = command(*words, run, "--base-url", base_url, folder=tmp_path, environ=environ, status=77)
        [hint] = [line for line in done.stderr.splitlines() if line.startswith("hint:")]
        assert "api.base_url" in hint
        assert "a run needs a new directory" in hint
    command(*words, "path", "--base-url", quick, folder=tmp_path, status=2)
    command(*words, "new", "--base-url", quick, folder=tmp_path, status=0)


def test_a_job_without_a_rule_is_told_how_to_give_one(quick: str, tmp_path: Path) -> None:
    """`jobs create` needs no config: its hint names the option."""
    (tmp_path / "c.toml").write_text("[limits]\njobs_in_flight = 5\n")
    for more in ((), ("--config", "c.toml"), ("--lang", "de")):
        done = command("jobs", "create", "--file-id", "a", *more, "--base-url", quick, folder=tmp_path, status=2)
        assert "job.rules: missing" in done.stderr
        assert "hint: --rule TYPE=DESCRIPTION" in done.stderr


def test_the_hint_of_cancel_names_the_job(quick: str) -> None:
    """The hint of `cancel` names the job."""
    where = ("--api-version", "v2", "--base-url", quick)
    [job] = made(where, "a")
    while json.loads(command("jobs", "get", job["id"], *where).stdout)["status"] != "COMPLETED":
        pass
    done = command("jobs", "cancel", job["id"], *where)
    assert done.returncode == 77
    shown = command(*asked_in(done.stderr))
    assert json.loads(shown.stdout)["id"] == job["id"], shown.stderr


def test_the_hint_of_a_lost_create_lists_the_jobs_of_its_project() -> None:
    """The hint looks in the project in which the job may be."""
    with sandbox("--fault", "create.after.502=1") as base_url:
        done = command(*CREATE, "--file-id", "a", "--base-url", base_url, "--organization-id", "o")
        words = asked_in(done.stderr)
        assert words == ["jobs", "list", "--base-url", base_url, "--organization-id", "o"]
        assert len(json.loads(command(*words).stdout)["items"]) == 1


# --- The next page --------------------------------------------------------------------------------------------------


def next_of(*words: str) -> tuple[list[str], str]:
    """The command behind `next:`, and all that was shown."""
    shown = on_a_terminal(*words, stderr=True, width=WIDE)
    [line] = [line for line in shown.splitlines() if line.startswith("next: ")]
    told = shlex.split(line.removeprefix("next: "))
    assert told.pop(0) == "classify-batch"
    return told, shown


def test_the_hint_for_the_next_page_of_jobs_repeats_the_options(quick: str) -> None:
    """It is asked for as the first was: version, address, project, filters and page size."""
    where = ("--api-version", "v2", "--base-url", quick)
    jobs = made(where, "p", "q", "r")
    ids, project = [job["id"] for job in jobs], jobs[0]["project_id"]
    asked = [word for job_id in ids for word in ("--job-id", job_id)]
    since = ("--created-at-on-or-after", "2020-01-01T00:00+01:00")
    first = ("jobs", "list", "--page-size", "2", *asked, *since, *where, "--project-id", project)
    told, shown = next_of(*first)
    rest = json.loads(command(*told).stdout)["items"]
    table = [line.split()[0] for line in shown.splitlines() if not line.startswith(("id ", "next: "))]
    assert sorted([*table, *(job["id"] for job in rest)]) == sorted(ids)
    assert told[told.index("--project-id") + 1] == project
    assert told[told.index("--created-at-on-or-after") + 1].startswith("2019-12-31T23:00:00")


def test_the_hint_for_the_next_page_replaces_the_page_token(quick: str) -> None:
    """A token is replaced by the next one."""
    first, _ = next_of("files", "list", "--page-size", "3", "--base-url", quick)
    second, _ = next_of(*first)
    assert second.count("--page-token") == 1
    pages = [json.loads(command(*words).stdout)["items"] for words in (first, second)]
    assert [len(page) for page in pages] == [3, 1]


def test_the_hint_for_the_next_page_of_files_repeats_the_options() -> None:
    """The name and the page size are asked for again."""
    with mirror() as server:
        server.fields = {"items": [], "next_page_token": "-t 1"}
        options = ["--page-size", "2", "--name", "a b.pdf", "--base-url", server.base_url]
        told, _ = next_of("files", "list", *options)
        assert told == ["files", "list", *options, "--page-token", "-t 1"]
        assert command(*told).returncode == 0
        assert parse_qs(urlsplit(server.paths[-1]).query) == {
            "page_size": ["2"],
            "page_token": ["-t 1"],
            "file_name": ["a b.pdf"],
        }


# --- Uploads --------------------------------------------------------------------------------------------------------


def test_the_hint_of_a_partly_failed_upload_says_what_to_do(quick: str, tmp_path: Path) -> None:
    """It says what to do next."""
    (tmp_path / "good").write_text("x")
    os.mkfifo(tmp_path / "bad")
    done = command("files", "upload", tmp_path / "good", tmp_path / "bad", "--base-url", quick)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("hint: fix what is named above, then give the same command")


# --- Narrow terminals -----------------------------------------------------------------------------------------------


def unfolded(width: int, *words: str) -> list[str]:
    """The lines that a terminal of this width is given: it folds what is longer, and copies it whole."""
    ours, theirs = pty.openpty()
    values = environment(TERM="xterm", COLUMNS=str(width), NO_COLOR="1")
    shown = b""
    with CommandProcess([*COMMAND, *words], stdout=theirs, stderr=subprocess.DEVNULL, env=values) as process:
        os.close(theirs)
        with suppress(OSError):  # how a terminal says that nobody is left at its other end
            while select.select([ours], [], [], PATIENCE_S)[0] and (block := os.read(ours, 65536)):
                shown += block
    os.close(ours)
    assert process.returncode == 0
    return shown.decode().splitlines()


@pytest.mark.parametrize("width", [10, 50])
def test_ids_are_never_cut_at_any_terminal_width(quick: str, width: int) -> None:
    """And each job's status, mode and time of making are there."""
    where = ("--base-url", quick)
    [job] = made(where, "x" * 200, "y")
    page = json.loads(command("jobs", "list", *where).stdout)["items"]
    lines = unfolded(width, "jobs", "list", *where)
    assert [line.split()[0] for line in lines if is_item(line)] == [each["id"] for each in page]
    if width < 60:
        at = lines.index(job["id"])
        assert lines[at + 1].startswith("  status: ")
        assert lines[at + 2 : at + 4] == ["  mode: FAST", f"  created: {job['created_at'][:16].replace('T', ' ')}"]
    assert any(job["id"] in line for line in unfolded(width, "jobs", "get", job["id"], *where))
    while command("jobs", "get-results", job["id"], *where).returncode:
        pass
    assert any("x" * 200 in line for line in unfolded(width, "jobs", "get-results", job["id"], *where))
    files = json.loads(command("files", "list", *where).stdout)["items"]
    shown = unfolded(width, "files", "list", *where)
    assert [line.split()[0] for line in shown if is_item(line)] == [each["id"] for each in files]


def is_item(line: str) -> bool:
    return line.count("-") >= 4 and not line.startswith((" ", "next:"))
