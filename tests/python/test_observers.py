"""Events for functions, one gate for several runs, and progress as one line."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from classify_batch import ProgressLine, SharedLimits, UsageError, arun, resume, run, stream
from classify_batch.engine import event_queue
from classify_batch.events import Event, FilesCommitted, JobSubmitted, Warned
from classify_batch.limits import Gate, Priority
from classify_batch.operations.function_observer import FunctionObserver
from tests.support.command_line import PATIENCE_S, until
from tests.support.sandbox_settings import IDS, sandbox_settings


def committed_files(events: list[Event]) -> int:
    """How many files the events say were committed."""
    return sum(sum(each.outcomes.values()) for each in events if isinstance(each, FilesCommitted))


@pytest.mark.parametrize("kind", ["function", "coroutine", "partial", "object"])
def test_an_observer_is_a_function_or_a_coroutine(tmp_path: Path, kind: str) -> None:
    """Whatever can be called is given every event, typed, in order."""
    events: list[Event] = []

    async def hear(event: Event) -> None:
        await asyncio.sleep(0)
        events.append(event)

    class Hearing:
        async def __call__(self, event: Event) -> None:
            await hear(event)

    observers: dict[str, Callable[[Event], object]] = {
        "function": events.append,
        "coroutine": hear,
        "partial": partial(hear),
        "object": Hearing(),
    }
    observer = observers[kind]
    run(sandbox_settings(), IDS, tmp_path / "run", observer=observer)
    assert committed_files(events) == len(IDS)
    assert sum(isinstance(each, JobSubmitted) for each in events) == 3
    assert len(events) == len(set(map(id, events)))  # each once


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration])
def test_no_error_of_a_function_ends_a_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    """In its own thread it ends nothing else: it is logged once, and the run goes on."""

    def fail(_: Event) -> None:
        raise error

    result = run(sandbox_settings(), IDS, tmp_path / "run", observer=fail)
    assert (result.state, sum(result.counts.values())) == ("complete", len(IDS))
    failed = [each for each in caplog.records if "an observer failed" in each.getMessage()]
    assert len(failed) == 1
    assert error.__name__ in str(failed[0].exc_info)


@pytest.mark.parametrize("policy", [None, uvloop.EventLoopPolicy()], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("shards", [None, 2])
@pytest.mark.parametrize("given", ["observer", "on_progress"])
def test_a_coroutine_that_exits_leaves_the_directory_free(
    tmp_path: Path,
    given: str,
    shards: int | None,
    error: type[BaseException],
    policy: asyncio.AbstractEventLoopPolicy | None,
) -> None:
    """Ctrl-C may strike it anywhere, so that passes and ends the run; the next one goes on in the same process."""
    calls: list[object] = []

    async def fail(event: object) -> None:
        calls.append(event)
        raise error

    arguments: dict[str, Any] = {given: fail}
    call = partial(run, sandbox_settings(), IDS, tmp_path / "run", shards=shards)

    asyncio.set_event_loop_policy(policy)
    try:
        with pytest.raises(error):
            call(**arguments)
        result = call()
    finally:
        asyncio.set_event_loop_policy(None)
    assert (result.state, len(calls)) == ("complete", 1)


def test_every_way_to_run_takes_an_observer(tmp_path: Path) -> None:
    """`resume` and `stream` do what `run` does."""
    events: list[Event] = []
    settings = sandbox_settings(plan={"files_per_job": 5}, limits={"jobs_in_flight": 1, "requests_per_s": 500.0})
    run(settings, IDS, tmp_path / "run", max_runtime_s=0.001, observer=events.append)
    resume(tmp_path / "run", observer=events.append)
    assert committed_files(events) == len(IDS)

    async def read() -> None:
        async with stream(settings, IDS, tmp_path / "streamed", observer=events.append) as outcomes:
            assert len([each async for each in outcomes]) == len(IDS)

    asyncio.run(read())
    assert committed_files(events) == 2 * len(IDS)


def test_a_function_that_blocks_keeps_no_commit_waiting(tmp_path: Path) -> None:
    """A function that never returns until the run is over: the run ends, and it was called in one thread of its own."""
    over, threads, blocked_to_the_end = threading.Event(), set[int](), list[bool]()

    def block(event: Event) -> None:
        threads.add(threading.get_ident())
        blocked_to_the_end.append(over.wait(PATIENCE_S))

    try:
        result = run(sandbox_settings(plan={"files_per_job": 1}), IDS, tmp_path / "run", observer=block)
    finally:
        over.set()
    assert result.state == "complete"
    until(lambda: blocked_to_the_end)
    assert blocked_to_the_end[0]
    assert len(threads - {threading.get_ident()}) == 1


def test_a_function_that_fails_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What it raises is logged with its traceback, once; the run goes on, and another observer hears all."""
    calls, events = [], list[Event]()

    class Kept:
        async def observe(self, event: Event) -> None:
            events.append(event)

    def fail(event: Event) -> None:
        calls.append(event)
        raise ZeroDivisionError("mine")

    result = run(sandbox_settings(), IDS, tmp_path / "run", observer=fail, observers=[Kept()])
    assert (result.state, len(calls)) == ("complete", 1)
    assert committed_files(events) == len(IDS)
    assert [record.exc_info is not None for record in caplog.records if "observer" in record.getMessage()] == [True]


def test_a_slow_observer_misses_events_which_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound events are dropped, and the log says how many."""
    monkeypatch.setattr(event_queue, "EVENTS_MAX", 5)
    gate, events = threading.Event(), list[Event]()

    def slow(event: Event) -> None:
        gate.wait(60)
        events.append(event)

    with caplog.at_level(logging.WARNING, "classify_batch"):
        try:
            run(sandbox_settings(plan={"files_per_job": 1}), IDS, tmp_path / "run", observer=slow)
        finally:
            gate.set()
    assert any("events were dropped" in record.getMessage() for record in caplog.records)
    assert committed_files(events) < len(IDS)


# --- One gate for several runs ----------------------------------------------------------------------------------------


def test_runs_share_one_rate(tmp_path: Path, server: str) -> None:
    """Two runs that may each send 500 requests a second send 40 together; each is complete."""
    settings = sandbox_settings(api={"base_url": server}, plan={"files_per_job": 1})

    async def main() -> float:
        async with SharedLimits(requests_per_s=40, requests_in_flight=8) as limits:
            began_s = time.monotonic()
            results = await asyncio.gather(
                arun(settings, IDS, tmp_path / "one", shared_limits=limits),
                arun(settings, IDS, tmp_path / "two", shared_limits=limits),
            )
            assert all(each.state == "complete" for each in results)
            return sum(each.manifest["requests"] for each in results) / (time.monotonic() - began_s)

    assert asyncio.run(main()) <= 44


def test_pausing_one_run_pauses_no_other() -> None:
    """A paused run's creates wait, its polls and the other run's creates pass; on its end it takes its creates back."""

    async def main() -> None:
        async with SharedLimits(requests_per_s=1000) as limits:
            one, two = limits.gate_of_one_run(), limits.gate_of_one_run()
            one.pause(True)
            passed: list[str] = []

            async def pass_gate(gate: Gate, turn: Priority, name: str) -> None:
                async with gate.turn(turn):
                    passed.append(name)

            waiting = asyncio.create_task(pass_gate(one, Priority.CREATE, "one create"))
            await pass_gate(one, Priority.POLL, "one poll")
            await pass_gate(two, Priority.CREATE, "two create")
            two.pause(False)
            await asyncio.sleep(0.05)
            assert passed == ["one poll", "two create"]
            one.pause(False)
            await waiting
            assert (len(one.waits_s), len(two.waits_s)) == (2, 1)

    asyncio.run(main())


def test_shared_limits_are_refused_in_words(tmp_path: Path) -> None:
    """Limits of nothing, limits outside of their block; and an error of the block passes as it is."""
    with pytest.raises(UsageError, match="requests_per_s=0"):
        SharedLimits(requests_per_s=0)
    with pytest.raises(UsageError, match="not entered"):
        run(sandbox_settings(), IDS, tmp_path / "run", shared_limits=SharedLimits())
    assert not (tmp_path / "run").exists()

    async def main() -> None:
        async with SharedLimits():
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        asyncio.run(main())


def test_shared_limits_are_those_of_one_event_loop(tmp_path: Path) -> None:
    """A run in a thread has a loop of its own, whose requests nobody would ever let pass: it is refused, unbegun."""

    async def run_in_thread() -> None:
        async with SharedLimits() as limits:
            work = partial(run, sandbox_settings(), IDS, tmp_path / "run", shared_limits=limits)
            with pytest.raises(UsageError, match="another event loop") as caught:
                await asyncio.to_thread(work)
            assert "arun" in caught.value.hint
            assert not (tmp_path / "run").exists()
            assert (await arun(sandbox_settings(), IDS, tmp_path / "run", shared_limits=limits)).state == "complete"

    asyncio.run(run_in_thread())


# --- Progress as one line ---------------------------------------------------------------------------------------------


def test_a_notebook_shows_one_line_that_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One output is displayed, and then updated; the last text has all files."""
    shown: list[tuple[str, str]] = []

    def display(data: dict[str, str], *, raw: bool, display_id: bool) -> Any:
        shown.append(("new", data["text/plain"]))
        return SimpleNamespace(update=lambda data, *, raw: shown.append(("update", data["text/plain"])))

    ipython: Any = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    module: Any = SimpleNamespace(display=display)
    monkeypatch.setitem(sys.modules, "IPython.display", module)

    async def cell() -> None:
        await arun(sandbox_settings(), IDS, tmp_path / "run", on_progress=ProgressLine())

    asyncio.run(cell())
    assert [kind for kind, _ in shown].count("new") == 1
    assert shown[-1][1].startswith("25 of 25 files")


class Terminal(io.StringIO):
    """What stderr is on a terminal."""

    def isatty(self) -> bool:
        """It is one."""
        return True


@pytest.mark.parametrize("stderr", [Terminal(), io.StringIO()], ids=["terminal", "file"])
def test_outside_of_notebooks_a_terminal_has_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO
) -> None:
    """On a terminal the line is written over; a file gets nothing."""
    monkeypatch.setattr(sys, "stderr", stderr)
    run(sandbox_settings(), IDS, tmp_path / "run", on_progress=ProgressLine())
    if stderr.isatty():
        assert stderr.getvalue().count("\n") == 1
        assert stderr.getvalue().startswith("\r")
        assert "25 of 25 files" in stderr.getvalue()
    else:
        assert stderr.getvalue() == ""


def test_an_event_that_was_cut_off_is_handled_once_beside_others() -> None:
    """The delivery of an event is cut off while the function handles it, another shard delivers one, and then the first
    comes once more: the function was called once for each."""
    seen, go_on = list[Event](), threading.Event()

    def slow(event: Event) -> None:
        go_on.wait(PATIENCE_S)
        seen.append(event)

    observer, first, second = FunctionObserver(slow), Warned("first"), Warned("second")

    async def deliver() -> None:
        delivery = asyncio.create_task(observer.observe(first))
        await asyncio.sleep(0.01)
        delivery.cancel()
        with pytest.raises(asyncio.CancelledError):
            await delivery
        other = asyncio.create_task(observer.observe(second))
        await asyncio.sleep(0.01)
        go_on.set()
        await other
        await observer.observe(first)

    asyncio.run(deliver())
    assert seen == [first, second]
