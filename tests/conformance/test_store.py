"""What every RunStore must do: one suite, on the disk; in memory and on objects that never change, on both loops."""

from __future__ import annotations

import errno
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from hashlib import sha256
from pathlib import Path

import anyio
import pytest

import classify_batch
from classify_batch.errors import DamagedError, InternalError, LockedError, StoreError
from classify_batch.ports import RunStore
from classify_batch.store.disk import DiskStore
from classify_batch.store.memory import MemoryStore
from classify_batch.vocabulary import Log
from tests.conformance.segment_store import Bucket, SegmentPlace, SegmentStore
from tests.support.leases import LeaseUntil

pytestmark = pytest.mark.anyio

Store = DiskStore | MemoryStore | SegmentStore


def broken_fsync(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


class Disk:
    """Makes stores on one directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self) -> Store:
        return DiskStore(self.path)

    def open_full(self) -> Store:
        return DiskStore(self.path, fsync=broken_fsync)

    def rival(self, store: Store) -> Store:
        return DiskStore(self.path)

    async def again(self, store: Store) -> Store:
        await store.aclose()
        return DiskStore(self.path)

    def leftovers(self) -> list[str]:
        return [entry.name for entry in self.path.iterdir() if entry.name.endswith(".tmp")]


class Memory:
    """Makes stores in memory, with the same verbs."""

    def open(self) -> Store:
        return MemoryStore()

    def open_full(self) -> Store:
        store = MemoryStore()
        store.fail_after(commits=0)
        return store

    def rival(self, store: Store) -> Store:
        return store

    async def again(self, store: Store) -> Store:
        await store.aclose()
        assert isinstance(store, MemoryStore)
        return store.crash()

    def leftovers(self) -> list[str]:
        return []


class Objects:
    """Makes stores on objects that never change."""

    def __init__(self, root: Path) -> None:
        self.place = SegmentPlace(root)

    def open(self) -> Store:
        return self.place.open()

    def open_full(self) -> Store:
        return SegmentStore(Bucket(self.place.root, full=True), self.place.where)

    def rival(self, store: Store) -> Store:
        return self.place.open()

    async def again(self, store: Store) -> Store:
        await store.aclose()
        return self.place.open()

    def leftovers(self) -> list[str]:
        return []


Medium = Disk | Memory | Objects

PLACES = [("disk", "asyncio"), *((kind, loop) for kind in ("memory", "objects") for loop in ("asyncio", "trio"))]


@pytest.fixture(params=PLACES, ids="-".join)
def place(request: pytest.FixtureRequest) -> tuple[str, str]:
    kind, backend = request.param
    return kind, backend


@pytest.fixture
def anyio_backend(place: tuple[str, str]) -> str:
    return place[1]


@pytest.fixture
def medium(place: tuple[str, str], tmp_path: Path) -> Medium:
    match place[0]:
        case "disk":
            return Disk(tmp_path)
        case "memory":
            return Memory()
        case _:
            return Objects(tmp_path / "bucket")


@pytest.fixture
async def store(medium: Medium, anyio_backend: str) -> AsyncIterator[Store]:
    async with medium.open() as opened:
        yield opened


async def blocks(*data: bytes) -> AsyncIterator[bytes]:
    for block in data:
        yield block


async def collect(store: RunStore, name: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([block async for block in store.stream(name, start, end)])


# --- Logs ---------------------------------------------------------------------------------------------------


async def test_what_was_committed_is_there_again(store: Store, medium: Medium) -> None:
    """What was appended and committed is read back by the next process."""
    store.append(Log.JOURNAL, b"one\n")
    store.append(Log.JOURNAL, b"two\n")
    await store.commit()
    again = await medium.again(store)
    assert await again.read(Log.JOURNAL) == b"one\ntwo\n"


async def test_closing_commits_what_is_left(store: Store, medium: Medium) -> None:
    """What was appended and never committed is durable after an orderly close."""
    store.append(Log.RESULTS, b"late\n")
    again = await medium.again(store)
    assert await again.read(Log.RESULTS) == b"late\n"


async def test_offsets_count_what_is_not_yet_durable(store: Store) -> None:
    """`append` returns where the bytes will lie, log by log, also before anything is written."""
    assert store.append(Log.RESULTS, b"12345") == 0
    assert store.append(Log.FAILURES, b"123") == 0
    assert store.append(Log.RESULTS, b"") == 5
    assert store.append(Log.RESULTS, b"678") == 5
    await store.commit()
    assert store.append(Log.RESULTS, b"9") == 8


async def test_offsets_go_on_after_reopening(store: Store, medium: Medium) -> None:
    """The first append of the next process begins where it opens the log."""
    store.append(Log.JOURNAL, b"one\n")
    async with await medium.again(store) as again:
        await again.open_log(Log.JOURNAL, 4)
        assert again.append(Log.JOURNAL, b"two\n") == 4
        await again.commit()
        assert await again.read(Log.JOURNAL) == b"one\ntwo\n"


async def test_many_tasks_commit_at_once(store: Store) -> None:
    """Each of many waiting tasks finds its own bytes at its own offset, in the order of the calls."""
    offsets: list[int] = []

    async def record(number: int) -> None:
        for turn in range(5):
            data = b"%03d %d\n" % (number, turn)
            offset = store.append(Log.JOURNAL, data)
            offsets.append(offset)
            await store.commit()
            assert await store.read(Log.JOURNAL, offset, offset + len(data)) == data

    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(record, number)
    assert offsets == [6 * place for place in range(500)]


async def test_a_cancelled_waiter_takes_nobody_with_it(store: Store) -> None:
    """A task cancelled while it waits for a commit leaves the others waiting, and its bytes are written."""

    async def append_and_commit() -> None:
        store.append(Log.JOURNAL, b"one\n")
        await store.commit()

    async with anyio.create_task_group() as others:
        with anyio.CancelScope() as scope:
            others.start_soon(append_and_commit)
            store.append(Log.JOURNAL, b"two\n")
            scope.cancel()
            await store.commit()
        assert scope.cancelled_caught
    await store.commit()
    assert sorted((await store.read(Log.JOURNAL)).split()) == [b"one", b"two"]


async def test_a_commit_of_nothing_returns(store: Store) -> None:
    """A commit with nothing to wait for returns."""
    with anyio.fail_after(120):
        await store.commit()


async def test_a_failed_commit_is_final(medium: Medium, anyio_backend: str) -> None:
    """After a commit failed, every waiter, every later commit and append raise StoreError with a hint."""
    errors: list[StoreError] = []

    async def record(store: Store) -> None:
        store.append(Log.JOURNAL, b"one\n")
        with pytest.raises(StoreError) as raised:
            await store.commit()
        errors.append(raised.value)

    async with medium.open_full() as store:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(record, store)
        with pytest.raises(StoreError):
            store.append(Log.RESULTS, b"two\n")
        with pytest.raises(StoreError):
            await store.commit()
    assert len(set(map(id, errors))) == 3
    assert all(error.hint and ".jsonl" in str(error) for error in errors)


async def test_a_closed_store_takes_nothing(store: Store) -> None:
    """An append or commit after the close is a fault of ours, and said at once."""
    await store.aclose()
    with pytest.raises(InternalError):
        store.append(Log.JOURNAL, b"one\n")
    with pytest.raises(InternalError):
        await store.commit()


async def test_a_log_that_was_not_opened_is_a_new_one(store: Store, medium: Medium) -> None:
    """It begins at 0; and where there was one, its bytes stay, and the commit fails."""
    store.append(Log.JOURNAL, b"one\n")
    async with await medium.again(store) as again:
        assert again.append(Log.JOURNAL, b"two\n") == 0
        with pytest.raises(StoreError, match="somebody else writes to it"):
            await again.commit()
        assert await again.read(Log.JOURNAL) == b"one\n"


async def test_a_log_goes_on_behind_a_whole_file(store: Store) -> None:
    """What was written whole is the beginning of a log, once the log is opened behind it."""
    await store.replace(Log.RESULTS, blocks(b"reused\n", b"torn"))
    await store.open_log(Log.RESULTS, 7)
    assert store.append(Log.RESULTS, b"new\n") == 7
    await store.commit()
    assert await store.read(Log.RESULTS) == b"reused\nnew\n"


async def test_a_log_is_opened_anew_until_it_is_appended_to(store: Store, medium: Medium) -> None:
    """What counts is the last end before the first append."""
    store.append(Log.FAILURES, b"one\ntwo\n")
    async with await medium.again(store) as again:
        await again.open_log(Log.FAILURES, 8)
        await again.open_log(Log.FAILURES, 0)
        assert again.append(Log.FAILURES, b"three\n") == 0
        await again.commit()
        assert await again.read(Log.FAILURES) == b"three\n"


async def test_opening_cuts_a_log_back(store: Store, medium: Medium) -> None:
    """A log is cut back to the end that is asked for, and appending goes on from there."""
    store.append(Log.RESULTS, b"kept\ntorn")
    async with await medium.again(store) as again:
        await again.open_log(Log.RESULTS, 5)
        assert await again.size(Log.RESULTS) == 5
        assert again.append(Log.RESULTS, b"new\n") == 5
        await again.commit()
        assert await again.read(Log.RESULTS) == b"kept\nnew\n"


async def test_opening_is_for_the_beginning(store: Store) -> None:
    """A log that was appended to is not opened again."""
    store.append(Log.RESULTS, b"one\n")
    with pytest.raises(InternalError):
        await store.open_log(Log.RESULTS, 0)


async def test_opening_never_lengthens(store: Store) -> None:
    """A log shorter than what was committed is damage; one that never was is opened at its beginning."""
    await store.open_log(Log.FAILURES, 0)
    assert await store.size(Log.FAILURES) is None
    with pytest.raises(DamagedError):
        await store.open_log(Log.FAILURES, 1)


# --- Whole files --------------------------------------------------------------------------------------------


async def test_replace_writes_a_file_whole(store: Store) -> None:
    """A replaced file holds all blocks of the last replacement and nothing else."""
    await store.replace("plan.jsonl", blocks(b"a much longer first version"))
    await store.replace("plan.jsonl", blocks(b"one\n", b"", b"two\n"))
    assert await store.read("plan.jsonl") == b"one\ntwo\n"


async def test_a_failing_producer_leaves_the_old_file(store: Store, medium: Medium) -> None:
    """When the blocks break off, the old file stays, nothing half-written is left, and the error is theirs."""

    async def breaks_off() -> AsyncIterator[bytes]:
        yield b"new"
        raise FileNotFoundError("the producer's own")

    await store.replace("run.json", blocks(b"old"))
    with pytest.raises(FileNotFoundError, match="the producer's own"):
        await store.replace("run.json", breaks_off())
    assert await store.read("run.json") == b"old"
    assert not medium.leftovers()


async def test_a_cancelled_replace_leaves_the_old_file(store: Store, medium: Medium) -> None:
    """When a replacement is cancelled between two blocks, the old file stays and nothing is left beside."""
    with anyio.CancelScope() as scope:

        async def is_cancelled() -> AsyncIterator[bytes]:
            yield b"new"
            scope.cancel()
            await anyio.sleep_forever()

        await store.replace("run.json", blocks(b"old"))
        await store.replace("run.json", is_cancelled())
    assert await store.read("run.json") == b"old"
    assert not medium.leftovers()


async def test_create_refuses_a_name_that_is_taken(store: Store, medium: Medium) -> None:
    """A second create of a name raises FileExistsError and changes nothing."""
    await store.create("epoch.1", b"mine")
    with pytest.raises(FileExistsError):
        await store.create("epoch.1", b"yours")
    assert await store.read("epoch.1") == b"mine"
    assert not medium.leftovers()


async def test_a_file_is_taken_away(store: Store, medium: Medium) -> None:
    """Its name is free again; and where there is none, nothing happens."""
    await store.create("tune.json", b"{}")
    await store.remove("tune.json")
    await store.remove("tune.json")
    assert await store.size("tune.json") is None
    await store.create("tune.json", b"again")
    assert await store.read("tune.json") == b"again"
    assert not medium.leftovers()


async def test_one_of_two_racing_creates_wins(store: Store) -> None:
    """When many create the same name at once, exactly one succeeds, and the file is the winner's."""
    winners: list[bytes] = []

    async def claim(data: bytes) -> None:
        try:
            await store.create("epoch.1", data)
        except FileExistsError:
            return
        winners.append(data)

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(claim, b"%d" % number)
    assert [await store.read("epoch.1")] == winners


# --- Reading ------------------------------------------------------------------------------------------------


async def test_reading_a_range(store: Store) -> None:
    """`read` and `stream` give the bytes from start to end, and no more than there are."""
    await store.create("plan.jsonl", b"0123456789")
    for start, end in [(0, None), (3, 7), (3, None), (3, 3), (5, 100), (100, None)]:
        assert await store.read("plan.jsonl", start, end) == b"0123456789"[start:end]
        assert await collect(store, "plan.jsonl", start, end) == b"0123456789"[start:end]


async def test_a_missing_file(store: Store) -> None:
    """A missing file has no size, and reading it raises FileNotFoundError."""
    assert await store.size("run.json") is None
    with pytest.raises(FileNotFoundError):
        await store.read("run.json")
    with pytest.raises(FileNotFoundError):
        await collect(store, "run.json")


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
async def test_the_hash_of_a_file_is_that_of_its_bytes(store: Store, size: int) -> None:
    """Whatever its size; a file that isn't there hashes as an empty one."""
    data = bytes(range(256)) * (size // 256) + b"!" * (size % 256)
    await store.create("manifest.json", data)
    assert await store.sha256("manifest.json") == sha256(data).hexdigest()
    assert await store.sha256("plan.jsonl") == sha256().hexdigest()


async def test_names_and_sizes(store: Store) -> None:
    """`names` lists the run's files, whole ones and logs, without the lock; `size` counts their bytes."""
    assert await store.names() == frozenset()
    async with store.lock():
        await store.create("run.json", b"{}")
        store.append(Log.JOURNAL, b"one\n")
        await store.commit()
        assert await store.names() == {"run.json", "journal.jsonl"}
    assert [await store.size(name) for name in ("run.json", "journal.jsonl")] == [2, 4]


# --- The lock -----------------------------------------------------------------------------------------------


async def test_a_held_run_is_refused_and_free_afterwards(store: Store, medium: Medium) -> None:
    """While one holds the run all others are refused, in the holder's words; afterwards it is free."""
    async with store.lock():
        assert await store.holder() is not None
        for _ in range(2):
            with pytest.raises(LockedError, match=r"is in use by process \d+ on .+ since 20") as raised:
                async with medium.rival(store).lock():
                    pass
            assert raised.value.hint
    assert await store.holder() is None
    async with medium.rival(store).lock():
        pass


async def test_the_lock_is_free_after_an_error(store: Store, medium: Medium) -> None:
    """The lock is given up also when what it guards fails."""

    async def fail() -> None:
        async with store.lock():
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with medium.rival(store).lock():
        pass


# --- The fence ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("contested", [True, False])
async def test_nothing_is_written_once_the_lease_has_ended(store: Store, contested: bool) -> None:
    """While it is valid all goes on as without one. Then every write is refused, and all stays as it was."""
    valid = True
    await store.prepare()
    async with store.lock():
        await store.create("run.json", b"{}")
        await store.fence(LeaseUntil(lambda: valid), "it is another process's", contested=contested)
        await store.open_log(Log.RESULTS, 0)
        store.append(Log.RESULTS, b"one\n")
        store.append(Log.JOURNAL, b"1\n")
        await store.commit()
        await store.replace("manifest.json", blocks(b"running"))
        await store.append_undurable("events.jsonl", b"1\n")
        before = {name: await store.read(name) for name in await store.names()}
        valid = False
        writes: list[Callable[[], Awaitable[object]]] = [
            partial(store.create, "plan.jsonl", b""),
            partial(store.replace, "manifest.json", blocks(b"complete")),
            partial(store.remove, "run.json"),
            partial(store.append_undurable, "events.jsonl", b"2\n"),
            partial(store.rename, "run.json", "other.json"),
            partial(store.open_log, Log.FAILURES, 0),
        ]
        for write in writes:
            with pytest.raises(StoreError, match="another process's"):
                await write()
        store.append(Log.RESULTS, b"two\n")
        store.append(Log.JOURNAL, b"2\n")
        with pytest.raises(StoreError, match="another process's"):
            await store.commit()
    assert {name: await store.read(name) for name in await store.names()} == before
    assert before.keys() == {"run.json", "manifest.json", "events.jsonl", Log.RESULTS, Log.JOURNAL}


async def test_a_lease_that_ends_in_the_middle_of_a_write_ends_it(store: Store, medium: Medium) -> None:
    """It is asked behind all waiting: a process that was stopped while it wrote a file gives that file no name."""
    valid = True

    async def end_meanwhile() -> AsyncIterator[bytes]:
        nonlocal valid
        yield b"run"
        valid = False
        yield b"ning"

    await store.prepare()
    await store.create("manifest.json", b"complete")
    await store.fence(LeaseUntil(lambda: valid), "it is another process's", contested=True)
    with pytest.raises(StoreError, match="another process's"):
        await store.replace("manifest.json", end_meanwhile())
    assert await store.read("manifest.json") == b"complete"
    assert medium.leftovers() == []


# --- The port -----------------------------------------------------------------------------------------------


def test_all_fit_the_port(tmp_path: Path) -> None:
    """The type checker, and this line, hold the stores against the port."""
    makers: list[Callable[[], RunStore]] = [lambda: DiskStore(tmp_path), MemoryStore, SegmentPlace(tmp_path).open]
    assert all(maker().where for maker in makers)


def test_there_is_one_way_to_a_store() -> None:
    """Nobody outside the medium's own room makes a store: they open the place that they are given."""
    package = Path(classify_batch.__file__).parent
    others = [path for path in package.rglob("*.py") if path.parent.name != "store"]
    makers = [
        path.name for path in others if re.search(r"\b(DiskStore|DiskReader|DiskPlace|MemoryStore)\b", path.read_text())
    ]
    assert makers == []
