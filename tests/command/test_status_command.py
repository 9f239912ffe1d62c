"""`status` and `events.jsonl` after real runs against a real server, and while they are on."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from classify_batch.cli.status import LINE_EVERY_S
from tests.support.command_line import (
    PATIENCE_S,
    command,
    environment,
    on_a_terminal,
    read_status,
    sandbox,
    small_jobs_config,
    until,
)
from tests.support.start_command import COMMAND, CommandProcess


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    with sandbox("--job-duration-s", "0.2") as url:
        (tmp_path / "config.toml").write_text(small_jobs_config(url))
        (tmp_path / "ids.txt").write_text("".join(f"file-{n}\n" for n in range(200)))
        yield tmp_path


def run_words(work: Path, run_dir: Path, *options: str) -> list[str]:
    words = ("run", work / "config.toml", "--input", work / "ids.txt", "--run-dir", run_dir, *options)
    return [*map(str, words)]


def events_of(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]


def started(work: Path, run_dir: Path) -> subprocess.Popen[str]:
    """A run in a process of its own, which has collected something."""
    process = CommandProcess(
        [*COMMAND, *run_words(work, run_dir)], stderr=subprocess.DEVNULL, text=True, env=environment()
    )
    journal = run_dir / "journal.jsonl"
    until(lambda: journal.exists() and b'"collected"' in journal.read_bytes(), process)
    return process


@contextmanager
def watching(process: subprocess.Popen[str], run_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """`status --watch` in a pipe, which has shown a run whose process is on, and stands still from here on."""
    process.send_signal(signal.SIGSTOP)
    words = [*COMMAND, "status", str(run_dir), "--watch"]
    try:
        with CommandProcess(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watched:
            assert watched.stdout is not None
            first = watched.stdout.readline()
            assert first.startswith("running, ")
            assert first.endswith(" left\n")
            yield watched
    finally:
        process.send_signal(signal.SIGCONT)


def test_status_says_what_happened_and_what_to_do(work: Path) -> None:
    """After a stop and an end: both processes, the exit status and its meaning, times, limits, the next command; the
    same keys stand in manifest.json."""
    run_dir = work / "run"
    with started(work, run_dir) as process:
        process.terminate()
    assert process.returncode == 75
    stopped = command("status", run_dir).stdout
    assert "exit        75: incomplete; the same command goes on" in stopped
    assert shlex.split(stopped.splitlines()[-1])[1:] == ["classify-batch", "resume", str(run_dir)]
    command("resume", run_dir, status=0)
    told, text = read_status(run_dir), command("status", run_dir).stdout
    manifest = json.loads((run_dir / "manifest.json").read_text())
    assert {name: told[name] for name in manifest} == manifest
    assert [start["exit_status"] for start in told["starts"]] == [75, 0]
    assert [start["done"] for start in told["starts"]] == [0, told["starts"][1]["done"]] != [0, 0]
    assert told["job_s"]["p50"] <= told["job_s"]["p95"] <= told["job_s"]["p99"]
    assert told["waiting_s"]["count"] > 0
    assert f"started     {told['starts'][0]['started_at']}\n" in text
    assert f"stopped     {told['stopped_at']}\n" in text
    assert "exit        0: complete; failures within the tolerance" in text
    assert "jobs_in_flight 2" in text
    assert text.endswith(f"next: classify-batch verify {run_dir}\n")


def test_a_killed_process_is_named_and_the_run_goes_on(work: Path) -> None:
    """SIGKILL leaves no words: status says so, and its next command, pasted into a shell, completes the run."""
    run_dir = work / "a run's $HOME; & directory"
    with started(work, run_dir) as process:
        process.kill()
        process.wait()
    status = read_status(run_dir)
    assert (status["state"], status["exit_status"], status["starts"][-1]["stopped_at"]) == ("incomplete", None, None)
    assert "ended without a word" in status["hint"]
    words = status["next"].removeprefix("classify-batch ")
    pasted = f"{shlex.join(COMMAND)} {words}"
    done = subprocess.run(["sh", "-c", pasted], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [each["event"] for each in events_of(run_dir) if each["event"] in ("started", "stopped")] == [
        "started",
        "started",
        "stopped",
    ]


def test_time_left_and_pause_are_shown_while_a_run_is_on(work: Path) -> None:
    """A pace gives an estimate; a pause is among the limits in force, and ends the estimate."""
    run_dir = work / "run"
    (work / "ids.txt").write_text("".join(f"file-{n}\n" for n in range(3000)))
    with started(work, run_dir) as process:
        status = read_status(run_dir)
        assert 0 < status["time_left_s"] < 600
        assert status["next"] == f"classify-batch status {run_dir} --watch"
        command("tune", run_dir, "--pause", "--jobs-in-flight", "3", status=0)
        status = read_status(run_dir)
        assert (status["limits"]["paused"], status["limits"]["jobs_in_flight"]) == (True, 3)
        assert status["time_left_s"] is None
        assert "limits      paused" in command("status", run_dir).stdout
        process.kill()


def test_watch_ends_by_itself_plain_and_quiet_in_a_pipe(work: Path) -> None:
    """In a pipe: no escape code, hardly a line while nothing changes, the whole status at the end."""
    run_dir = work / "run"
    with started(work, run_dir) as process, watching(process, run_dir) as watched:
        begun_s = time.monotonic()
        process.send_signal(signal.SIGCONT)
        rest, _ = watched.communicate(timeout=PATIENCE_S)
        took_s = time.monotonic() - begun_s
        assert (process.wait(), watched.returncode) == (0, 0)
    assert "\x1b" not in rest
    running = [line for line in rest.splitlines() if line.startswith("running, ")]
    assert rest.splitlines()[len(running)] == "state       complete"
    assert len(running) <= took_s / LINE_EVERY_S + 1
    assert json.loads(command("status", run_dir, "--watch", "--json").stdout)["state"] == "complete"
    assert "next: classify-batch verify" in on_a_terminal("status", str(run_dir), "--watch")


def test_who_stops_watching_stops_nothing_else(work: Path) -> None:
    """Ctrl-C ends the look at the run, which goes on; that is no error."""
    run_dir = work / "run"
    with started(work, run_dir) as process, watching(process, run_dir) as watched:
        watched.send_signal(signal.SIGINT)
        assert watched.communicate(timeout=PATIENCE_S)[1].strip() == "stopped watching; the run goes on"
        assert watched.returncode == 75
        process.send_signal(signal.SIGCONT)
        assert process.wait() == 0


def test_exit_1_names_the_tolerance_and_what_is_worth_a_retry(tmp_path: Path) -> None:
    """The shares agree with each other, and the next command retries, where a retry may help."""
    with sandbox("--fault", "error=1") as url:
        (tmp_path / "config.toml").write_text(small_jobs_config(url))
        (tmp_path / "ids.txt").write_text("".join(f"file-{n}\n" for n in range(30)))
        run_dir = tmp_path / "run"
        done = command(*run_words(tmp_path, run_dir, "--tolerated-failure-percentage", "0.5"), status=1)
    status, text = read_status(run_dir), command("status", run_dir).stdout
    failed = status["counts"]["failed"]
    assert f"{failed} of 30 files failed" in status["hint"]
    assert "0.5 % are tolerated" in status["hint"]
    assert f"hint: {status['hint']}" in done.stderr
    assert f"hint: {status['hint']}" in text
    assert sum(each["files"] for each in status["failure_messages"]) == failed == status["failures_read"]
    assert len(status["failure_messages"]) < failed
    assert status["next"].endswith("--retry-failed") == (status["failures_worth_a_retry"] > 0)
    assert sum(each["files"] for each in events_of(run_dir) if each["event"] == "files_failed") == failed


def test_a_complete_run_started_again_writes_no_events(work: Path) -> None:
    """Who only asks leaves no trace; the file is for its owner only."""
    run_dir = work / "run"
    command(*run_words(work, run_dir), status=0)
    before = (run_dir / "events.jsonl").read_bytes()
    command(*run_words(work, run_dir), status=0)
    assert (run_dir / "events.jsonl").read_bytes() == before
    assert (run_dir / "events.jsonl").stat().st_mode & 0o777 == 0o600


SECRETS = ('webhook_headers = { Authorization = "Bearer s3cr3t" }', 'webhook_signing_secret = "s3cr3t"')


@pytest.mark.parametrize("secret", SECRETS, ids=["headers", "signing"])
def test_the_next_command_names_the_config_that_has_the_secrets(secret: str, work: Path) -> None:
    """Where webhooks have secrets, a resume needs the config: `next` has its path, and works when it is pasted."""
    config, run_dir = work / "my config.toml", work / "run"
    text = (work / "config.toml").read_text()
    hook = f'[[job.webhook_configurations]]\nwebhook_url = "https://hooks.example.com/x"\n{secret}\n'
    config.write_text(text.replace("[api]", f"{hook}[api]"))
    (work / "config.toml").write_text(config.read_text())
    call = [*run_words(work, run_dir, "--max-runtime", "0.5s")]
    call[call.index(str(work / "config.toml"))] = "my config.toml"
    assert command(*call, folder=work).returncode == 75
    status = read_status(run_dir)
    words = shlex.split(status["next"])
    assert words == ["classify-batch", "resume", str(run_dir), "--config", str(config)]
    assert json.loads((run_dir / "manifest.json").read_text())["next"] == status["next"]
    assert "CONFIG" not in (status["hint"] or "")
    command("report", run_dir, status=0)
    assert "--config" in (run_dir / "report.html").read_text()
    assert "s3cr3t" not in (run_dir / "manifest.json").read_text()
    command(*words[1:], status=0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to somebody else")
def test_the_next_command_trusts_what_was_trusted_before(work: Path) -> None:
    """A directory that is refused without trust, with a run of one's own in it: `next` says so again. Whoever has no
    run there is not advised to trust it."""
    run_dir = work / "shared"
    run_dir.mkdir()
    os.chown(run_dir, 12345, 12345)
    run_dir.chmod(0o777)
    assert command(*run_words(work, run_dir, "--trust-run-dir", "--max-runtime", "0.5s")).returncode == 75
    status = read_status(run_dir)
    assert status["next"] == f"classify-batch resume {run_dir} --trust-run-dir"
    assert json.loads((run_dir / "manifest.json").read_text())["next"] == status["next"]
    os.chown(run_dir / "run.json", 12345, 12345)
    assert "--trust-run-dir" not in read_status(run_dir)["next"]
    os.chown(run_dir / "run.json", 0, 0)
    command(*shlex.split(status["next"])[1:], status=0)
