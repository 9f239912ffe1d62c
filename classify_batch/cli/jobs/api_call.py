"""A call from its start to its last word. Ctrl-C or SIGTERM gives it up, and says what that means."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import click

from classify_batch.cli import signals
from classify_batch.cli.jobs.repeat_command import completed
from classify_batch.errors import ClassifyBatchError, InterruptedEarlyError

Result = TypeVar("Result")


class _ToStderr(logging.Handler):
    """The library's warnings, for a person."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"{record.levelname.lower()}: {record.getMessage()}", err=True)


def interrupted(signal_name: str) -> ClassifyBatchError:
    """The end of a call that changes nothing, or can be given again."""
    return InterruptedEarlyError(f"interrupted by {signal_name}", hint="the same command begins again")


def call(work: Callable[[], Awaitable[Result]], on_signal: Callable[[str], ClassifyBatchError] = interrupted) -> Result:
    """The result of `work`; the first signal cancels it, and `on_signal` says by which error it ends."""
    logger, handler = logging.getLogger("classify_batch"), _ToStderr(logging.WARNING)
    logger.addHandler(handler)
    try:
        return anyio.run(_until_signal, work, on_signal)
    except ClassifyBatchError as error:
        error.hint = completed(error.hint)
        raise
    finally:
        signals.hear(lambda _name: None)  # the call has ended: what is left to say is said
        logger.removeHandler(handler)


async def _until_signal(
    work: Callable[[], Awaitable[Result]], on_signal: Callable[[str], ClassifyBatchError]
) -> Result:
    loop = asyncio.get_running_loop()
    names: list[str] = []
    with anyio.CancelScope() as scope:

        def ask(name: str) -> None:
            names.append(name)
            loop.call_soon_threadsafe(scope.cancel)

        signals.hear(ask)
        return await work()
    raise on_signal(names[0])
