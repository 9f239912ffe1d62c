"""A signal that comes when Python has just looked for signals, and the process is about to wait for the network.

A thread that signals itself brings about the same: Python notes the signal, and nothing ends the main thread's wait.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.command.test_signals import CONFIG, RUN
from tests.support.command_line import PATIENCE_S, environment
from tests.support.leaving import EXIT_TIMEOUT_S, LeaveTimer
from tests.support.start_command import SCRIPT, CommandProcess

pytestmark = pytest.mark.slow

SIGNALLED_BY_A_THREAD = """
import os, signal, threading

def signal_this_thread():
    number = int(os.read(0, 10))
    signal.pthread_kill(threading.get_ident(), number)

threading.Thread(target=signal_this_thread, daemon=True).start()
"""

COMMAND = f"""
{SIGNALLED_BY_A_THREAD}
import runpy, sys

sys.argv[0] = "classify-batch"
runpy.run_module("classify_batch", run_name="__main__")
"""


def begin(folder: Path, script: str, *words: str) -> CommandProcess[str]:
    """Starts a script; the number of a signal that it reads is sent as one that nothing wakes for."""
    pipe = subprocess.PIPE
    return CommandProcess(
        [*SCRIPT, script, *words], cwd=folder, env=environment(), text=True, stdin=pipe, stdout=pipe, stderr=pipe
    )


def send_unnoticed(process: CommandProcess[str], number: signal.Signals) -> str:
    """Returns what the process said, which had to leave within four seconds."""
    time.sleep(0.3)  # it waits for the network by then: any earlier moment is no worse
    timer = LeaveTimer(process)
    assert process.stdin is not None
    process.stdin.write(str(int(number)))
    process.stdin.flush()
    took_s = timer.wait_s()
    _, said = process.communicate(timeout=PATIENCE_S)
    assert took_s < EXIT_TIMEOUT_S, said
    return said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("words", [("jobs", "get", "j"), RUN, ("check", "c.toml", "--input", "ids.txt")])
def test_a_command_ends_by_a_signal_that_interrupts_no_wait(
    words: tuple[str, ...], number: signal.Signals, tmp_path: Path
) -> None:
    """The server never answers, so no packet wakes the command: the signal does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE_S)
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        (tmp_path / "c.toml").write_text(CONFIG.format(base_url=base_url))
        (tmp_path / "ids.txt").write_text("a\n")
        last = ("--base-url", base_url) if words[0] == "jobs" else ()
        with begin(tmp_path, COMMAND, *words, *last) as process, listener.accept()[0] as connection:
            assert connection.recv(10)
            said = send_unnoticed(process, number)
    assert process.returncode == 75, said
    assert f"interrupted by {number.name}" in said


CALLED = """
import sys
import classify_batch

settings = classify_batch.Settings.load("c.toml")
try:
    classify_batch.upload(settings, ["c.toml"])
except KeyboardInterrupt:
    sys.exit("stopped by Ctrl-C")
"""


def test_a_python_call_ends_by_a_signal_that_interrupts_no_wait(tmp_path: Path) -> None:
    """In a program, too, where nothing else wakes the loop, as progress does in a run."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE_S)
        (tmp_path / "c.toml").write_text(CONFIG.format(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}"))
        script = f"{SIGNALLED_BY_A_THREAD}\n{CALLED}"
        with begin(tmp_path, script) as process, listener.accept()[0] as connection:
            assert connection.recv(10)
            said = send_unnoticed(process, signal.SIGINT)
    assert process.returncode == 1, said
    assert said.endswith("stopped by Ctrl-C\n")
