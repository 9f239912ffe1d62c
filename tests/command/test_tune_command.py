"""`tune` and `--submit-only` from the command line: real processes, a real server."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import command, environment, read_status, sandbox, until
from tests.support.start_command import COMMAND, CommandProcess

CONFIG = """
[job]
rules = [{{ type = "invoice", description = "has line items and a total" }}]

[api]
base_url = "{url}"

[plan]
files_per_job = 2

[limits]
jobs_in_flight = 2
requests_per_s = 500
"""
WAIT_S = 120.0


@pytest.fixture
def server() -> Iterator[str]:
    with sandbox("--job-duration-s", "0.3") as base_url:
        yield base_url


@pytest.fixture
def work(tmp_path: Path, server: str) -> Path:
    (tmp_path / "config.toml").write_text(CONFIG.format(url=server))
    (tmp_path / "ids.txt").write_text("".join(f"file-{n}\n" for n in range(400)))
    return tmp_path


def test_tune_changes_the_limits_of_a_running_run(work: Path) -> None:
    """Pause, and it makes no more jobs; faster, and it is done."""
    run_dir = work / "run"
    words = ("run", work / "config.toml", "--input", work / "ids.txt", "--run-dir", run_dir)
    with CommandProcess([*COMMAND, *map(str, words)], stderr=subprocess.PIPE, text=True, env=environment()) as process:
        until(
            lambda: (run_dir / "journal.jsonl").exists() and b'"collected"' in (run_dir / "journal.jsonl").read_bytes()
        )
        paused = command("tune", run_dir, "--pause")
        assert (paused.returncode, paused.stderr) == (0, "limits changed: paused = True\n")
        until(lambda: sum(read_status(run_dir)["counts"].values()) == 2 * read_status(run_dir)["jobs"])
        jobs = read_status(run_dir)["jobs"]
        assert jobs < 200
        other = command("tune", run_dir, "--jobs-in-flight", "50", "--requests-per-s", "1000")
        assert other.returncode == 0, other.stderr
        assert read_status(run_dir)["jobs"] == jobs
        assert command("tune", run_dir, "--resume").returncode == 0
        _, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, said
    assert "limits changed: jobs_in_flight = 50, requests_per_s = 1000.0" in said
    tuned = [line for line in (run_dir / "journal.jsonl").read_text().splitlines() if '"kind":"tuned"' in line]
    assert [json.loads(line)["limits"] for line in tuned] == [
        {"paused": True},
        {"jobs_in_flight": 50, "requests_per_s": 1000.0},
        {"paused": False},
    ]
    assert command("verify", run_dir).returncode == 0
    assert not (run_dir / "tune.json").exists()


def test_limits_of_an_interrupted_tune_are_not_applied_later(work: Path) -> None:
    """75; the process that had not answered yet goes on with its limits, and another `tune` needn't wait."""
    run_dir = work / "run"
    words = ("run", work / "config.toml", "--input", work / "ids.txt", "--run-dir", run_dir)
    journal = run_dir / "journal.jsonl"
    with CommandProcess([*COMMAND, *map(str, words)], stderr=subprocess.PIPE, text=True, env=environment()) as process:
        until(lambda: journal.exists() and b'"collected"' in journal.read_bytes())
        process.send_signal(signal.SIGSTOP)
        tune = [*COMMAND, "tune", str(run_dir), "--pause"]
        with CommandProcess(tune, stderr=subprocess.PIPE, text=True, env=environment()) as asking:
            until((run_dir / "tune.json").exists)
            asking.send_signal(signal.SIGTERM)
            _, said = asking.communicate(timeout=WAIT_S)
        is_left = (run_dir / "tune.json").exists()
        process.send_signal(signal.SIGCONT)
        faster = command("tune", run_dir, "--resume", "--jobs-in-flight", "50", "--requests-per-s", "1000")
        process.communicate(timeout=WAIT_S)
    assert (asking.returncode, "interrupted by SIGTERM\n" in said) == (75, True), said
    assert (is_left, faster.returncode) == (False, 0)
    assert (process.returncode, '"paused":true' in journal.read_text()) == (0, False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Nothing to change"),
        (("--jobs-in-flight", "-1"), "jobs_in_flight"),
        (("--requests-per-s", "-1"), "requests_per_s"),
        (("--pause",), "no process is at work on this run"),
    ],
)
def test_bad_limits_are_refused_and_leave_no_file(work: Path, words: tuple[str, ...], said: str) -> None:
    """Out of range, nothing at all, or to nobody: status 2, and no file is left behind."""
    planned = command("plan", work / "config.toml", "--input", work / "ids.txt", "--run-dir", work / "run")
    assert planned.returncode == 0
    done = command("tune", work / "run", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "hint:" in done.stderr
    assert not list((work / "run").glob("tune.json*"))


def test_tune_refuses_a_directory_without_a_run(tmp_path: Path) -> None:
    """A directory without a run."""
    done = command("tune", tmp_path, "--pause")
    assert (done.returncode, "holds no run" in done.stderr) == (2, True)


def test_submit_only_creates_jobs_that_resume_collects(work: Path) -> None:
    """All jobs, status 75, and whoever comes later collects without a create."""
    run_dir = work / "run"
    words = ("--submit-only", "--jobs-in-flight", "0", "--json")
    done = command("run", work / "config.toml", "--input", work / "ids.txt", "--run-dir", run_dir, *words)
    assert done.returncode == 75, done.stderr
    assert "200 jobs are in flight" in done.stderr
    assert f"classify-batch resume {run_dir}" in done.stderr
    manifest = json.loads(done.stdout.splitlines()[-1])
    assert (manifest["state"], manifest["jobs"], sum(manifest["counts"].values())) == ("incomplete", 200, 0)
    assert command("verify", run_dir).returncode == 75
    later = command("resume", run_dir, "--json")
    assert later.returncode == 0, later.stderr
    assert json.loads(later.stdout.splitlines()[-1])["jobs"] == 200
    assert command("verify", run_dir).returncode == 0


def test_resume_submit_only_creates_jobs_and_collects_none(work: Path) -> None:
    """As on `run`: as many jobs as may be in flight, those of earlier commands among them, and no outcome."""
    run_dir = work / "run"
    assert command("plan", work / "config.toml", "--input", work / "ids.txt", "--run-dir", run_dir).returncode == 0
    jobs = []
    for jobs_in_flight in ("5", "5", "0"):
        words = ("--submit-only", "--jobs-in-flight", jobs_in_flight, "--json")
        done = command("resume", run_dir, *words)
        assert done.returncode == 75, done.stderr
        assert done.stderr.endswith(f"next: classify-batch resume {run_dir}\n")
        manifest = json.loads(done.stdout.splitlines()[-1])
        assert (manifest["state"], sum(manifest["counts"].values())) == ("incomplete", 0)
        jobs.append(manifest["jobs"])
    assert jobs == [5, 5, 200]
    later = command("resume", run_dir, "--json")
    assert later.returncode == 0, later.stderr
    assert json.loads(later.stdout.splitlines()[-1])["jobs"] == 200


@pytest.mark.parametrize("verb", ["run", "resume"])
def test_an_interrupted_submit_only_names_submit_only_as_next_command(work: Path, verb: str) -> None:
    """Whoever wanted jobs and no answers isn't led to a command that collects before all jobs are made."""
    run_dir = work / "run"
    arguments = (work / "config.toml", "--input", work / "ids.txt", "--run-dir", run_dir)
    if verb == "resume":
        assert command("plan", *arguments).returncode == 0
    words = ("--submit-only", "--jobs-in-flight", "4", "--requests-per-s", "1", "--max-runtime", "1s")
    done = command(verb, *(arguments if verb == "run" else (run_dir,)), *words)
    assert done.returncode == 75, done.stderr
    assert "the time that was given is over" in done.stderr
    assert done.stderr.endswith(f"next: classify-batch resume {run_dir} --submit-only\n")


def test_limits_for_an_earlier_process_are_forgotten(work: Path) -> None:
    """Is forgotten by the next one."""
    run_dir = work / "run"
    arguments = ("run", work / "config.toml", "--input", work / "ids.txt", "--run-dir", run_dir)
    assert command("plan", *arguments[1:]).returncode == 0
    (run_dir / "tune.json").write_text('{"paused": true}')
    done = command(*arguments, "--jobs-in-flight", "50")
    assert done.returncode == 0, done.stderr
    assert not (run_dir / "tune.json").exists()
    assert '"kind":"tuned"' not in (run_dir / "journal.jsonl").read_text()


def test_max_credits_is_refused_for_a_run_of_an_older_version(work: Path) -> None:
    """Its first jobs were not counted: a bound that can't be held is refused, and without one it goes on."""
    run_dir = work / "run"
    arguments = ("run", work / "config.toml", "--input", work / "ids.txt", "--run-dir", run_dir)
    assert command("plan", *arguments[1:]).returncode == 0
    run = json.loads((run_dir / "run.json").read_text())
    run["identity"] = {key: value for key, value in run["identity"].items() if key != "escalation"}
    (run_dir / "run.json").write_text(json.dumps(run))
    refused = command(*arguments, "--max-credits", "9")
    assert refused.returncode == 2
    assert "counted no credits" in refused.stderr
    assert command(*arguments, "--jobs-in-flight", "50").returncode == 0
