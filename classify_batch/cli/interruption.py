"""Work that Ctrl-C, SIGTERM or SIGHUP cancels at once. The error that ends it says what the interruption means."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from classify_batch.cli import signals
from classify_batch.cli.event_loop import run_in_event_loop
from classify_batch.cli.jobs.repeat_command import complete_commands
from classify_batch.cli.rendering.warnings import printing_warnings
from classify_batch.errors import ClassifyBatchError, InterruptedEarlyError

Result = TypeVar("Result")


def interrupted_error(signal_name: str) -> ClassifyBatchError:
    """The error of interrupted work that changes nothing, or that can simply be done again."""
    return InterruptedEarlyError(f"interrupted by {signal_name}", hint="the same command begins again")


def run_until_signal(
    work: Callable[[], Awaitable[Result]], make_error: Callable[[str], ClassifyBatchError] = interrupted_error
) -> Result:
    """Returns what `work` returns. The first signal cancels it; `make_error` gets the signal's name, and makes the
    error that is raised then."""
    try:
        with printing_warnings():
            return run_in_event_loop(cancel_on_signal, work, make_error)
    except ClassifyBatchError as error:
        error.hint = complete_commands(error.hint)
        raise
    finally:
        signals.on_first_signal(lambda _name: None)  # the work has ended: a signal must not cut its last messages off


async def cancel_on_signal(
    work: Callable[[], Awaitable[Result]], make_error: Callable[[str], ClassifyBatchError]
) -> Result:
    loop = asyncio.get_running_loop()
    names: list[str] = []
    with anyio.CancelScope() as scope:

        def cancel_work(name: str) -> None:
            names.append(name)
            loop.call_soon_threadsafe(scope.cancel)  # a signal handler may not touch the loop directly

        signals.on_first_signal(cancel_work, lambda name: describe_error(make_error(name)))
        return await work()
    raise make_error(names[0])


def describe_error(error: ClassifyBatchError) -> tuple[int, str]:
    """The exit status and the message of a process that can't wait for the error to be raised."""
    return int(error.exit_status), f"error: {error}\nhint: {complete_commands(error.hint)}"
