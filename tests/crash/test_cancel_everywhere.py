"""A task that runs `arun` is cancelled in one turn of the event loop after the other: whatever phase it is in."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from classify_batch import RunResult, Settings, arun
from classify_batch.operations.shards.verify_run import verify_run
from classify_batch.sandbox import App, Faults, Options, open_sandbox, serve_in_loop
from classify_batch.sandbox.jobs.job_table import count_billed

FILE_IDS = [f"file-{number}" for number in range(9)]
FAULTS = {"lost_create_answer": 0.1, "read_503": 0.05, "rate_429": 0.05, "retry_after_s": 0.01}
RULES = [{"type": "invoice", "description": "has line items and a total"}]
SETTLE_S = 0.2
TIMEOUT_S = 0.5
SAMPLES = 12


class Turns(asyncio.SelectorEventLoop):
    """An event loop that counts its turns, and can do something in one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.count(0, lambda: None)

    def count(self, turn: int, act: Callable[[], object]) -> None:
        """Counts from 0 again; calls `act` in the `turn`-th."""
        self.turns = 0
        self._turn = turn
        self._act = act

    def _run_once(self) -> None:
        self.turns += 1
        if self.turns == self._turn:
            self._act()
        super()._run_once()  # type: ignore[misc]  # every loop of the standard library has it


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=Turns) as runner:
        yield runner


def turns_of(runner: asyncio.Runner) -> Turns:
    loop = runner.get_loop()
    assert isinstance(loop, Turns)
    return loop


async def run(base_url: str, run_dir: Path) -> RunResult:
    settings = Settings(
        api={"base_url": base_url, "timeout_s": TIMEOUT_S},
        job={"rules": RULES},
        plan={"files_per_job": 3},
        limits={"jobs_in_flight": 2, "requests_per_s": 2000.0, "settle_s": SETTLE_S, "accept_s": 0.0},
    )
    return await arun(settings, FILE_IDS, run_dir)


async def cancelled_and_taken_up(loop: Turns, app: App, run_dir: Path, turn: int) -> int:
    """A run, cancelled in a turn (0: never), and the same call again. Returns the turns that the first one took."""
    async with serve_in_loop(app) as base_url:
        task = asyncio.create_task(run(base_url, run_dir))
        loop.count(turn, task.cancel)
        with suppress(asyncio.CancelledError):
            await task
        turns = loop.turns
        if (run_dir / "run.json").exists():
            assert (await verify_run(run_dir)).errors == []
        result = await run(base_url, run_dir)
        assert result.counts["failed"] == 0
        found = await verify_run(run_dir)
        assert found.complete
        assert found.errors == []
        assert sorted(line["file_id"] for line in result.results()) == sorted(FILE_IDS)
        assert count_billed(app.job_table) == Counter(FILE_IDS), f"cancelled in turn {turn}"
    return turns


@pytest.mark.slow
def test_cancelled_in_any_turn_of_the_loop_it_goes_on(
    runner: asyncio.Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While planning, submitting, polling, collecting, reconciling, closing: sound, then complete, paid once."""
    monkeypatch.setenv("LLAMA_CLOUD_API_KEY", "sandbox")

    def case(turn: int) -> int:
        with open_sandbox(
            Options.from_values(seed=turn, job_duration_s=0.02, faults=Faults.from_values(FAULTS, "test"))
        ) as app:
            return runner.run(cancelled_and_taken_up(turns_of(runner), app, tmp_path / str(turn), turn))

    turns = case(0)
    for number in range(SAMPLES):
        case(1 + number * turns // SAMPLES)
