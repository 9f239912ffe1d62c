"""`stream`: a run whose outcomes are read while it is on. A real sandbox, a real directory, real cancellations."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import anyio
import pytest
import trio

from classify_batch import ExitStatus, Outcome, Settings, UsageError, WorldError, arun, open_run, run, stream
from classify_batch.operations.part_tails import PartTails
from classify_batch.operations.stream import OutcomeStream
from tests.support.command_line import asked
from tests.support.sandbox_settings import IDS, sandbox_settings, small_jobs, two_documents

MANY = [f"file-{number}" for number in range(200)]


def manifest(directory: Path) -> Any:
    """The manifest as it is now."""
    return json.loads((directory / "manifest.json").read_text())


def assert_goes_on(settings: Settings, directory: Path, file_ids: list[str]) -> None:
    """The run was left incomplete with 75, and the same call ends it: one outcome each, nothing sent twice."""
    left = manifest(directory)
    assert (left["state"], left["exit_status"]) == ("incomplete", 75)
    assert open_run(directory).state == "incomplete"  # nobody holds it any more
    result = run(settings, file_ids, directory)
    assert sorted(each.file_id for each in result.outcomes()) == sorted(file_ids)
    # The server's count: a job that was found may be collected without a job of the journal.
    assert asked(settings.api.base_url)["creates_accepted"] == len(file_ids)


def test_every_outcome_is_yielded_while_the_run_is_on(tmp_path: Path, server: str) -> None:
    """Each once, committed when it is yielded; the first ones long before the last job exists."""
    states: set[str] = set()

    async def main() -> tuple[list[Outcome], OutcomeStream]:
        found = []
        async with stream(small_jobs(server), IDS, tmp_path / "run") as outcomes:
            async for outcome in outcomes:
                found.append(outcome)
                states.add(open_run(tmp_path / "run").state)
        return found, outcomes

    found, outcomes = asyncio.run(main())
    assert sorted(each.file_id for each in found) == sorted(IDS)
    assert "running" in states
    assert (outcomes.result.state, outcomes.result.exit_status) == ("complete", ExitStatus.COMPLETE)
    assert found == list(outcomes.result.outcomes())


def test_a_slow_reader_slows_the_creates(tmp_path: Path, server: str) -> None:
    """With one outcome read of two hundred, hardly more jobs are created than may be ahead and in flight."""

    async def main() -> int:
        async with stream(small_jobs(server), MANY, tmp_path / "run", ahead=5) as outcomes:
            await anext(outcomes)
            while open_run(tmp_path / "run").status["jobs"] < 5:
                await asyncio.sleep(0.05)
            await asyncio.sleep(1.5)  # real time: 200 jobs take less without the reader
            jobs = open_run(tmp_path / "run").status["jobs"]
            assert sum([1 async for _ in outcomes]) == len(MANY) - 1
            return jobs

    assert 5 <= asyncio.run(main()) <= 40  # besides those in flight, some have finished and are being collected


class OwnError(Exception):
    """An error of the caller's own."""


Read = Callable[[], Coroutine[Any, Any, None]]
Reached = asyncio.Future[None]


async def leave_by_exception(read: Read, _reached: Reached) -> None:
    """The block raises."""
    with pytest.raises(OwnError):
        await read()


async def leave_by_cancel(read: Read, reached: Reached) -> None:
    """The task of the block is cancelled."""
    task = asyncio.create_task(read())
    await reached
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def leave_by_timeout(read: Read, reached: Reached) -> None:
    """asyncio gives up waiting for the block."""
    task = asyncio.create_task(read())
    await reached
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(task, 0.01)


async def leave_by_cancel_scope(read: Read, reached: Reached) -> None:
    """anyio gives up waiting for the block, and says so again and again."""
    with anyio.CancelScope() as scope:
        reached.add_done_callback(lambda _: scope.cancel())
        await read()
    assert scope.cancelled_caught


LEAVING: dict[str, Callable[[Read, Reached], Coroutine[Any, Any, None]]] = {
    "break": lambda read, _reached: read(),
    "exception": leave_by_exception,
    "cancel": leave_by_cancel,
    "timeout": leave_by_timeout,
    "cancel scope": leave_by_cancel_scope,
}


@pytest.mark.parametrize("way", LEAVING)
def test_leaving_early_stops_like_the_first_sigterm(tmp_path: Path, server: str, way: str) -> None:
    """However the block is left, the run stops, nobody holds it, what was raised passes, and the same call goes on."""
    settings, directory = small_jobs(server), tmp_path / "run"

    async def read(reached: Reached) -> None:
        async with stream(settings, MANY, directory) as outcomes:
            seen = 0
            async for _ in outcomes:
                seen += 1
                if seen == 3 and way == "break":
                    break
                if seen == 3 and way == "exception":
                    raise OwnError
                if seen == 3:
                    reached.set_result(None)
                    await asyncio.sleep(3600)
        assert outcomes.result.exit_status is ExitStatus.INCOMPLETE

    async def main() -> None:
        reached = asyncio.get_running_loop().create_future()
        await LEAVING[way](partial(read, reached), reached)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
    assert_goes_on(settings, directory, MANY)


def test_leaving_waits_for_a_reading_that_cannot_be_interrupted(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that reads outcomes goes on when its task is cancelled: nothing of it is left behind the block, also
    where anyio cancels again and again."""
    begun, ended = Event(), Event()

    def read_slowly(*args: Any) -> PartTails:
        begun.set()
        time.sleep(1.0)  # real time, in a thread
        ended.set()
        return PartTails(*args)

    monkeypatch.setattr("classify_batch.operations.stream.PartTails", read_slowly)

    async def read() -> None:
        async with stream(small_jobs(server), MANY, tmp_path / "run") as outcomes:
            await anext(outcomes)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            assert await anyio.to_thread.run_sync(begun.wait, 30)
            tasks.cancel_scope.cancel()
        assert ended.is_set()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
    assert_goes_on(small_jobs(server), tmp_path / "run", MANY)


@pytest.mark.parametrize("closed", ["by its loop's end", "by another task"])
# A loop that ends cancels tasks of anyio's before their first step, and anyio doesn't close the work in them.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_a_generator_that_is_left_open_leaves_a_run_that_goes_on(tmp_path: Path, server: str, closed: str) -> None:
    """A stream inside of a generator that nobody reads to its end: the run has ended when the loop has."""
    settings, directory = small_jobs(server), tmp_path / "run"

    async def file_ids() -> AsyncIterator[str]:
        async with stream(settings, MANY, directory) as outcomes:
            async for outcome in outcomes:
                yield outcome.file_id

    async def main() -> None:
        generator = file_ids()
        await anext(generator)
        if closed == "by another task":
            await asyncio.create_task(generator.aclose())  # type: ignore[attr-defined]
        else:
            leaked.append(generator)

    leaked: list[object] = []
    asyncio.run(main())
    assert_goes_on(settings, directory, MANY)


def test_a_step_that_is_cancelled_loses_no_outcome(tmp_path: Path, server: str) -> None:
    """Who waits for the next outcome with a timeout, again and again, gets each once."""

    async def main() -> list[str]:
        found: list[str] = []
        async with stream(small_jobs(server), IDS, tmp_path / "run") as outcomes:
            while True:
                try:
                    found.append((await asyncio.wait_for(anext(outcomes), 0.005)).file_id)
                except TimeoutError:
                    continue
                except StopAsyncIteration:
                    return found

    assert sorted(asyncio.run(main())) == sorted(IDS)


def test_a_stream_goes_on_with_a_run_from_its_beginning(tmp_path: Path, server: str) -> None:
    """Outcomes of earlier processes come first; a complete run yields all of them and calls nothing."""
    settings = small_jobs(server)

    async def read(count: int) -> tuple[list[str], OutcomeStream]:
        found: list[str] = []
        async with stream(settings, MANY, tmp_path / "run") as outcomes:
            async for outcome in outcomes:
                found.append(outcome.file_id)
                if len(found) == count:
                    break
        return found, outcomes

    first, _ = asyncio.run(read(3))
    second, _ = asyncio.run(read(-1))
    third, again = asyncio.run(read(-1))
    assert second[:3] == first
    assert sorted(second) == sorted(MANY)
    assert (third, again.result.called) == (second, False)


def test_what_stops_a_call_is_raised_by_the_first_step(tmp_path: Path, server: str) -> None:
    """A bad input, another run's directory, a second process: as `arun` raises them, and no outcome of another run."""
    run(small_jobs(server), IDS[:5], tmp_path / "other")

    async def steps(file_ids: list[str], directory: Path) -> list[Outcome]:
        async with stream(small_jobs(server), file_ids, directory) as outcomes:
            return [each async for each in outcomes]

    with pytest.raises(UsageError, match="space"):
        asyncio.run(steps(["a b"], tmp_path / "new"))
    with pytest.raises(UsageError, match="plan"):
        asyncio.run(steps(MANY, tmp_path / "other"))

    async def twice() -> None:
        async with stream(small_jobs(server), MANY, tmp_path / "run") as outcomes:
            await anext(outcomes)
            with pytest.raises(WorldError):
                await arun(small_jobs(server), MANY, tmp_path / "run")
            with pytest.raises(WorldError):
                await steps(MANY, tmp_path / "run")

    asyncio.run(twice())


def test_wrong_uses_are_refused_in_words(tmp_path: Path) -> None:
    """A stream that wasn't entered, one that was, one under trio, and a result before the end."""

    async def main() -> None:
        unentered = stream(sandbox_settings(), IDS, tmp_path / "run")
        with pytest.raises(UsageError, match="not entered"):
            await anext(unentered)
        async with unentered as outcomes:
            with pytest.raises(UsageError, match="not ended"):
                _ = outcomes.result
            assert len([each async for each in outcomes]) == len(IDS)
        with pytest.raises(UsageError, match="entered before"):
            await unentered.__aenter__()

    asyncio.run(main())
    with pytest.raises(UsageError, match="asyncio"):
        trio.run(stream(sandbox_settings(), IDS, tmp_path / "trio").__aenter__)
    with pytest.raises(UsageError, match="ahead=-1"):
        stream(sandbox_settings(), IDS, tmp_path / "run", ahead=-1)


# --- Following from another process -----------------------------------------------------------------------------------

RUN = """
import sys
from classify_batch import Settings, run
settings = Settings.load(sys.argv[1])
print("started", flush=True)
run(settings, [f"file-{n}" for n in range(200)], sys.argv[2], retry_failed=len(sys.argv) > 3)
"""

CONFIG = """
[api]
base_url = "{base_url}"
timeout_s = 10
[job]
rules = [{{ type = "invoice", description = "has an invoice number and a total" }}]
[plan]
files_per_job = 1
[limits]
jobs_in_flight = 4
requests_per_s = 200.0
settle_s = 1
accept_s = 0
"""


async def start_process(tmp_path: Path, base_url: str) -> asyncio.subprocess.Process:
    """A process that runs a run in `tmp_path / "run"`, once there is a run."""
    (tmp_path / "job.toml").write_text(CONFIG.format(base_url=base_url))
    words = [sys.executable, "-c", RUN, str(tmp_path / "job.toml"), str(tmp_path / "run")]
    process = await asyncio.create_subprocess_exec(*words)
    while not (tmp_path / "run" / "manifest.json").exists():
        await asyncio.sleep(0.01)
    return process


async def stop_with_outcomes(process: asyncio.subprocess.Process, run_dir: Path, count: int) -> None:
    """Stops a process once its run has so many outcomes: who follows then finds it at work, however late that is."""
    journal = run_dir / "journal.jsonl"
    while not journal.exists() or journal.read_bytes().count(b'"collected"') < count:
        await asyncio.sleep(0.01)
    process.send_signal(signal.SIGSTOP)


@pytest.mark.parametrize("kind", ["for", "async for"])
def test_another_process_is_followed_to_its_end(tmp_path: Path, server: str, kind: str) -> None:
    """Each outcome once, the first ones while the run is on, and the loop ends with the run."""
    states: list[str] = []

    def note(process: asyncio.subprocess.Process, outcome: Outcome) -> str:
        if not states:
            states.append(open_run(tmp_path / "run").state)
            os.kill(process.pid, signal.SIGCONT)
        return outcome.file_id

    async def main() -> list[str]:
        process = await start_process(tmp_path, server)
        await stop_with_outcomes(process, tmp_path / "run", 1)
        following = open_run(tmp_path / "run").follow(poll_every_s=0.02)
        if kind == "for":
            found = await asyncio.to_thread(lambda: [note(process, each) for each in following])
        else:
            found = [note(process, each) async for each in following]
        assert await process.wait() == 0
        return found

    assert sorted(asyncio.run(main())) == sorted(MANY)
    assert states == ["running"]


def test_a_killed_run_ends_the_following_and_a_later_one_is_followed_again(tmp_path: Path, server: str) -> None:
    """After SIGKILL it ends with what was committed; what a later process commits is found by the next call."""

    async def main() -> tuple[list[str], list[str]]:
        process = await start_process(tmp_path, server)
        await stop_with_outcomes(process, tmp_path / "run", 10)
        first: list[str] = []
        async for outcome in open_run(tmp_path / "run").follow(poll_every_s=0.02):
            first.append(outcome.file_id)
            if len(first) == 10:
                process.kill()
        await process.wait()
        later = await start_process(tmp_path, server)
        second = [each.file_id async for each in open_run(tmp_path / "run").follow()]
        await later.wait()
        return first, second

    first, second = asyncio.run(main())
    assert 10 <= len(first) == len(set(first)) < len(MANY)
    assert second[: len(first)] == first


def test_a_retry_is_followed(tmp_path: Path) -> None:
    """Failures that a retry puts aside come again with their new outcome, and no line of before is misread."""
    strangers = two_documents(tmp_path / "documents", plan={"files_per_job": 5})
    run(strangers, IDS, tmp_path / "run")
    following = open_run(tmp_path / "run").follow(poll_every_s=0.01)
    seen = iter(following)
    before = [next(seen).file_id for _ in IDS]
    run(strangers, IDS, tmp_path / "run", retry_failed=True)
    after = [each.file_id for each in following]  # a second loop of it: goes on where the first was
    assert sorted(before) == sorted(after) == sorted(IDS)
