"""A CancelledError is a cancellation only where somebody cancels the task that raises it."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from classify_batch.errors import SourceError, UsageError
from classify_batch.streams.cancellation import is_being_cancelled, refusing_stray_cancellation

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]


async def test_a_cancelled_scope_counts_also_where_the_task_forgot_it() -> None:
    """Code that takes its cancellation back, and raises on, doesn't make a cancelled scope a live one."""
    task = asyncio.current_task()
    assert task is not None
    seen = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.sleep(1)
        except asyncio.CancelledError:
            while task.uncancel():
                pass
            seen.append(is_being_cancelled())
            raise
    assert (seen, scope.cancelled_caught, is_being_cancelled()) == ([True], True, False)


async def test_a_cancelled_task_counts() -> None:
    """`task.cancel()` of asyncio needs no scope."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError), refusing_stray_cancellation("it"):
        await asyncio.sleep(1)
    task.uncancel()
    assert not is_being_cancelled()


@pytest.mark.parametrize("error", [UsageError, SourceError])
async def test_a_stray_one_is_the_error_that_is_asked_for(error: type[UsageError]) -> None:
    """It names what raised it, and keeps where it came from."""
    with pytest.raises(error, match="it raised CancelledError") as caught, refusing_stray_cancellation("it", error):
        raise asyncio.CancelledError
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
