"""What Ctrl-C, SIGTERM and SIGHUP do, from the start on: this file imports next to nothing, and is imported
first. SIGHUP comes when the terminal is closed, and means the same as SIGTERM.

The first signal asks the run to stop; where there is no run yet, there is nothing to lose, and the process exits with
75. The second exits at once with 128 and its number: what is committed stays, and the run goes on from there. A signal
that was ignored when the process began stays ignored: that is how `nohup` and shells protect what they start.

`timeout` and others signal a process and then its whole group, so one request to stop may arrive as several signals:
those within a tenth of a second of the first count as the same one. A person who presses Ctrl-C again takes longer. A
terminal that is closed sends SIGHUP up to three times, by the shell and by the system, as far apart as the shell is
slow.

What was asked to stop may hang in the operating system: a resolver that nobody answers, a disk that is gone, a stderr
that stands still (Ctrl-S, a paused pager, a full pipe). So the process exits by itself where it is still there after
`EXIT_TIMEOUT_S`, and its last message is dropped where it would have to wait.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

INCOMPLETE = 75

SAME_WITHIN_S = 0.1
SAME_HANGUP_WITHIN_S = 1.0

EXIT_TIMEOUT_S = 3.6
"""After so long from the first signal on the process exits by itself. The engine takes 2.5 s at most for the requests
that are in flight."""

LAST_MESSAGE_WITHIN_S = 0.2
"""How long the last message may take: a terminal that has room for a part of it makes the rest wait."""

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

LastWords = Callable[[str], tuple[int, str]]
"""Given a signal's name: the exit status and the message of a process that has to exit before its work has ended."""

_callback: Callable[[str], None] | None = None
_last_words: LastWords | None = None
_first: tuple[int, float] | None = None
_status: int | None = None


def install_handlers() -> None:
    """Handles the signals that ask to stop from now on. Call it in the main thread only, as Python demands.

    A program that takes its signals by `sigwait` blocks them, and who is started by it inherits that: nobody could stop
    this process then. A signal that came meanwhile is handled like any other.
    """
    for number in _STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, on_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*_STOP_SIGNALS, signal.SIGALRM))


def on_first_signal(callback: Callable[[str], None] | None, last_words: LastWords | None = None) -> None:
    """Sets what the first signal calls, with its name. None: there is no run to stop, so the process exits.

    `last_words`: for work that is not simply gone on with by the same command.
    """
    global _callback, _last_words
    _callback, _last_words = callback, last_words


def ignore_late_signals(status: int) -> None:
    """Call it last: a process that was asked to stop, and knows its exit status, keeps that status.

    While Python shuts down it restores the default handlers, and a signal that arrives then would kill the process. So
    the alarm ends with the last thread.
    """
    global _status
    _status = status
    if _first is not None:
        # Python flushes them again at its end, where no alarm rescues a process whose stdout stands still.
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # what can't be written was reported, or nobody reads it
                stream.flush()
        atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)  # is called when all threads have ended
        for number in _STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def on_signal(number: int, _frame: FrameType | None) -> None:
    global _first
    name, now_s = signal.Signals(number).name, time.monotonic()
    if _first is not None:
        first, first_s = _first
        within_s = SAME_HANGUP_WITHIN_S if number == first == signal.SIGHUP else SAME_WITHIN_S
        if now_s - first_s <= within_s:
            return
        exit_at_once(128 + number, f"error: {name} again: left at once\nhint: the same command goes on")
    _first = number, now_s
    if _callback is None:
        exit_at_once(
            INCOMPLETE, f"error: interrupted by {name} before anything was sent\nhint: the same command begins again"
        )
    else:
        signal.signal(signal.SIGALRM, exit_on_alarm)
        signal.setitimer(signal.ITIMER_REAL, EXIT_TIMEOUT_S)
        _callback(name)


def exit_on_alarm(_number: int, _frame: FrameType | None) -> None:
    if _status is not None:  # all was said, and only a thread of the process doesn't end
        os._exit(_status)
    name = "a signal" if _first is None else signal.Signals(_first[0]).name
    status, message = INCOMPLETE, f"error: interrupted by {name}\nhint: the same command goes on"
    try:
        if _last_words is not None:
            status, message = _last_words(name)
    finally:
        exit_at_once(status, message)


def exit_at_once(status: int, message: str) -> None:
    """Writes the message, where that makes nobody wait, and ends the process. Call it in a signal handler only."""
    signal.signal(signal.SIGALRM, lambda _number, _frame: os._exit(status))
    signal.setitimer(signal.ITIMER_REAL, LAST_MESSAGE_WITHIN_S)
    try:
        write_last_message(message)
    finally:  # also where stdout or stderr can't be written
        os._exit(status)  # sys.exit would wait for threads, and run what the interrupted code put into `finally`


def write_last_message(message: str) -> None:
    try:
        if has_room(2):  # and not by sys.stderr: the signal may have come in the middle of its write
            os.write(2, f"\n{message}\n".encode())
    finally:
        # A thread that waits for room holds the stream's lock, and no alarm ends the waiting for a lock.
        if sys.stdout is not None and not sys.stdout.closed and has_room(1):
            sys.stdout.flush()


def has_room(descriptor: int) -> bool:
    """Whether a short write ends at once, if only with an error; a pipe then takes 4 KiB."""
    room = select.poll()
    room.register(descriptor, select.POLLOUT)
    return bool(room.poll(0))
