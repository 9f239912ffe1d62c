"""Signals to commands whose output nobody takes: a full pipe, a paused pager, a terminal after Ctrl-S."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.command_line import PATIENCE_S, environment, sandbox
from tests.support.leaving import EXIT_TIMEOUT_S, LeaveTimer
from tests.support.start_command import COMMAND

pytestmark = pytest.mark.slow

AT_ONCE_S = 2.0
IDLE_LOOKS = 40
CONFIG = """
[api]
base_url = "{base_url}"
[job]
rules = [{{ type = "invoice", description = "has line items and a total" }}]
[limits]
settle_s = 0.5
"""

COMMANDS = {
    "usage error": ("status",),
    "check": ("check", "c.toml", "--input", "ids.txt"),
    "jobs create": ("jobs", "create", "--config", "c.toml", "--input", "absent.txt"),
    "merge": ("merge", "absent", "--output", "merged"),
    "report": ("report", "absent"),
    "run": ("run", "c.toml", "--input", "ids.txt", "--run-dir", "run"),
    "run with many messages": ("run", "c.toml", "--input", "ids.txt", "--run-dir", "run", "--verbose"),
}


@pytest.fixture(scope="module")
def quick() -> Iterator[str]:
    """A sandbox whose jobs end soon."""
    with sandbox() as base_url:
        yield base_url


@pytest.fixture
def place(tmp_path: Path, quick: str) -> Path:
    """A folder with a config and ten file IDs."""
    (tmp_path / "c.toml").write_text(CONFIG.format(base_url=quick))
    (tmp_path / "ids.txt").write_text("".join(f"file-{number}\n" for number in range(10)))
    return tmp_path


@contextmanager
def full_pipe() -> Iterator[int]:
    """A pipe that has no room, and whose reader reads nothing."""
    theirs, ours = os.pipe()
    os.set_blocking(ours, False)
    try:
        while True:
            os.write(ours, bytes(4096))
    except BlockingIOError:
        os.set_blocking(ours, True)
    yield ours
    os.close(ours)
    os.close(theirs)


@contextmanager
def stopped_terminal() -> Iterator[int]:
    """A terminal whose output was stopped, as Ctrl-S does."""
    theirs, ours = pty.openpty()
    termios.tcflow(ours, termios.TCOOFF)
    yield ours
    os.close(ours)
    os.close(theirs)


STREAMS = {"pipe": full_pipe, "terminal": stopped_terminal}


@contextmanager
def standing_still(place: Path, command: str, kind: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command that waits until its stdout and stderr, which are one, have room."""
    with (
        STREAMS[kind]() as stream,
        subprocess.Popen(
            [*COMMAND, *COMMANDS.get(command, (command,))],
            cwd=place,
            env=environment(TERM="xterm"),
            stdout=stream,
            stderr=stream,
            preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
        ) as process,
    ):
        try:
            wait_until_idle(process)
            yield process
        finally:
            process.kill()


def wait_until_idle(process: subprocess.Popen[bytes]) -> None:
    """Until it neither takes CPU nor is ready to: it waits for room, since all of these commands would soon end. Looks
    are counted, and no seconds: where this process gets no CPU the other one may not have got any either."""
    used, idle = b"", 0
    while idle < IDLE_LOOKS:
        assert process.poll() is None, "nothing stood still"
        before, used = used, b" ".join(fields_of(Path(f"/proc/{process.pid}/stat"))[11:13])
        threads = Path(f"/proc/{process.pid}/task").glob("*/stat")
        idle = idle + 1 if used == before and all(fields_of(each)[:1] == [b"S"] for each in threads) else 0
        time.sleep(0.05)


def fields_of(stat: Path) -> list[bytes]:
    """What Linux says of a process or thread, from its state on; nothing of one that has ended."""
    try:
        return stat.read_bytes().rpartition(b")")[2].split()
    except OSError:
        return []


@pytest.mark.parametrize("stream", list(STREAMS))
@pytest.mark.parametrize("command", list(COMMANDS))
def test_a_signal_ends_a_command_whose_output_stands_still(place: Path, command: str, stream: str) -> None:
    """Nobody reads its last message: it is dropped, and the process is gone within four seconds, with 75."""
    with standing_still(place, command, stream) as process:
        timer = LeaveTimer(process)
        process.send_signal(signal.SIGTERM)
        assert timer.wait_s() < EXIT_TIMEOUT_S
        assert process.wait(PATIENCE_S) == 75


@pytest.mark.parametrize("stream", list(STREAMS))
def test_a_signal_ends_a_sandbox_that_can_not_say_where_it_is(place: Path, stream: str) -> None:
    """It waits until its base URL can be printed, and hears signals meanwhile: 0, as always."""
    with standing_still(place, "sandbox", stream) as process:
        timer = LeaveTimer(process)
        process.send_signal(signal.SIGTERM)
        assert timer.wait_s() < EXIT_TIMEOUT_S
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("stream", list(STREAMS))
def test_a_second_signal_ends_it_at_once(place: Path, stream: str) -> None:
    """A run whose messages and summary nobody reads: SIGTERM again means now."""
    with standing_still(place, "run with many messages", stream) as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert process.poll() is None
        timer = LeaveTimer(process)
        assert timer.wait_s(meanwhile=lambda: os.kill(process.pid, signal.SIGTERM)) < AT_ONCE_S
        assert process.wait(PATIENCE_S) == 128 + signal.SIGTERM
