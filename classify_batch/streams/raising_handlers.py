"""Signal handlers of the calling program that raise.

A soft time limit of Celery, or Airflow's `execution_timeout`, is raised by a handler: between any two steps of Python,
so in the midst of the event loop's own work, too. That would leave its threads waiting for ever, and the process with
them; and a callback of the program's own may take it for its own error. For Ctrl-C asyncio cancels the main task
instead, which ends in its order. Here each handler that raises does.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from asyncio import CancelledError
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

Handler = Callable[[int, FrameType | None], object]


class HandlerErrors:
    """What a handler raised. The first of them cancels the work; a second one is raised where it comes."""

    def __init__(self) -> None:
        self.first: BaseException | None = None
        self._task: asyncio.Task[object] | None = None

    def watch_this_task(self) -> None:
        """The task that is cancelled."""
        self._task = asyncio.current_task()
        self._cancel()

    def guard(self, handler: Handler) -> Handler:
        def guarded(number: int, frame: FrameType | None) -> None:
            try:
                handler(number, frame)
            except BaseException as error:
                if self.first is not None:
                    raise
                self.first = error
                self._cancel()

        return guarded

    def _cancel(self) -> None:
        if self.first is not None and self._task is not None and not self._task.done():
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)  # which wakes the loop


@contextmanager
def handlers_cancel() -> Iterator[HandlerErrors]:
    """While it is open, what the program's own signal handlers raise cancels the task that `watch_this_task` names. At
    the end it is raised. In another thread than the main one, where no handler runs, it does nothing."""
    errors = HandlerErrors()
    replaced = _replace_handlers(errors) if threading.current_thread() is threading.main_thread() else {}
    try:
        yield errors
    except BaseException as error:
        if errors.first is None or errors.first is error:
            raise
        raise errors.first from (None if isinstance(error, CancelledError) else error)
    finally:
        for number, (guarded, handler) in replaced.items():
            if signal.getsignal(number) is guarded:
                signal.signal(number, handler)
    if errors.first is not None:
        raise errors.first


def _replace_handlers(errors: HandlerErrors) -> dict[signal.Signals, tuple[Handler, Handler]]:
    replaced: dict[signal.Signals, tuple[Handler, Handler]] = {}
    for number in signal.Signals:
        handler = signal.getsignal(number)
        if callable(handler) and handler is not signal.default_int_handler:  # asyncio's own business
            guarded = errors.guard(handler)
            with suppress(ValueError):  # Python knows better which thread is the main one
                signal.signal(number, guarded)
                replaced[number] = guarded, handler
    return replaced
