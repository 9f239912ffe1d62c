"""Parse jobs (`pjb-…`) from the command line: classified on v2, refused on v1, reported by `check` and `plan`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import command

CONFIG = """
[api]
base_url = "sandbox"
version = "{version}"
[job]
rules = [{{ type = "invoice", description = "has line items and a total" }}]
[limits]
settle_s = 0.5
"""
INPUT = ("--input", "ids.txt")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Configs for both versions, and an input of a file and two parse jobs."""
    for version in ("v1", "v2"):
        (tmp_path / f"{version}.toml").write_text(CONFIG.format(version=version))
    (tmp_path / "ids.txt").write_text("file-1\npjb-1\npjb-2\n")
    return tmp_path


def checked(folder: Path, config: str, status: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The report of a check, and its finding about parse jobs."""
    report = json.loads(command("check", config, *INPUT, "--json", folder=folder, status=status).stdout)
    (finding,) = (each for each in report["findings"] if each["code"] == "parse_jobs")
    return report, finding


def test_check_knows_parse_jobs_on_v2(folder: Path) -> None:
    """They are neither missing nor odd, cost nothing, and a note says that nobody looked them up."""
    report, finding = checked(folder, "v2.toml", 0)
    assert (finding["severity"], finding["count"], finding["examples"]) == ("note", 2, ["pjb-1", "pjb-2"])
    assert {each["code"] for each in report["findings"]} == {"parse_jobs"}
    assert report["cost"] == {"pages": 5, "credits": 5, "dollars": 0.00625, "parse_jobs": 2}
    assert (report["files"], report["looked_up"]) == (3, 1)
    lines = command("check", "v2.toml", *INPUT, folder=folder, status=0).stdout
    assert "            2 parse jobs among them count as free: the API's word, proven by no bill" in lines


def test_parse_jobs_are_not_odd_among_uuids(folder: Path) -> None:
    """Where nearly all IDs are UUIDs, IDs that are none are reported; parse jobs are what they are."""
    ids = [f"f11e0000-0000-4000-8000-{number:012}" for number in range(40)]
    (folder / "ids.txt").write_text("\n".join([*ids, "pjb-1", "name"]))
    report, _ = checked(folder, "v2.toml", 0)
    (odd,) = (each for each in report["findings"] if each["code"] == "odd_ids")
    assert odd["examples"] == ["name"]


def test_check_says_that_v1_takes_none(folder: Path) -> None:
    """An error with a count and the first few; nobody asks the API for them."""
    report, finding = checked(folder, "v1.toml", 2)
    assert (finding["severity"], finding["count"]) == ("error", 2)
    assert 'api.version = "v2"' in finding["hint"]
    assert {each["code"] for each in report["findings"]} == {"parse_jobs"}


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_v1_refuses_parse_jobs_before_anything_is_sent(folder: Path, verb: str) -> None:
    """Named with its place in the input, and with what to do; no directory is left."""
    done = command(verb, "v1.toml", *INPUT, "--run-dir", "run", folder=folder, status=2)
    assert "file ID 2 of the input, 'pjb-1', is a parse job, and v1 of the API takes files only" in done.stderr
    assert 'hint: set api.version = "v2"' in done.stderr
    assert not (folder / "run").exists()


def test_a_column_may_hold_what_looks_like_a_parse_job(folder: Path) -> None:
    """What is carried is no file ID: on v1 it is carried, on v2 it is not counted as free."""
    (folder / "ids.csv").write_text("file_id,parse_job\nfile-1,pjb-1\nfile-2,pjb-2\n")
    words = ("--input", "ids.csv", "--carry", "parse_job", "--run-dir")
    command("plan", "v1.toml", *words, "one", folder=folder, status=0)
    assert "parse jobs" not in command("plan", "v2.toml", *words, "two", folder=folder, status=0).stdout


def test_plan_counts_parse_jobs_as_free_and_run_classifies_them(folder: Path) -> None:
    """One file of five pages is all that the plan can cost; the run has an answer for each ID, and its bill is one."""
    planned = command("plan", "v2.toml", *INPUT, "--run-dir", "run", folder=folder, status=0).stdout
    assert "cost        at most 5 credits, $0.01, 5 pages" in planned
    assert "2 parse jobs among them count as free" in planned
    done = command("resume", "run", "--max-credits", "5", "--json", folder=folder, status=0)
    assert json.loads(done.stdout.splitlines()[-1])["credits"] == {"reserved": 1, "billed": 1}
    lines = (folder / "run" / "results.jsonl").read_text().splitlines()
    assert {json.loads(line)["file_id"] for line in lines} == {"file-1", "pjb-1", "pjb-2"}
    command("verify", "run", folder=folder, status=0)


def test_reused_parse_jobs_are_not_counted(folder: Path) -> None:
    """Of a plan that reuses a run, only what is sent counts."""
    command("run", "v2.toml", *INPUT, "--run-dir", "first", folder=folder, status=0)
    (folder / "ids.txt").write_text("file-1\npjb-1\npjb-2\npjb-3\nfile-2\n")
    again = command("plan", "v2.toml", *INPUT, "--run-dir", "again", "--reuse", "first", folder=folder, status=0)
    assert "1 parse jobs among them" in again.stdout
    assert "cost        at most 5 credits" in again.stdout


def test_single_jobs_on_v1_refuse_parse_jobs(folder: Path) -> None:
    """`jobs create`, by hand."""
    words = ("jobs", "create", "--rule", "invoice=has line items and a total", "--base-url", "http://127.0.0.1:9")
    done = command(*words, "--file-id", "pjb-1", folder=folder, status=2)
    assert "'pjb-1' is a parse job, and v1 of the API takes files only" in done.stderr
