"""Work in a task of its own, with one error behind a group of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from classify_batch.errors import the_cause

Result = TypeVar("Result")


async def in_own_task(work: Callable[[], Awaitable[Result]]) -> Result:
    """The work's result, or the one error that a person should hear of.

    A plain `task.cancel()` of the caller interrupts whatever it awaits, shields or not. Here it only meets the waiting
    for this task, which then is cancelled as a scope is: what is shielded comes to its end, and the directory is clean.
    """
    results: list[Result] = []

    async def keep() -> None:
        results.append(await work())

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keep)
    except BaseExceptionGroup as group:
        raise the_cause(group) from group
    return results[0]
