"""Work in a task of its own raises one error in place of a group, and the error keeps what it came from."""

from __future__ import annotations

import asyncio

import pytest

from classify_batch.errors import InternalError
from classify_batch.operations.own_task import run_in_own_task

pytestmark = pytest.mark.anyio


async def test_an_error_keeps_what_it_came_from() -> None:
    """The log of a bug shows the first cause, not only the group that carried the error."""
    first = OSError("the first cause")

    async def fail() -> None:
        raise InternalError("what follows") from first

    with pytest.raises(InternalError) as caught:
        await run_in_own_task(fail)
    assert caught.value.__cause__ is first


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_work_that_was_cancelled_by_itself_has_no_result() -> None:
    """Whoever cancels just the task of the work, and nobody else, gets a cancellation, and no made-up result."""

    async def cancel_own_task() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)

    with pytest.raises(asyncio.CancelledError):
        await run_in_own_task(cancel_own_task)
