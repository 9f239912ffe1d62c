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

UNDER_UVLOOP = """
import asyncio, os, signal, threading
import uvloop
from classify_batch.operations.new_loop import run_in_new_loop

async def wait_for_both() -> str:
    loop, heard, handled = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, heard.set)
    signal.signal(signal.SIGUSR2, lambda *_: loop.call_soon_threadsafe(handled.set))
    for number, event in ((signal.SIGUSR1, heard), (signal.SIGUSR2, handled)):
        threading.Timer(0.2, os.kill, (os.getpid(), number)).start()
        await asyncio.wait_for(event.wait(), 30)
    return type(loop).__module__

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
print(run_in_new_loop("run", wait_for_both))
"""


def say(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def test_a_program_that_embeds_python_can_run_in_a_thread_of_its_own() -> None:
    """Its thread isn't the one in which signals are handled: nothing has to be woken. It ended with a ValueError."""
    assert say("-S", "-c", EMBEDDED.replace("{path!r}", repr(sys.path))) == "done"


def test_a_program_may_have_closed_what_signals_were_written_to() -> None:
    """What it had set can't be set again. The result was lost for that: OSError."""
    assert say("-c", CLOSED) == "done -1"


def test_signals_wake_a_loop_of_uvloop() -> None:
    """It has its own way, which ours took away: no signal was heard of until something else happened."""
    assert say("-c", UNDER_UVLOOP) == "uvloop"
