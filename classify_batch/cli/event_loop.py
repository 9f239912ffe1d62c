"""The event loop of a command, which signals wake.

Python runs a signal's handler between two of its own steps. A signal that comes after the last of them, and just before
the system begins to wait for the network, would be heard of with the next packet only: for a server that never answers,
that is a minute later.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, TypeVarTuple

import anyio

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

_NUMBERS_READ_AT_ONCE = 4096


def run_in_event_loop(work: Callable[[*Arguments], Awaitable[Result]], *arguments: *Arguments) -> Result:
    """Returns what `work` returns, or raises what it raises. Call it in the main thread, which hears of signals."""

    async def run_awake() -> Result:
        with _signals_wake(asyncio.get_running_loop()):
            return await work(*arguments)

    return anyio.run(run_awake)


@contextmanager
def _signals_wake(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        loop.add_reader(reader, reader.recv, _NUMBERS_READ_AT_ONCE)  # to be woken is all: the handlers stand already
        # A full buffer wakes as well.
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            loop.remove_reader(reader)
