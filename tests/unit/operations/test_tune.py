"""`tune` and the file by which it speaks: each takes its own answer, and removes its own file only."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from classify_batch.errors import WorldError
from classify_batch.operations.tune import tune
from classify_batch.rundir.requests import claim_request, encode_request, finish_request, is_open, take_back
from classify_batch.settings.limit_changes import Tuning
from classify_batch.store.disk import DiskStore
from classify_batch.store.lock import hold
from classify_batch.store.memory import MemoryStore
from classify_batch.vocabulary import TUNE_JSON

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]

FASTER = Tuning(jobs_in_flight=50)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "run.json").write_text("{}")
    return tmp_path


async def until_there(path: Path) -> bytes:
    """The bytes of a file, once it is there."""
    while not path.exists():
        await anyio.sleep(0.001)
    return path.read_bytes()


def test_each_file_is_its_own_and_says_what_it_says() -> None:
    """Two that change the same limits differ in blanks, which readers of JSON pass over."""
    first, second = encode_request(FASTER.changed_limits()), encode_request(FASTER.changed_limits())
    assert first != second
    assert json.loads(first) == json.loads(second) == {"jobs_in_flight": 50}
    assert Tuning.model_validate_json(first) == Tuning.model_validate_json(second) == FASTER


async def test_another_file_in_the_place_of_ours_stays() -> None:
    """What is removed is the file that was read, and no other one that says the same."""
    ours, theirs = encode_request(FASTER.changed_limits()), encode_request(FASTER.changed_limits())
    store = MemoryStore({TUNE_JSON: theirs})
    assert not await take_back(store, TUNE_JSON, ours)
    assert await store.read(TUNE_JSON) == theirs
    assert not await is_open(store, TUNE_JSON, ours)
    assert await take_back(store, TUNE_JSON, theirs)
    assert not await take_back(store, TUNE_JSON, theirs)
    assert await store.size(TUNE_JSON) is None


async def test_tune_takes_the_next_ones_file_for_its_answer(run_dir: Path) -> None:
    """The process took our limits, and another `tune` put the same ones there at once: we are done, and its file
    stays. It was waited for, and removed in the end."""
    async with hold(run_dir), anyio.create_task_group() as tasks:
        done = anyio.Event()

        async def ours() -> None:
            await tune(run_dir, FASTER, timeout_s=20)
            done.set()

        tasks.start_soon(ours)
        await until_there(run_dir / TUNE_JSON)
        theirs = encode_request(FASTER.changed_limits())
        async with DiskStore(run_dir) as store:
            # As if both happened between two looks of ours: one step, so that no look falls between them.
            (run_dir / "next").write_bytes(theirs)
            (run_dir / "next").replace(run_dir / TUNE_JSON)
            with anyio.fail_after(120):
                await done.wait()
            assert await store.read(TUNE_JSON) == theirs


async def test_a_tune_without_an_answer_removes_its_file(run_dir: Path) -> None:
    """Nobody takes the limits up: an error, and they are not applied later."""
    async with hold(run_dir):
        with pytest.raises(WorldError, match="did not answer"):
            await tune(run_dir, FASTER, timeout_s=0.2)
    assert not (run_dir / TUNE_JSON).exists()


async def test_a_second_tune_waits_for_the_first(run_dir: Path) -> None:
    """Its limits come in the place of the first one's once these are applied; without that it ends with an error, and
    the first one's file stays."""
    theirs = encode_request({"paused": True})
    (run_dir / TUNE_JSON).write_bytes(theirs)
    async with hold(run_dir):
        with pytest.raises(WorldError, match="another `tune` is waiting"):
            await tune(run_dir, FASTER, timeout_s=0.2)
        assert (run_dir / TUNE_JSON).read_bytes() == theirs
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tune, run_dir, FASTER)
            await anyio.sleep(0.1)
            (run_dir / TUNE_JSON).unlink()
            await until_there(run_dir / TUNE_JSON)
            (run_dir / TUNE_JSON).unlink()


async def test_a_process_that_starts_is_not_taken_for_an_answer(run_dir: Path) -> None:
    """The process ended, and the next one removed the file, as each start does: nobody took the limits up."""
    async with anyio.create_task_group() as tasks:
        async with hold(run_dir):
            failed = anyio.Event()

            async def ask() -> None:
                with pytest.raises(WorldError, match="has ended, perhaps before it took the limits up"):
                    await tune(run_dir, FASTER)
                failed.set()

            tasks.start_soon(ask)
            await until_there(run_dir / TUNE_JSON)
        (run_dir / TUNE_JSON).unlink()
        with anyio.fail_after(120):
            await failed.wait()


@pytest.mark.parametrize("interrupted", ["before", "after", "when done"])
async def test_an_interrupted_tune_says_what_is_true(run_dir: Path, interrupted: str) -> None:
    """Before the process has begun to take the limits up, they are taken back; from then on they are changed, and that
    is said, though a signal came."""
    store, changed = DiskStore(run_dir), False
    async with hold(run_dir), anyio.create_task_group() as tasks:
        scope, ended = anyio.CancelScope(), anyio.Event()

        async def ours() -> None:
            nonlocal changed
            with scope:
                await tune(run_dir, FASTER, timeout_s=60)
                changed = True
            ended.set()

        tasks.start_soon(ours)
        await until_there(run_dir / TUNE_JSON)
        if interrupted == "before":
            scope.cancel()
            await ended.wait()
            assert await claim_request(store, TUNE_JSON) is None
        else:
            assert Tuning.model_validate_json(await claim_request(store, TUNE_JSON) or b"") == FASTER
            if interrupted == "after":
                scope.cancel()
                await anyio.sleep(0.2)
                assert not ended.is_set()
            await finish_request(store, TUNE_JSON)
            scope.cancel()
            await ended.wait()
    assert changed == (interrupted != "before")
    assert {each.name for each in run_dir.iterdir()} == {"run.json", "lock"}
