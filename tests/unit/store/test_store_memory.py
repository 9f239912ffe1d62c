"""The twin's own talents: power cuts at any moment, a full medium, slow commits in virtual time."""

from __future__ import annotations

from random import Random

import anyio
import pytest

from classify_batch.errors import StoreError
from classify_batch.store.memory import MemoryStore
from classify_batch.vocabulary import Log

pytestmark = [pytest.mark.anyio, pytest.mark.any_loop]


async def test_a_crash_takes_what_was_not_committed() -> None:
    """After a power cut the committed bytes are there and, at the least, no others."""
    store = MemoryStore({"run.json": b"{}"})
    store.append(Log.JOURNAL, b"durable\n")
    await store.commit()
    store.append(Log.JOURNAL, b"lost\n")
    assert store.crash().files == {"run.json": b"{}", "journal.jsonl": b"durable\n"}
    assert store.crash(max).files["journal.jsonl"] == b"durable\nlost\n"


@pytest.mark.parametrize("seed", range(50))
async def test_no_crash_leaves_a_journal_without_its_data(seed: int) -> None:
    """Whatever part of the pending bytes survives, a byte of the journal never survives the data before it."""
    store = MemoryStore()
    random = Random(seed)
    for _ in range(10):
        log = random.choice([Log.RESULTS, Log.FAILURES])
        end = store.append(log, b"x" * random.randint(1, 9))
        store.append(Log.JOURNAL, f"{log} {end}\n".encode())
        if random.random() < 0.2:
            await store.commit()
    found = store.crash(random.randint).files
    for line in found.get("journal.jsonl", b"").decode().splitlines(keepends=True):
        if line.endswith("\n"):
            name, offset = line.split()
            assert len(found[name]) > int(offset)


async def test_a_full_medium_takes_what_fits() -> None:
    """With room for some bytes only, what fits is written, data before journal, and the commit fails for good."""
    store = MemoryStore()
    store.fail_after(bytes_written=10)
    store.append(Log.JOURNAL, b"fact\n")
    store.append(Log.RESULTS, b"result\n")
    with pytest.raises(StoreError, match="No space left"):
        await store.commit()
    with pytest.raises(StoreError):
        store.append(Log.JOURNAL, b"fact\n")
    assert store.crash(max).files == {"results.jsonl": b"result\n", "journal.jsonl": b"fac"}


async def test_a_full_medium_takes_no_whole_files() -> None:
    """A file that doesn't fit is not there at all, and one that fits still is."""
    store = MemoryStore()
    store.fail_after(bytes_written=3)
    with pytest.raises(StoreError):
        await store.create("plan.jsonl", b"too long")
    await store.create("run.json", b"{}")
    assert store.files == {"run.json": b"{}"}


async def test_the_medium_fails_after_the_given_number_of_commits() -> None:
    """The medium fails after the given number of commits; what comes after a crash is sound again."""
    store = MemoryStore()
    store.fail_after(commits=1)
    store.append(Log.JOURNAL, b"one\n")
    await store.commit()
    store.append(Log.JOURNAL, b"two\n")
    with pytest.raises(StoreError):
        await store.commit()
    found = store.crash()
    await found.open_log(Log.JOURNAL, 4)
    found.append(Log.JOURNAL, b"again\n")
    await found.commit()
    assert found.files == {"journal.jsonl": b"one\nagain\n"}


async def test_a_commit_takes_its_time() -> None:
    """While a commit takes `commit_s`, what is appended behind it is not part of it."""
    store = MemoryStore(commit_s=0.01)
    store.append(Log.JOURNAL, b"one\n")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.commit)
        await anyio.wait_all_tasks_blocked()
        store.append(Log.JOURNAL, b"two\n")
    assert store.files == {"journal.jsonl": b"one\n"}
