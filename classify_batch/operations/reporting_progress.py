"""Calls a caller's `on_progress` while a run is on."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from classify_batch.engine.orchestrator import Orchestrator
from classify_batch.engine.progress import Progress
from classify_batch.operations.run_request import OnProgress
from classify_batch.streams.background import background_tasks
from classify_batch.streams.cancellation import carrying_exits, refusing_stray_cancellation
from classify_batch.streams.child_process import ending_children

PROGRESS_EVERY_S = 0.5
LAST_PROGRESS_S = 1.0
"""So long the last call of an asynchronous `on_progress` may take: the run has ended, and its caller waits."""

log = logging.getLogger("classify_batch")


@asynccontextmanager
async def reporting_progress(orchestrator: Orchestrator, on_progress: OnProgress | None) -> AsyncIterator[None]:
    """Calls `on_progress` every half second inside the block, and once after it."""
    if on_progress is None:
        yield
        return
    callback = ProgressCallback(on_progress)

    async def report_repeatedly() -> None:
        while True:
            await callback.call(orchestrator.progress())
            await anyio.sleep(PROGRESS_EVERY_S)

    async with background_tasks() as tasks:
        tasks.start_soon(report_repeatedly)
        yield
    with anyio.move_on_after(LAST_PROGRESS_S):
        await callback.call(orchestrator.progress())  # the last call has the final counts


class ProgressCallback:
    """A caller's `on_progress`, which may be asynchronous, and may fail: the run is worth more than its display."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._failed = False

    async def call(self, progress: Progress) -> None:
        """Calls it, and awaits what it returns, if that can be awaited."""
        try:
            with carrying_exits(), refusing_stray_cancellation("on_progress"), ending_children("on_progress"):
                returned = self._on_progress(progress)
                if inspect.isawaitable(returned):
                    await returned
        except Exception:
            if not self._failed:
                log.exception("on_progress raised an error; the run goes on, and later errors of it are not logged")
            self._failed = True
