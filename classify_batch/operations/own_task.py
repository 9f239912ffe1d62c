"""Runs work in a task of its own, and raises one error in place of an exception group."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from classify_batch.errors import the_cause
from classify_batch.streams.cancellation import CallerExit, carrying_exits, refusing_stray_cancellation

Result = TypeVar("Result")


async def run_in_own_task(work: Callable[[], Awaitable[Result]]) -> Result:
    """Returns the work's result, or raises the one error of its tasks that a person should see.

    `task.cancel()` of asyncio interrupts whatever the task awaits, also inside anyio's shielded scopes. With the work
    in a task of its own, a cancelled caller is only interrupted while it waits for that task, which anyio then cancels
    by its scope: shielded parts finish, and the run directory is left in order.

    Raises:
        UsageError: what the caller gave (a callback, an executor) raised CancelledError, and nobody cancelled the work.
    """
    results: list[Result] = []

    async def keep_result() -> None:
        with carrying_exits(), refusing_stray_cancellation("what the call was given"):
            results.append(await work())

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keep_result)
    except BaseExceptionGroup as group:
        cause = the_cause(group)
        if isinstance(cause, CallerExit) and cause.__cause__ is not None:
            raise cause.__cause__ from group
        raise cause from (cause.__cause__ or group)  # its own cause is what the log of a bug is read for
    if not results:  # somebody cancelled just that task
        raise asyncio.CancelledError
    return results[0]
