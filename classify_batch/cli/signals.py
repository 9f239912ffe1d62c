"""What Ctrl-C and SIGTERM do, from the first moment on: this file imports next to nothing, and is imported first.

The first signal asks the run to stop; where there is no run yet, there is nothing to lose, and the process leaves with
75. The second leaves at once with 130 or 143: what is committed stays, and the run goes on from there.

`timeout` and others signal a process and then its whole group, so one wish may come as several signals: those within
a tenth of a second of the first are taken for the same one. A person who presses Ctrl-C again takes longer.
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

_asked: Callable[[str], None] | None = None
_first_s: float | None = None


def install() -> None:
    """Takes the two signals over. Only in the main thread of a program of ours."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _on_signal)


def hear(ask: Callable[[str], None] | None) -> None:
    """Who is told of the first signal (its name), from now on."""
    global _asked
    _asked = ask


def end() -> None:
    """The last act of a process that was asked to stop and has its status: no late part of that wish changes it.

    Python gives a handled signal back to the system while it shuts down, and one that comes then would kill.
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
        _leave(128 + number, f"error: {name} again: left at once\nhint: the same command goes on")
    _first_s = now_s
    if _asked is None:
        _leave(
            INCOMPLETE, f"error: interrupted by {name} before anything was sent\nhint: the same command begins again"
        )
    else:
        _asked(name)


def _leave(status: int, words: str) -> None:
    try:
        _write(words)
    finally:  # whatever is wrong with either stream
        os._exit(status)


def _write(words: str) -> None:
    try:
        os.write(2, f"\n{words}\n".encode())
    finally:
        if sys.stdout is not None and not sys.stdout.closed:
            sys.stdout.flush()
