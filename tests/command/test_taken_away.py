"""A run's directory or files are moved, removed or replaced while a process is at work on it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.command_line import PATIENCE_S, command, command_process, environment, sandbox, small_jobs_config
from tests.support.start_command import COMMAND, CommandProcess

pytestmark = pytest.mark.slow

FILES = 600


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder with a config, two inputs of as many files, and a server whose address is in `url`."""
    with sandbox("--job-duration-s", "0.1") as base_url:
        config = small_jobs_config(base_url, files_per_job=1, jobs_in_flight=20, accept_s=1)
        (tmp_path / "c.toml").write_text(config)
        for night in ("monday", "tuesday"):
            (tmp_path / f"{night}.txt").write_text("".join(f"{night}-{number}\n" for number in range(FILES)))
        (tmp_path / "url").write_text(base_url)
        yield tmp_path


def words(night: str = "monday") -> tuple[str, ...]:
    return ("run", "c.toml", "--input", f"{night}.txt", "--run-dir", "today", "--progress", "none")


def results(run: Path) -> int:
    path = run / "results.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


@contextmanager
def at_work(place: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that carries out the run `today`, and has its first answers."""
    pipe = subprocess.PIPE
    started = [*COMMAND, *words()]
    with CommandProcess(started, stdout=pipe, stderr=pipe, text=True, cwd=place, env=environment()) as process:
        try:
            deadline = time.monotonic() + PATIENCE_S
            while results(place / "today") < 20:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield process
        finally:
            process.kill()


def files_paid(place: Path) -> tuple[int, list[str]]:
    """How many files were paid, and which of them more than once."""
    stats = httpx.get((place / "url").read_text() + "/sandbox/stats").json()
    return stats["files_billed"], stats["files_billed_more_than_once"]


def test_a_removed_lock_lets_two_processes_pay_nothing_twice(place: Path) -> None:
    """Somebody took `lock` for a stale one: the first process ends before it sends what the second one may send."""
    with at_work(place) as first:
        (place / "today" / "lock").unlink()
        command_process(*words(), folder=place, status=0)
        _, said = first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 75
    assert "today/lock was moved, removed or replaced while the run was on" in said
    command("verify", "today", folder=place, status=0)
    assert files_paid(place) == (FILES, [])


def test_a_run_that_is_moved_leaves_the_next_night_alone(place: Path) -> None:
    """The directory was moved, and its name given to another run: each keeps its files, and the first goes on at its
    new place."""
    with at_work(place) as first:
        (place / "today").rename(place / "yesterday")
        command_process(*words("tuesday"), folder=place, status=0)
        first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 75
    command("verify", "today", folder=place, status=0)
    assert results(place / "yesterday") < FILES
    command("resume", "yesterday", folder=place, status=0)
    command("verify", "yesterday", folder=place, status=0)
    assert files_paid(place) == (2 * FILES, [])


@pytest.mark.parametrize("name", ["results.jsonl", "journal.jsonl"])
def test_a_removed_log_ends_the_run_before_more_is_paid(place: Path, name: str) -> None:
    """What is appended to it is lost: no further job is made, and nothing calls the run complete."""
    with at_work(place) as process:
        (place / "today" / name).unlink()
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 75
    assert f"today/{name} was moved, removed or replaced while the run was on" in said
    assert files_paid(place)[0] < FILES
    assert "committed" in command(*words(), folder=place, status=2).stderr or name == "journal.jsonl"
