"""`cancel` from the command line and from Python: real processes, a real server."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from classify_batch import ExitStatus, UsageError, cancel
from classify_batch.store.holder import read_holder
from tests.support.command_line import (
    asked,
    command,
    contents,
    environment,
    read_status,
    sandbox,
    small_jobs_config,
    until,
)
from tests.support.start_command import COMMAND, CommandProcess

WAIT_S = 120.0
FILES = 200
"""So many that no run is complete before a busy machine comes to cancelling it."""


@pytest.fixture(params=["v1", "v2"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(version: str) -> Iterator[str]:
    # v1's jobs end within `drain_s`; v2's are still in flight when a busy machine comes to cancelling them.
    with sandbox("--job-duration-s", "0.7" if version == "v1" else "1.5") as base_url:
        yield base_url


@pytest.fixture
def work(tmp_path: Path, server: str, version: str) -> Path:
    config = small_jobs_config(server, version=version, files_per_job=2, jobs_in_flight=6, settle_s=0.5, drain_s=2)
    (tmp_path / "config.toml").write_text(config)
    (tmp_path / "ids.txt").write_text("".join(f"file-{n}\n" for n in range(FILES)))
    return tmp_path


def run_words(work: Path) -> tuple[object, ...]:
    return ("run", work / "config.toml", "--input", work / "ids.txt", "--run-dir", work / "run")


@contextmanager
def running(work: Path) -> Iterator[subprocess.Popen[str]]:
    """A run in a process of its own, in the middle of its jobs."""
    journal = work / "run" / "journal.jsonl"
    with CommandProcess(
        [*COMMAND, *map(str, run_words(work))], stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        until(lambda: journal.exists() and b'"collected"' in journal.read_bytes())
        yield process


def goes_on_well(work: Path) -> None:
    done = command(*run_words(work), "--jobs-in-flight", "100", "--requests-per-s", "1000", "--json")
    assert done.returncode == 0, done.stderr
    manifest = json.loads(done.stdout.splitlines()[-1])
    assert (sum(manifest["counts"].values()), manifest["counts"]["failed"]) == (FILES, 0)
    assert "cancel" not in manifest
    assert "cancel" not in read_status(work / "run")
    assert command("verify", work / "run").returncode == 0


def test_cancel_asks_the_process_that_runs_the_run(work: Path, version: str) -> None:
    """That ends with 77, and so does the command; v2's jobs are cancelled, v1's collected; the same command goes on."""
    run_dir = work / "run"
    with running(work) as process:
        done = command("cancel", run_dir, "--json")
        _, said = process.communicate(timeout=WAIT_S)
    assert (done.returncode, process.returncode) == (77, 77), done.stderr + said
    assert f"process {process.pid} on" in done.stderr
    assert f"next: classify-batch resume {run_dir}\n" in done.stderr
    assert "cancelled" in said
    assert ("v1 of the API can't cancel a job" in said) == (version == "v1")
    manifest = json.loads(done.stdout.splitlines()[-1])
    assert (manifest["state"], manifest["cancel"], manifest["exit_status"]) == ("incomplete", "done", 77)
    assert 0 < sum(manifest["counts"].values()) < FILES
    assert read_status(run_dir)["cancel"] == "done"
    assert "state       incomplete: cancelled" in command("status", run_dir).stdout
    assert not (run_dir / "cancel.json").exists()
    assert command("verify", run_dir).returncode == 75
    statuses = [line for line in (run_dir / "journal.jsonl").read_text().splitlines() if '"CANCELLED"' in line]
    assert bool(statuses) == (version == "v2")
    goes_on_well(work)


def test_cancel_takes_over_a_run_that_was_killed(work: Path) -> None:
    """Nobody runs it: the command does it by itself, twice if need be; `resume` goes on."""
    run_dir = work / "run"
    with running(work) as process:
        process.kill()
        process.wait()
    for _ in range(2):
        done = command("cancel", run_dir)
        assert done.returncode == 77, done.stderr
        assert "state       incomplete: cancelled" in done.stderr
        assert read_status(run_dir)["cancel"] == "done"
    assert command("resume", run_dir).returncode == 0
    goes_on_well(work)


def intents_in(journal: Path) -> int:
    """How many creates were begun, as far as whole lines say."""
    lines = map(json.loads, journal.read_bytes().split(b"\n")[:-1])
    return sum(len(line["items"]) for line in lines if line["kind"] == "submitting")


def test_a_cancel_whose_process_was_killed_is_carried_out_by_the_next(work: Path, server: str) -> None:
    """`status` says so meanwhile; `resume` finishes it, creates nothing and ends with 77.

    Creates may be on their way when the process is killed: their jobs are found, and cancelled with the others. So what
    tells is how many creates were begun, and how many the server was asked for.
    """
    run_dir = work / "run"
    with running(work) as process:
        (run_dir / "cancel.json").write_text("{}")
        until(lambda: not [*run_dir.glob("cancel*.json")])
        process.send_signal(signal.SIGKILL)
        process.wait()
    begun = intents_in(run_dir / "journal.jsonl")
    if read_status(run_dir).get("cancel") == "asked":
        assert "its process ended before that was finished" in command("status", run_dir).stdout
        resumed = command("resume", run_dir)
        assert resumed.returncode == 77
        assert "that isn't finished" in resumed.stderr
    assert intents_in(run_dir / "journal.jsonl") == begun
    assert sum(asked(server)["requests"]["create"].values()) <= begun
    goes_on_well(work)


def test_a_complete_run_has_nothing_to_cancel(work: Path) -> None:
    """Nothing is left to cancel: nothing is written, and the status stays the run's."""
    assert command(*run_words(work)).returncode == 0
    before = contents(work / "run")
    done = command("cancel", work / "run", environ={"LLAMA_CLOUD_API_KEY": None})
    assert done.returncode == 0, done.stderr
    assert "complete already" in done.stderr
    assert contents(work / "run") == before


def test_cancel_refuses_a_directory_without_a_run(tmp_path: Path) -> None:
    """Status 2, and no file is left behind."""
    done = command("cancel", tmp_path)
    assert (done.returncode, "holds no run" in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words", [("cancel",), ("tune", "--pause"), ("status",), ("verify",), ("export",)], ids=" ".join
)
@pytest.mark.parametrize("shards", [(), ("--shards", "2")], ids=["whole", "shards"])
def test_a_process_that_is_just_planning_is_named(
    tmp_path: Path, words: tuple[str, ...], shards: tuple[str, ...]
) -> None:
    """75: there is a run in a moment, and jobs; "no run" would be the end of it for whoever asked."""
    (tmp_path / "config.toml").write_text(small_jobs_config("sandbox"))
    run_dir, slow = tmp_path / "run", tmp_path / "ids"
    os.mkfifo(slow)
    start = ["run", str(tmp_path / "config.toml"), "--input", str(slow), "--run-dir", str(run_dir), *shards]
    with CommandProcess([*COMMAND, *start], stderr=subprocess.PIPE, text=True, env=environment()) as process:
        with slow.open("w") as ids:
            ids.write("file-1\n")
            ids.flush()
            until(lambda: run_dir.exists() and read_holder(run_dir) is not None, process)
            done = command(*words, run_dir, *([tmp_path / "answers.csv"] if words == ("export",) else []))
        process.communicate(timeout=WAIT_S)
    assert done.returncode == 75, done.stderr
    assert f"process {process.pid} on" in done.stderr
    assert "is just planning the run" in done.stderr
    assert "hint: give the same command later" in done.stderr
    assert (process.returncode, read_holder(run_dir)) == (0, None)


def test_a_process_that_does_not_answer_is_named(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """75, with the process's name; nothing is left that would be obeyed later."""
    monkeypatch.setattr("classify_batch.operations.cancel.TIMEOUT_S", 1.0)
    run_dir = work / "run"
    with running(work) as process:
        process.send_signal(signal.SIGSTOP)
        done = command("cancel", run_dir)
        process.send_signal(signal.SIGCONT)
        assert done.returncode == 75, done.stderr
        assert f"process {process.pid} on" in done.stderr
        assert "hint:" in done.stderr
        assert not (run_dir / "cancel.json").exists()
        process.communicate(timeout=WAIT_S)
    assert process.returncode == 0


def test_an_interrupted_cancel_is_not_obeyed_later(work: Path) -> None:
    """75; the process that had not answered yet finds no request when it goes on, and completes the run."""
    request = work / "run" / "cancel.json"
    with running(work) as process:
        process.send_signal(signal.SIGSTOP)
        words = [*COMMAND, "cancel", str(work / "run")]
        with CommandProcess(words, stderr=subprocess.PIPE, text=True, env=environment()) as asking:
            until(request.exists)
            asking.send_signal(signal.SIGTERM)
            _, said = asking.communicate(timeout=WAIT_S)
        is_left = request.exists()
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=WAIT_S)
    assert (asking.returncode, "interrupted by SIGTERM" in said) == (75, True), said
    assert (is_left, process.returncode) == (False, 0)


def test_a_cancel_that_is_interrupted_when_it_was_obeyed_says_so(work: Path) -> None:
    """The process has written down that the run is cancelled, and the command hasn't seen it yet: a signal ends the
    command with words that are true."""
    manifest, request = work / "run" / "manifest.json", work / "run" / "cancel.json"
    with running(work) as process:
        words = [*COMMAND, "cancel", str(work / "run")]
        with CommandProcess(words, stderr=subprocess.PIPE, text=True, env=environment()) as asking:
            until(request.exists)
            asking.send_signal(signal.SIGSTOP)
            until(lambda: '"cancel": ' in manifest.read_text())
            process.send_signal(signal.SIGSTOP)
            asking.send_signal(signal.SIGTERM)
            asking.send_signal(signal.SIGCONT)
            _, said = asking.communicate(timeout=WAIT_S)
        is_left = request.exists()
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=WAIT_S)
    assert (is_left, process.returncode) == (False, 77)
    if asking.returncode != 77:  # the run had ended before it was stopped
        assert asking.returncode == 75
        assert f"interrupted by SIGTERM; the run is cancelled all the same, by process {process.pid}" in said
        assert "status" in said.split("hint: ")[1]
    goes_on_well(work)


def test_a_process_that_the_lock_does_not_name_is_another_one(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It just begins or ends, or its words don't show on this machine yet: no "process 0 on " of no host."""
    monkeypatch.setattr("classify_batch.operations.cancel.TIMEOUT_S", 0.2)
    command("plan", *run_words(work)[1:], status=0)
    with (work / "run" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "error: another process did not answer" in command("cancel", work / "run", status=75).stderr
        assert "held by     another process\n" in command("status", work / "run", status=0).stdout


def test_a_request_for_an_earlier_process_is_forgotten(work: Path) -> None:
    """A `cancel` that was killed before anybody answered cancels nothing later."""
    assert command("plan", *run_words(work)[1:]).returncode == 0
    (work / "run" / "cancel.json").write_text("{}")
    goes_on_well(work)
    assert not (work / "run" / "cancel.json").exists()


def test_python_cancels_as_the_command_does(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`cancel` returns how the run has ended; inside a loop it names `acancel`."""
    monkeypatch.setenv("LLAMA_CLOUD_API_KEY", environment()["LLAMA_CLOUD_API_KEY"])
    with running(work) as process:
        result = cancel(work / "run")
        process.communicate(timeout=WAIT_S)
    assert (result.state, result.exit_status, result.reason) == ("incomplete", ExitStatus.PERSON, "cancelled")
    assert "resume" in result.hint
    assert cancel(work / "run").exit_status == ExitStatus.PERSON

    async def inside_a_loop() -> None:
        with pytest.raises(UsageError, match="running event loop"):
            cancel(work / "run")

    anyio.run(inside_a_loop)
    goes_on_well(work)
