"""A function as an observer of a run: a plain one, or a coroutine function."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from classify_batch.arguments import refuse_no_function, refuse_no_iterable, refuse_without_method
from classify_batch.events import Event
from classify_batch.ports import Observer
from classify_batch.streams.child_process import ending_children

_FUNCTION = "observer=… takes a function of an event"
_OBJECTS = "observers=[…] takes those that have `async def observe(self, event)`"

Observe = Callable[[Event], object]
"""Is given the events of a run; what it returns is awaited where that can be."""


def all_observers(observer: Observe | None, observers: Sequence[Observer]) -> Sequence[Observer]:
    """The observers of a run, with the function among them. Raises UsageError for what is none."""
    refuse_no_iterable("observers", observers, f"a list of objects: {_OBJECTS}; {_FUNCTION}")
    given = tuple(observers)
    for each in given:
        refuse_without_method("observers", each, "observe", f"{_OBJECTS}; {_FUNCTION}")
    if observer is None:
        return given
    refuse_no_function("observer", observer, f"{_FUNCTION}; {_OBJECTS}")
    return (*given, FunctionObserver(observer))


class FunctionObserver:
    """Calls a function with each event.

    A coroutine function is awaited. A plain one is called in a thread of its own, always the same one: it may block,
    and neither a commit nor a request waits for it.
    """

    def __init__(self, function: Observe) -> None:
        self._function = function
        self._is_asynchronous = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - an object may have an asynchronous one
        )
        self._thread: ThreadPoolExecutor | None = None
        self._cut_off: dict[int, tuple[Event, Future[object]]] = {}

    async def observe(self, event: Event) -> None:
        """Calls it, and awaits what it returns, if that can be awaited."""
        if not self._is_asynchronous:
            returned = await self._wait_for_thread(event)
            if inspect.isawaitable(returned):
                await returned
            return
        with ending_children("an observer"):
            returned = self._function(event)
            if inspect.isawaitable(returned):
                await returned

    async def _wait_for_thread(self, event: Event) -> object:
        """An event that is delivered once more, since the run's end cut its delivery off, is being handled already.
        Shards that are carried out at the same time deliver theirs meanwhile."""
        self._thread = self._thread or ThreadPoolExecutor(1, "classify_batch observer")
        cut_off = self._cut_off.pop(id(event), None)
        future = self._thread.submit(self._call_in_thread, event) if cut_off is None else cut_off[1]
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            self._cut_off[id(event)] = event, future  # the event is kept, so that no other one gets its number
            raise

    def _call_in_thread(self, event: Event) -> object:
        """Calls it. What would end an iterator, a process or a generator can't do so from its thread, and is an error
        like any other: the event loop would end by it, or never hear of it."""
        try:
            with ending_children("an observer"):
                return self._function(event)
        except (StopIteration, SystemExit, KeyboardInterrupt, GeneratorExit) as raised:
            raise RuntimeError(f"an observer raised {type(raised).__name__}") from raised
