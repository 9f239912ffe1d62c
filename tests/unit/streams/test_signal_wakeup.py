"""Signals that wake a waiting event loop, in programs that use Python in their own way."""

from __future__ import annotations

import subprocess
import sys

EMBEDDED = """
import _thread, os, sys, time

def work():
    try:
        import threading  # for the first time, in a thread that it takes for the main one

        assert threading.current_thread() is threading.main_thread()
        from classify_batch.operations.new_loop import run_in_new_loop

        async def give() -> str:
            return "done"

        said.append(run_in_new_loop("run", give))
    except BaseException as error:
        said.append(repr(error))

said = []
sys.path[:] = {path!r}
assert "threading" not in sys.modules
_thread.start_new_thread(work, ())
while not said:
    time.sleep(0.01)
print(*said, flush=True)
os._exit(0)
"""

CLOSED = """
import os, signal, socket

reader, writer = socket.socketpair()
writer.setblocking(False)
signal.set_wakeup_fd(os.dup2(writer.fileno(), 200))
os.close(200)
from classify_batch.operations.new_loop import run_in_new_loop

async def give() -> str:
    return "done"

print(run_in_new_loop("run", give), signal.set_wakeup_fd(-1))
"""


def say(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def test_a_program_that_embeds_python_can_run_in_a_thread_of_its_own() -> None:
    """Its thread isn't the one in which signals are handled: nothing has to be woken. It ended with a ValueError."""
    assert say("-S", "-c", EMBEDDED.replace("{path!r}", repr(sys.path))) == "done"


def test_a_program_may_have_closed_what_signals_were_written_to() -> None:
    """What it had set can't be set again. The result was lost for that: OSError."""
    assert say("-c", CLOSED) == "done -1"
