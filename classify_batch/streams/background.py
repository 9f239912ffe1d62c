"""Tasks that run beside a block, and end with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup


@asynccontextmanager
async def background_tasks() -> AsyncIterator[TaskGroup]:
    """A task group for what runs beside the block; at the block's end it is cancelled.

    An error of the block is raised as it is, and not in an exception group: whoever catches it outside must not have to
    know that something ran beside. Errors of the tasks come in a group.
    """
    raised: Exception | None = None
    async with anyio.create_task_group() as tasks:
        try:
            yield tasks
        except Exception as error:  # noqa: BLE001 - raised below, outside the group
            raised = error
        tasks.cancel_scope.cancel()
    if raised is not None:
        raise raised
