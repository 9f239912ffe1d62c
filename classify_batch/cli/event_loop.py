"""The event loop of a command."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

import anyio

from classify_batch.streams.signal_wakeup import signals_wake_this_loop

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


def run_in_event_loop(work: Callable[[*Arguments], Awaitable[Result]], *arguments: *Arguments) -> Result:
    """Returns what `work` returns, or raises what it raises. Signals wake it."""

    async def run_awake() -> Result:
        with signals_wake_this_loop():
            return await work(*arguments)

    return anyio.run(run_awake)
