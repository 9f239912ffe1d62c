"""What Ctrl-C and SIGTERM do, from the first moment on: this file imports next to nothing, and is imported first.

The first signal asks the run to stop; where there is no run yet, there is nothing to lose, and the process leaves with
75. The second leaves at once with 130 or 143: what is committed stays, and the run goes on from there.

`timeout` and others signal a process and then its whole group, so one request to stop may arrive as several signals:
those within a tenth of a second of the first count as the same one. A person who presses Ctrl-C again takes longer.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

INCOMPLETE = 75

SAME_WITHIN_S = 0.1

_callback: Callable[[str], None] | None = None
_first_s: float | None = None


def install_handlers() -> None:
    """Handles SIGINT and SIGTERM from now on. Call it in the main thread only, as Python demands."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _on_signal)


def on_first_signal(callback: Callable[[str], None] | None) -> None:
    """Sets what the first signal calls, with its name. None: there is no run to stop, so the process leaves."""
    global _callback
    _callback = callback


def ignore_late_signals() -> None:
    """Call it last: a process that was asked to stop, and knows its exit status, keeps that status.

    While Python shuts down it restores the default handlers, and a signal that arrives then would kill the process.
    """
    if _first_s is not None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def _on_signal(number: int, _frame: FrameType | None) -> None:
    global _first_s
    name, now_s = signal.Signals(number).name, time.monotonic()
    if _first_s is not None:
        if now_s - _first_s <= SAME_WITHIN_S:
            return
        _exit_at_once(128 + number, f"error: {name} again: left at once\nhint: the same command goes on")
    _first_s = now_s
    if _callback is None:
        _exit_at_once(
            INCOMPLETE, f"error: interrupted by {name} before anything was sent\nhint: the same command begins again"
        )
    else:
        _callback(name)


def _exit_at_once(status: int, message: str) -> None:
    try:
        _write_last_message(message)
    finally:  # also where stdout or stderr can't be written
        os._exit(status)  # sys.exit would wait for threads, and run what the interrupted code put into `finally`


def _write_last_message(message: str) -> None:
    try:
        os.write(2, f"\n{message}\n".encode())  # not sys.stderr: the signal may have come in the middle of its write
    finally:
        if sys.stdout is not None and not sys.stdout.closed:
            sys.stdout.flush()
