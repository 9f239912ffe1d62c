"""A machine whose clock can't be right: an empty battery, a bit that flipped."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command_line import KEY, command, environment
from tests.support.start_command import COMMAND, CommandProcess

SECONDS_TO_9999 = 253_370_764_800
SECONDS_TO_BEFORE_1970 = -4_000_000_000

RUN = ("run", "c.toml", "--input", "ids.txt", "--run-dir", "run")
WRITING = [
    RUN,
    (*RUN, "--deadline", "06:00"),
    (*RUN, "--shards", "2"),
    (*RUN, "--log-format", "json"),
    ("plan", "c.toml", "--input", "ids.txt", "--run-dir", "run"),
    ("resume", "older"),
    ("report", "older", "--output", "report.html"),
    ("check", "c.toml", "--input", "ids.txt"),
    ("sandbox",),
]
"""They write times down, or ask the API by the time."""
READING = [("status", "older"), ("verify", "older"), ("tune", "older")]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "ids.txt").write_text("".join(f"{number:032x}\n" for number in range(3)))
    command("init", "c.toml", "--base-url", "sandbox", "--rule", "invoice=has a total", folder=tmp_path, status=0)
    command("plan", "c.toml", "--input", "ids.txt", "--run-dir", "older", folder=tmp_path, status=0)
    return tmp_path


def under_clock(place: Path, clock: Callable[[], float], *words: str) -> subprocess.CompletedProcess[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", clock)
        return command(*words, folder=place)


@pytest.mark.parametrize("ahead_s", [SECONDS_TO_9999, SECONDS_TO_BEFORE_1970])
@pytest.mark.parametrize("words", WRITING, ids=" ".join)
def test_a_clock_that_can_not_be_right_is_said(place: Path, words: tuple[str, ...], ahead_s: float) -> None:
    """After the year 9998 and before 1970: 75 and words about the clock, no traceback, and nothing of a new run is left
    behind."""
    now_s = time.time()
    done = under_clock(place, lambda: now_s + ahead_s, *words)
    assert done.returncode == 75, done.stderr
    assert "error: the clock of this machine can't be right: it says " in done.stderr
    assert "hint: set the clock" in done.stderr
    assert not (place / "run" / "run.json").exists()


@pytest.mark.parametrize("ahead_s", [SECONDS_TO_9999, SECONDS_TO_BEFORE_1970])
@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_who_writes_no_time_needs_none(place: Path, words: tuple[str, ...], ahead_s: float) -> None:
    """Commands that only read end as ever."""
    now_s = time.time()
    done = under_clock(place, lambda: now_s + ahead_s, *words)
    assert done.returncode == command(*words, folder=place).returncode, done.stderr


def test_a_clock_that_begins_with_1970_is_good_enough(place: Path) -> None:
    """As that of a machine without a battery does."""
    began_s = time.monotonic()
    done = under_clock(place, lambda: time.monotonic() - began_s, *RUN, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["started_at"].startswith("1970-01-01T00:0")


def test_a_clock_that_jumps_ahead_ends_a_run(place: Path) -> None:
    """While the run is on: it ends with 75 and those words, and goes on when the clock is right again."""
    now, journal = time.time, place / "run" / "journal.jsonl"
    arguments = [*COMMAND, "sandbox", "--api-key", KEY]  # a process of its own: its clock is right

    def jump_once_there_is_a_job() -> float:
        began = journal.exists() and b'"submitted"' in journal.read_bytes()
        return now() + SECONDS_TO_9999 * began

    with CommandProcess(arguments, stdout=subprocess.PIPE, text=True, env=environment()) as server:
        try:
            assert server.stdout is not None
            url, config = server.stdout.readline().strip(), place / "c.toml"
            config.write_text(config.read_text().replace('"sandbox"', f'"{url}"'))
            done = under_clock(place, jump_once_there_is_a_job, *RUN)
            assert done.returncode == 75, done.stderr
            assert "the clock of this machine can't be right" in done.stderr
            command(*RUN, folder=place, status=0)
        finally:
            server.kill()
    command("verify", "run", folder=place, status=0)
