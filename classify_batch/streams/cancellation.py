"""Tells a cancellation of the running task from a CancelledError that code of the caller let through, and carries
what ends a process out of the task in which such code raised it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from classify_batch.errors import UsageError


def is_being_cancelled() -> bool:
    """Whether the running task of asyncio is being cancelled, by its `cancel()` or by a scope around it."""
    task = asyncio.current_task()
    return anyio.current_effective_deadline() == -math.inf or (task is not None and task.cancelling() > 0)


@contextmanager
def refusing_stray_cancellation(what: str, error: type[UsageError] = UsageError) -> Iterator[None]:
    """For a block that calls what the caller gave; `what`: that, as the error names it.

    A CancelledError of a task that nobody cancels came from something else that was cancelled and awaited, or was
    raised by hand. Task groups would swallow it, end what is in them, and nobody would hear of it.

    Raises:
        UsageError: or `error`, in the place of such a CancelledError. Real cancellations pass.
    """
    try:
        yield
    except asyncio.CancelledError as raised:
        if is_being_cancelled():
            raise
        raise error(
            f"{what} raised CancelledError, and nobody had cancelled the call",
            hint="it awaits something that was cancelled: catch the error there",
        ) from raised


class CallerExit(BaseException):
    """SystemExit or KeyboardInterrupt, its cause, on the way to the caller."""


@contextmanager
def carrying_exits() -> Iterator[None]:
    """For a block that calls what the caller gave. asyncio would raise these two out of the event loop at once, past
    all that has still to be closed.

    Raises:
        CallerExit: in the place of SystemExit and KeyboardInterrupt.
    """
    try:
        yield
    except (SystemExit, KeyboardInterrupt) as raised:
        raise CallerExit from raised
