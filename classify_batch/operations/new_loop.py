"""Runs asynchronous work for a caller that isn't: in a new event loop, in this thread or in one of its own."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from classify_batch.errors import UsageError, WorldError
from classify_batch.streams.raising_handlers import handlers_cancel
from classify_batch.streams.signal_wakeup import signals_wake_this_loop

Result = TypeVar("Result")


def run_in_new_loop(name: str, work: Callable[[], Awaitable[Result]]) -> Result:
    """Runs the work of the public function `name`, whose twin for running loops has an `a` before its name.

    A signal handler of the program's own that raises stops it as Ctrl-C does: what it raised is raised here.

    Raises:
        UsageError: it was called inside a running event loop.
        WorldError: the program's main thread has ended meanwhile, or had before.
    """
    with suppress(RuntimeError):  # which says that no loop runs: the usual case
        asyncio.get_running_loop()
        raise UsageError(f"{name}() was called inside a running event loop", hint=f"use `await a{name}(…)` there")
    with suppress(RuntimeError, KeyError):  # likewise, or that nobody imported it
        sys.modules["trio"].lowlevel.current_task()
        raise UsageError(f"{name}() was called inside a running loop of trio", hint=_in_a_thread(name))
    try:
        with handlers_cancel() as errors:

            async def work_until_raised() -> Result:
                errors.watch_this_task()
                return await _as_coroutine(work)

            return asyncio.run(work_until_raised())
    except RuntimeError as error:
        if threading.main_thread().is_alive():
            raise
        raise WorldError(
            f"the program's main thread has ended, and Python begins no more work in threads then: {error}",
            hint=f"let the main thread wait for the one that calls {name}(), by its join(); the same call goes on",
        ) from error


async def _as_coroutine(work: Callable[[], Awaitable[Result]]) -> Result:
    """For asyncio.run: anyio.run refuses a thread whose context was copied from a loop of anyio's, as that of
    asyncio.to_thread is."""
    with signals_wake_this_loop():
        return await work()


def refuse_no_asyncio(name: str) -> None:
    """Raises UsageError where the coroutine function `name` was called by another event loop than asyncio's."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise UsageError(f"{name}() needs a running loop of asyncio", hint=_in_a_thread(name[1:])) from None


def _in_a_thread(name: str) -> str:
    return f"trio: `await trio.to_thread.run_sync(classify_batch.{name}, …)` runs it in a thread"


def run_in_thread_with_loop(work: Callable[[], Awaitable[Result]]) -> Result:
    """Runs short work to its end, also where this thread runs a loop already, as in a notebook: that loop waits."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _as_coroutine(work)).result()
