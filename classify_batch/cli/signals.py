"""What Ctrl-C and SIGTERM do, from the first moment on: this file imports next to nothing, and is imported first.

The first signal asks the run to stop; where there is no run yet, there is nothing to lose, and the process leaves with
75. The second leaves at once with 130 or 143: what is committed stays, and the run goes on from there.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

INCOMPLETE = 75

_asked: Callable[[str], None] | None = None
_seen = 0


def install() -> None:
    """Takes the two signals over. Only in the main thread of a program of ours."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _on_signal)


def hear(ask: Callable[[str], None] | None) -> None:
    """Who is told of the first signal (its name), from now on."""
    global _asked
    _asked = ask


def _on_signal(number: int, _frame: FrameType | None) -> None:
    global _seen
    _seen += 1
    name = signal.Signals(number).name
    if _seen > 1:
        _leave(128 + number, f"error: {name} again: left at once\nhint: the same command goes on")
    if _asked is None:
        _leave(
            INCOMPLETE, f"error: interrupted by {name} before anything was sent\nhint: the same command begins again"
        )
    else:
        _asked(name)


def _leave(status: int, words: str) -> None:
    os.write(2, f"\n{words}\n".encode())
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()
    os._exit(status)
