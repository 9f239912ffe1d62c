"""Programs that fork while a run is on: in a callback, which the child leaves, or in which it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classify_batch import Progress, Settings, run, verify
from classify_batch.events import Event
from tests.support.command_line import PATIENCE_S, asked

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

RULES = [{"type": "invoice", "description": "has an invoice number and a total"}]
IDS = [f"file-{number}" for number in range(30)]
STAYS_S = 600


def settings_with(base_url: str) -> Settings:
    limits = {"requests_per_s": 500.0, "settle_s": 0.1}
    values: dict[str, Any] = {"api": {"base_url": base_url}, "job": {"rules": RULES}, "limits": limits}
    return Settings(**values, plan={"files_per_job": 1})


def leave() -> None:
    """The child goes on behind the callback."""


def fail() -> None:
    raise ValueError("of the child")


def exit_with_3() -> None:
    sys.exit(3)


class Forks:
    """A callback that forks when it is called for the first time, and lets the child do something."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act
        self.child = 0

    def __call__(self, _given: Progress | Event) -> None:
        if not self.child:
            self.child = os.fork()
            if not self.child:
                self._act()

    def status(self) -> int:
        """With what the child has ended; it is killed if it doesn't."""
        ends_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < ends_s:
            ended, status = os.waitpid(self.child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        os.kill(self.child, signal.SIGKILL)
        os.waitpid(self.child, 0)
        raise AssertionError("the child goes on for ever")


def refuse_harm(base_url: str, directory: Path) -> None:
    """Every file has one outcome, and no job was made by two."""
    assert verify(directory).errors == []
    assert asked(base_url)["creates_accepted"] == 30
    assert (directory / "lock").read_bytes() == b""


@pytest.mark.parametrize(("act", "status"), [(leave, 0), (fail, 1), (exit_with_3, 3)])
@pytest.mark.parametrize("callback", ["on_progress", "observer"])
def test_a_child_ends_behind_the_callback(
    server: str, tmp_path: Path, callback: str, act: Callable[[], None], status: int
) -> None:
    """It ends there, as a process ends that does the same; the run doesn't notice."""
    forks: Any = Forks(act)
    result = run(settings_with(server), IDS, tmp_path / "run", **{callback: forks})
    assert forks.status() == status
    assert result.state == "complete"
    refuse_harm(server, tmp_path / "run")


def test_an_asynchronous_callback_may_fork_too(server: str, tmp_path: Path) -> None:
    """Likewise."""
    forks = Forks(leave)

    async def call(progress: Progress) -> None:
        forks(progress)

    result = run(settings_with(server), IDS, tmp_path / "run", on_progress=call)
    assert (forks.status(), result.state) == (0, "complete")
    refuse_harm(server, tmp_path / "run")


def test_a_child_that_stays_holds_nothing(server: str, tmp_path: Path) -> None:
    """It works on its own inside of the callback for as long as it likes: the run ends, and can be taken up again."""
    forks = Forks(lambda: time.sleep(STAYS_S))
    try:
        result = run(settings_with(server), IDS, tmp_path / "run", on_progress=forks)
        assert result.state == "complete"
        assert os.waitpid(forks.child, os.WNOHANG) == (0, 0)
        refuse_harm(server, tmp_path / "run")
        assert run(settings_with(server), IDS, tmp_path / "run", retry_failed=True).state == "complete"
    finally:
        os.kill(forks.child, signal.SIGKILL)
        os.waitpid(forks.child, 0)


COMES_BACK = """
import asyncio, os, sys, time
from classify_batch import Settings, arun
from classify_batch.events import JobSubmitted

child = None

async def fork_and_await(event):
    global child
    if child is None and isinstance(event, JobSubmitted):
        child = os.fork()
    if child == 0:
        await asyncio.sleep(0)

async def main():
    settings = Settings(
        api={"base_url": sys.argv[1]}, job={"rules": [{"type": "invoice", "description": "has a total"}]},
        plan={"files_per_job": 1}, limits={"requests_per_s": 500.0, "settle_s": 0.1, "jobs_in_flight": 2})
    result = await arun(settings, [f"file-{number}" for number in range(30)], sys.argv[2], observer=fork_and_await)
    return result.state

try:
    state = asyncio.run(main())
    print(state if child else f"the child: {state}", flush=True)
finally:
    if child == 0:
        os._exit(1)
    os.kill(child, 9)
    os.waitpid(child, 0)
"""


def test_a_child_that_comes_to_the_event_loop_sends_and_writes_nothing(server: str, tmp_path: Path) -> None:
    """Its asynchronous callback awaits something, so that it goes on as the run itself: it is refused the journal and
    the connections, and its parent ends as ever."""
    script = [sys.executable, "-W", "ignore", "-c", COMES_BACK, server, str(tmp_path / "run")]
    done = subprocess.run(script, capture_output=True, text=True, timeout=2 * PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "complete\n"
    refuse_harm(server, tmp_path / "run")
