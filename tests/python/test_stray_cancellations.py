"""A CancelledError that code of the caller lets through, though nobody cancels the call; and real cancellations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvloop

import classify_batch
from classify_batch import Progress, UsageError, arun, check, run
from classify_batch.errors import SourceError
from classify_batch.events import Event, FilesCommitted
from classify_batch.operations.check import check_input
from tests.support.sandbox_settings import IDS, sandbox_settings


@pytest.fixture(params=["asyncio", "uvloop"], autouse=True)
def _event_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Either loop of the caller."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy() if request.param == "uvloop" else None)
    yield
    asyncio.set_event_loop_policy(None)


async def await_cancelled(*_: object) -> None:
    """What a display does that asks something which was cancelled."""
    task = asyncio.ensure_future(asyncio.sleep(9))
    task.cancel()
    await task


def raise_cancelled(*_: object) -> None:
    raise asyncio.CancelledError


def generated() -> Iterator[str]:
    yield "a"
    raise asyncio.CancelledError


async def generated_later() -> AsyncIterator[str]:
    yield "a"
    await await_cancelled()


@pytest.mark.parametrize("on_progress", [await_cancelled, raise_cancelled])
@pytest.mark.parametrize("shards", [None, 2])
def test_a_display_that_was_cancelled_does_not_end_a_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, on_progress: Callable[[Progress], object], shards: int | None
) -> None:
    """It is logged once a shard, as any other error of it, and the run goes on to its end."""
    result = run(sandbox_settings(), IDS, tmp_path / "run", on_progress=on_progress, shards=shards)
    assert (result.state, sum(result.counts.values())) == ("complete", len(IDS))
    records = [record for record in caplog.records if "on_progress raised" in record.getMessage()]
    assert len(records) == (shards or 1)
    assert all(record.exc_info is not None for record in records)


@pytest.mark.parametrize("source", [generated, generated_later])
@pytest.mark.parametrize("name", ["run", "plan"])
def test_an_input_that_was_cancelled_is_an_error(tmp_path: Path, name: str, source: Callable[[], Any]) -> None:
    """It says so, and no directory is made."""
    with pytest.raises(SourceError, match="the given file IDs raised CancelledError") as caught:
        getattr(classify_batch, name)(sandbox_settings(), source(), tmp_path / "run")
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert caught.value.hint
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("source", [generated, generated_later])
def test_an_input_that_was_cancelled_is_a_finding(source: Callable[[], Any]) -> None:
    """`check` tells it as it tells any other fault of the input."""
    report = check(sandbox_settings(), source())
    assert [finding.code for finding in report.findings] == ["input"]
    assert "raised CancelledError" in report.findings[0].message


def test_a_display_of_a_check_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A check that it ended would say that nothing stops the run."""
    monkeypatch.setattr(check_input, "REPORT_EVERY_S", 0.0)
    (tmp_path / "a.txt").write_text("an invoice number and a total")
    settings = sandbox_settings(sandbox={"documents": tmp_path})
    with pytest.raises(UsageError, match="on_progress raised CancelledError"):
        check(settings, (f"file-{number}" for number in range(50_000)), on_progress=raise_cancelled)


def test_an_executor_that_was_cancelled_is_an_error(tmp_path: Path) -> None:
    """What else of the caller's code is awaited is named in general, and no call returns without a result."""

    class Cancelled:
        async def run(self, *_: object) -> Any:
            await await_cancelled()

    with pytest.raises(UsageError, match="what the call was given raised CancelledError"):
        run(sandbox_settings(), IDS, tmp_path / "run", shards=2, executor=Cancelled())


def test_an_observer_that_was_cancelled_leaves_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged and done without, and another observer hears all."""
    events: list[Event] = []
    calls: list[object] = []

    class Kept:
        async def observe(self, event: Event) -> None:
            events.append(event)

    async def fail(event: Event) -> None:
        calls.append(event)
        await await_cancelled()

    result = run(sandbox_settings(), IDS, tmp_path / "run", observer=fail, observers=[Kept()])
    assert (result.state, len(calls)) == ("complete", 1)
    assert sum(sum(each.outcomes.values()) for each in events if isinstance(each, FilesCommitted)) == len(IDS)
    assert len([each for each in caplog.records if "an observer failed" in each.getMessage()]) == 1


# --- Real cancellations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["task", "scope", "timeout"])
@pytest.mark.parametrize("where", ["on_progress", "file_ids", "observer"])
def test_a_real_cancellation_passes(tmp_path: Path, caplog: pytest.LogCaptureFixture, way: str, where: str) -> None:
    """Whoever cancels the call while it awaits the caller's code gets a cancellation, and the same call goes on."""
    settings = sandbox_settings(plan={"files_per_job": 1}, limits={"jobs_in_flight": 1, "requests_per_s": 20.0})

    async def main() -> None:
        waiting = asyncio.Event()

        async def wait(_: object) -> None:
            waiting.set()
            await asyncio.sleep(3600)

        async def file_ids() -> AsyncIterator[str]:
            yield "a"
            await wait(None)

        given: dict[str, Any] = {} if where == "file_ids" else {where: wait}
        source: Any = file_ids() if where == "file_ids" else IDS

        async def call() -> None:
            await arun(settings, source, tmp_path / "run", **given)

        if way == "task":
            task = asyncio.create_task(call())
            await waiting.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        elif way == "scope":
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call)
                await waiting.wait()
                tasks.cancel_scope.cancel()
        else:
            task = asyncio.create_task(call())
            await waiting.wait()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(task, 0.01)

    asyncio.run(main())
    assert not [each for each in caplog.records if "raised" in each.getMessage() or "failed" in each.getMessage()]
    result = run(sandbox_settings(plan={"files_per_job": 1}), IDS, tmp_path / "run")
    assert sum(result.counts.values()) == len(IDS)
    jobs = (tmp_path / "run" / "sandbox" / "jobs.jsonl").read_text()
    assert all(jobs.count(f'"{file_id}"') == 1 for file_id in IDS)
