"""Signals that wake a waiting event loop.

Python runs a signal's handler between two of its own steps. A signal that comes after the last of them, and just before
the system begins to wait for the network, would be heard of with the next packet only: for a server that never answers,
that is a minute later.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_NUMBERS_READ_AT_ONCE = 4096


@contextmanager
def signals_wake_this_loop() -> Iterator[None]:
    """While it is open, each signal wakes the running event loop of asyncio. In another thread than the main one it
    does nothing: Python runs handlers in the main thread only. Nor does it where a program embeds Python in a thread
    that `threading` takes for the main one, and Python itself doesn't; nor for a loop that isn't asyncio's own: uvloop
    has itself woken by all signals, and would hear of none if they were written elsewhere."""
    loop = asyncio.get_running_loop()
    is_main_thread = threading.current_thread() is threading.main_thread()
    if not is_main_thread or not isinstance(loop, asyncio.BaseEventLoop):
        yield
        return
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        loop.add_reader(reader, reader.recv, _NUMBERS_READ_AT_ONCE)  # to be woken is all: handlers run by themselves
        before: int | None = None
        with suppress(ValueError):  # Python knows better which thread is the main one
            before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)  # a full buffer wakes as well
        try:
            yield
        finally:
            if before is not None:
                _set_wakeup_again(before)
            loop.remove_reader(reader)


def _set_wakeup_again(descriptor: int) -> None:
    """What the calling program had set; nothing, where it has closed that."""
    signal.set_wakeup_fd(-1)
    with suppress(OSError, ValueError):
        signal.set_wakeup_fd(descriptor)
