"""What only a disk has: directories, modes, temporary files, refusals."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path

import pytest

from classify_batch.errors import ExitStatus, InternalError, LockedError, RunDirectoryError, StoreError
from classify_batch.store.atomic_file import TEMPORARY, beside, give_new_name, replace_file
from classify_batch.store.disk import DiskStore, sweep_unless_held
from classify_batch.store.holder import LOCK, read_holder
from classify_batch.store.lock import hold
from classify_batch.streams.blocks import BLOCK_BYTES
from classify_batch.vocabulary import Log
from tests.support.copies import copy_with_times
from tests.support.leases import LeaseUntil

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]


async def blocks(*data: bytes) -> AsyncIterator[bytes]:
    for block in data:
        yield block


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_what_we_create_is_its_owners_only(tmp_path: Path) -> None:
    """New directories are 0700 and new files 0600; directories that exist stay as they are."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    run = shared / "nights" / "monday"
    async with DiskStore(run) as store:
        await store.prepare()
        async with store.lock():
            await store.replace("run.json", blocks(b"{}"))
            await store.create("epoch.1", b"")
            store.append(Log.JOURNAL, b"fact\n")
            await store.commit()
    assert [mode(path) for path in (shared, shared / "nights", run)] == [0o755, 0o700, 0o700]
    assert {mode(path) for path in run.iterdir()} == {0o600}
    assert {path.name for path in run.iterdir()} == {"run.json", "epoch.1", "journal.jsonl", "lock"}
    run.chmod(0o750)
    await DiskStore(run).prepare()
    assert mode(run) == 0o750


async def test_a_file_is_not_a_run_directory(tmp_path: Path) -> None:
    """A path that is a file, or lies below one, is refused with status 2, path, reason and hint."""
    file = tmp_path / "file"
    file.write_bytes(b"mine")
    for path in (file, file / "below"):
        with pytest.raises(RunDirectoryError, match=str(path)) as raised:
            await DiskStore(path).prepare()
        assert raised.value.exit_status == ExitStatus.USAGE
        assert raised.value.hint
    assert file.read_bytes() == b"mine"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc takes no files, even from root")
async def test_a_directory_that_takes_no_files(tmp_path: Path) -> None:
    """A directory that can't be written to is refused, also below it, also for root."""
    for path in (Path("/proc"), Path("/proc/below")):
        with pytest.raises(RunDirectoryError, match=str(path)):
            await DiskStore(path).prepare()


async def test_reading_creates_nothing(tmp_path: Path) -> None:
    """A store that only looks creates neither the directory nor anything in it."""
    store = DiskStore(tmp_path / "nowhere")
    assert await store.names() == frozenset()
    assert await store.size("run.json") is None
    assert await store.holder() is None
    assert list(tmp_path.iterdir()) == []


async def test_what_was_made_for_nothing_is_taken_away(tmp_path: Path) -> None:
    """Folders and the lock, where no file was added while it was held; what was there before stays."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").touch()
    for run in (tmp_path / "nights" / "monday", mine):
        async with DiskStore(run) as store:
            await store.prepare()
            async with store.lock():
                await store.create("plan.jsonl", b"")
                await store.remove("plan.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert [path.name for path in mine.iterdir()] == ["notes.txt"]
    async with DiskStore(mine) as store:
        await store.prepare()
        async with store.lock():
            await store.create("run.json", b"{}")
    assert {path.name for path in mine.iterdir()} == {"notes.txt", "run.json", "lock"}


async def test_the_next_holder_removes_half_written_files(tmp_path: Path) -> None:
    """What a killed process left half-written is gone once the lock is held; other hidden files stay."""
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    # In a container, each process after the other may have the ID 1.
    of_dead = (f".run.json.{dead.pid}.0123abcd.tmp", f".run.json.{os.getpid()}.0123abcd.tmp", ".a.0.0123abcd.tmp")
    for name in (*of_dead, f".x.{9**30}.0123abcd.tmp", ".epoch.1.claim.tmp", ".mine.tmp", ".gitignore", "run.tmp"):
        (tmp_path / name).write_bytes(b"")
    async with DiskStore(tmp_path).lock():
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".gitignore", ".mine.tmp", "lock", "run.tmp"]


async def test_the_next_holder_leaves_alone_what_a_live_process_writes(tmp_path: Path) -> None:
    """A report or an export into a run directory is written without the lock, by this process or another."""
    own = beside(tmp_path / "report.html")
    other = tmp_path / f".all.csv.{os.getppid()}.0123abcd.tmp"
    for path in (own, other):
        path.write_bytes(b"half of it")
    async with DiskStore(tmp_path).lock():
        pass
    await sweep_unless_held(tmp_path)
    assert {own, other} <= set(tmp_path.iterdir())


async def test_names_beside_are_never_given_twice(tmp_path: Path) -> None:
    """Two files that one process writes at once don't meet."""
    assert len({beside(tmp_path / "x") for _ in range(1000)}) == 1000


@pytest.mark.parametrize("name", ["n" * 255, "n" * 231, "ä" * 127 + "n", "文" * 85, "\udcff" * 255])
async def test_a_name_as_long_as_may_be_can_be_written(tmp_path: Path, name: str) -> None:
    """The name beside is no longer than that either, is whole in characters, and is known as a temporary file's."""
    path = tmp_path / name
    temporary = beside(path)
    assert len(os.fsencode(temporary.name)) <= 255
    assert TEMPORARY.fullmatch(temporary.name)
    temporary.name.encode()
    await replace_file(path, blocks(b"one", b"two"))
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [(name, b"onetwo")]


async def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """Before anything is written."""
    with pytest.raises(RunDirectoryError, match="File name too long"):
        await replace_file(tmp_path / ("n" * 256), blocks(b"one"))
    assert list(tmp_path.iterdir()) == []


async def test_nothing_is_swept_that_somebody_holds(tmp_path: Path) -> None:
    """Nor is anything touched where nothing was left, or no directory is."""
    left = tmp_path / ".a.0.0123abcd.tmp"
    left.write_bytes(b"")
    async with hold(tmp_path):
        await sweep_unless_held(tmp_path)
        assert left.exists()
    await sweep_unless_held(tmp_path)
    assert not left.exists()
    moment = tmp_path.stat().st_mtime_ns
    await sweep_unless_held(tmp_path)
    assert tmp_path.stat().st_mtime_ns == moment
    await sweep_unless_held(tmp_path / "missing")
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


async def test_a_failed_fsync_keeps_the_old_file(tmp_path: Path) -> None:
    """When the new file can't be made durable, the old one stays and nothing is left beside."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "run.json").write_bytes(b"old")
    store = DiskStore(tmp_path, fsync=full)
    with pytest.raises(StoreError, match=r"run\.json: No space left on device") as raised:
        await store.replace("run.json", blocks(b"new"))
    assert "room" in raised.value.hint
    with pytest.raises(StoreError):
        await store.create("epoch.1", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert (tmp_path / "run.json").read_bytes() == b"old"


FILLS_UP = """
import asyncio, resource, sys
from pathlib import Path
from classify_batch.errors import StoreError
from classify_batch.store.disk import DiskStore, sweep_unless_held
from classify_batch.store.lock import hold

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

async def blocks():
    for _ in range(3):
        yield b"x" * 900

async def main():
    try:
        await DiskStore(Path(sys.argv[1])).replace("plan.jsonl", blocks())
    except StoreError as error:
        print(error)

asyncio.run(main())
"""


def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    """When the system takes no more bytes in the middle of a file, the old one stays, with nothing beside."""
    (tmp_path / "plan.jsonl").write_bytes(b"old")
    answer = subprocess.run(
        [sys.executable, "-c", FILLS_UP, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert "File too large" in answer.stdout
    assert not answer.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["plan.jsonl"]
    assert (tmp_path / "plan.jsonl").read_bytes() == b"old"


async def test_the_file_is_durable_before_its_name_and_the_name_before_the_return(tmp_path: Path) -> None:
    """Replacing fsyncs the file while its name is still old, then the directory when it is new."""
    seen: list[tuple[bool, bool]] = []

    def look(descriptor: int) -> None:
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        seen.append((is_directory, (tmp_path / "run.json").exists()))

    await DiskStore(tmp_path, fsync=look).replace("run.json", blocks(b"{}"))
    assert seen == [(False, False), (True, True)]


NO_HARD_LINKS = [errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES, errno.EXDEV, 524]


def giver(number: int) -> Callable[[Path, Path], None]:
    """Gives no hard link, for this reason."""

    def no_links(old: Path, new: Path) -> None:
        raise OSError(number, os.strerror(number))

    return no_links


@pytest.mark.parametrize("number", NO_HARD_LINKS)
def test_exclusive_names_without_hard_links(tmp_path: Path, number: int) -> None:
    """Where the filesystem has no hard links a taken name, or one being taken, is refused all the same."""
    name, claim, temporary = tmp_path / "epoch.1", tmp_path / ".epoch.1.claim.tmp", tmp_path / "temporary"
    temporary.write_bytes(b"data")
    with claim.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(FileExistsError):
            give_new_name(temporary, name, link=giver(number))
    give_new_name(temporary, name, link=giver(number))
    temporary.write_bytes(b"other data")
    with pytest.raises(FileExistsError):
        give_new_name(temporary, name, link=giver(number))
    assert name.read_bytes() == b"data"
    assert not claim.exists()
    name.unlink()
    name.symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        give_new_name(temporary, name, link=giver(number))


def test_a_killed_claim_blocks_nobody(tmp_path: Path) -> None:
    """A process that was killed while it gave a name left its claim: the next one gives the name all the same."""
    name, claim, temporary = tmp_path / "tune.json", tmp_path / ".tune.json.claim.tmp", tmp_path / "temporary"
    claim.touch()
    temporary.write_bytes(b"data")
    give_new_name(temporary, name, link=giver(errno.EPERM))
    assert name.read_bytes() == b"data"
    assert not claim.exists()


def test_one_of_many_gets_a_name_without_hard_links(tmp_path: Path) -> None:
    """Of many that race for a name, one gets it, and the bytes under it are that one's."""

    def compete(number: int) -> int:
        temporary = tmp_path / f"temporary{number}"
        temporary.write_bytes(b"%d" % number)
        with suppress(FileExistsError):
            give_new_name(temporary, tmp_path / f"name{number // 8}", link=giver(errno.EPERM))
            return number
        return -1

    with ThreadPoolExecutor(8) as threads:
        winners = [number for number in threads.map(compete, range(400)) if number >= 0]
    assert [number // 8 for number in winners] == list(range(50))
    assert [int((tmp_path / f"name{number // 8}").read_bytes()) for number in winners] == winners


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS, 524])
async def test_a_directory_that_can_not_be_synced_is_used(tmp_path: Path, number: int) -> None:
    """Some network file systems sync files but no directories; a full disk is an error all the same."""

    def files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))

    async with DiskStore(tmp_path / "new" / "run", fsync=files_only) as store:
        await store.prepare()
        await store.replace("run.json", blocks(b"{}"))
        store.append(Log.JOURNAL, b"fact\n")
        await store.commit()

    def full(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StoreError, match="No space left"):
        await DiskStore(tmp_path, fsync=full).replace("run.json", blocks(b"{}"))


async def test_names_are_plain(tmp_path: Path) -> None:
    """No name leads out of the run directory."""
    for name in ("../elsewhere", "/etc/passwd", "a/b", "", ".", ".."):
        with pytest.raises(InternalError):
            await DiskStore(tmp_path).read(name)


async def test_opening_a_log_makes_durable_what_it_keeps(tmp_path: Path) -> None:
    """Opening a log at the size it has still fsyncs it: a killed process's bytes may be in memory only."""
    synced: list[int] = []
    (tmp_path / "journal.jsonl").write_bytes(b"fact\n")
    await DiskStore(tmp_path, fsync=synced.append).open_log(Log.JOURNAL, 5)
    assert len(synced) == 1


async def test_another_process_may_sweep_while_a_directory_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever just got the lock removes temporary files: that of another's trial, too, which is no error."""
    really_close = os.close

    def sweep_and_close(descriptor: int) -> None:
        really_close(descriptor)
        for entry in tmp_path.iterdir():
            entry.unlink()

    with monkeypatch.context() as patched:
        patched.setattr(os, "close", sweep_and_close)
        await DiskStore(tmp_path).prepare()
    assert list(tmp_path.iterdir()) == []


# --- A process that stands still --------------------------------------------------------------------------------------


async def test_what_a_woken_process_writes_reaches_no_file(tmp_path: Path) -> None:
    """The run was seized from a process that stood still: what that one still appends is nobody's, and its end leaves
    the new holder's lock alone."""
    async with DiskStore(tmp_path) as still, DiskStore(tmp_path) as other:
        await still.prepare()
        async with AsyncExitStack() as stack:
            async with still.lock():
                still.append(Log.RESULTS, b"one\n")
                still.append(Log.JOURNAL, b"1\n")
                await still.commit()
                with pytest.raises(LockedError):
                    await stack.enter_async_context(other.lock())
                await stack.enter_async_context(other.lock(seize=LeaseUntil(lambda: True)))
                await other.fence(LeaseUntil(lambda: True), "", contested=True)
                await other.open_log(Log.JOURNAL, 2)
                await other.open_log(Log.RESULTS, 4)
                still.append(Log.RESULTS, b"two of a process that was woken\n")
                still.append(Log.JOURNAL, b"2 of a process that was woken\n")
                with pytest.raises(StoreError):
                    await still.commit()
                other.append(Log.RESULTS, b"two\n")
                other.append(Log.JOURNAL, b"2\n")
                await other.commit()
            assert (tmp_path / Log.JOURNAL).read_bytes() == b"1\n2\n"
            assert (tmp_path / Log.RESULTS).read_bytes() == b"one\ntwo\n"
            holder = read_holder(tmp_path)
            assert holder is not None
            with pytest.raises(LockedError):
                async with DiskStore(tmp_path).lock():
                    pass
    assert read_holder(tmp_path) is None


async def test_who_stood_still_seizes_nothing(tmp_path: Path) -> None:
    """Its own lease has ended since it claimed it: the lock stays its holder's, and so does what that is just writing,
    though this process comes as far as to shut others out."""
    foreign = tmp_path / ".manifest.json.1.00001111.tmp"
    async with DiskStore(tmp_path) as holder, DiskStore(tmp_path) as woken, holder.lock():
        foreign.write_bytes(b"half-written by another process")
        with pytest.raises(LockedError):
            async with woken.lock(seize=LeaseUntil(lambda: False)):
                pass
        await holder.create("a.json", b"{}")
        with pytest.raises(StoreError, match="gone"):
            await woken.fence(LeaseUntil(lambda: False), "gone", contested=True)
        assert foreign.exists()
    assert {each.name for each in tmp_path.iterdir()} == {LOCK, "a.json", foreign.name}


TAKE_OVER = """
import sys
from pathlib import Path

import anyio

from classify_batch.store.disk import DiskStore
from tests.support.copies import copy_with_times
from tests.support.leases import LeaseUntil


async def blocks():
    yield b"complete"


async def take_over():
    async with DiskStore(Path(sys.argv[1])) as store, store.lock(seize=LeaseUntil(lambda: True)):
        await store.fence(LeaseUntil(lambda: True), "", contested=True)
        if sys.argv[2] == "replace":
            await store.replace("manifest.json", blocks())


anyio.run(take_over)
"""


@pytest.mark.parametrize("write", ["replace", "create"])
async def test_a_file_gets_no_name_from_a_process_that_woke(tmp_path: Path, write: str) -> None:
    """A process is stopped at the last step of all, between asking its lease and naming the file that it has written.
    Another one takes the directory and writes the file. What the first one had written is gone when it wakes."""
    name = "manifest.json"

    answers = 0

    def is_taken_meanwhile() -> bool:
        """The lease is valid, and at that very moment this process is stopped for long."""
        nonlocal answers
        answers += 1
        if answers == 1:  # the first time nothing is written yet
            return True
        subprocess.run([sys.executable, "-c", TAKE_OVER, tmp_path, write], check=True)
        return answers == 2

    async with DiskStore(tmp_path) as still:
        await still.prepare()
        await still.fence(LeaseUntil(is_taken_meanwhile), "it is another process's", contested=False)
        with pytest.raises(StoreError, match="another process's"):
            await (still.replace(name, blocks(b"running")) if write == "replace" else still.create(name, b"running"))
        assert await still.names() == ({name} if write == "replace" else set())
    if write == "replace":
        assert (tmp_path / name).read_bytes() == b"complete"


@pytest.mark.parametrize("stopped_at", [1, 2])
async def test_a_log_that_is_opened_late_is_not_written_to(tmp_path: Path, stopped_at: int) -> None:
    """A process is stopped before its first write to a log, on either side of opening it. Another one takes the
    directory meanwhile: what the first one goes on to write lands in no file of the run."""
    checks = 0

    def is_taken_meanwhile() -> bool:
        nonlocal checks
        checks += 1
        if checks == stopped_at:
            subprocess.run([sys.executable, "-c", TAKE_OVER, tmp_path, "create"], check=True)
        return checks <= stopped_at

    async with DiskStore(tmp_path) as before:
        await before.prepare()
        before.append(Log.JOURNAL, b"1\n")
        await before.commit()
    with suppress(StoreError):
        async with DiskStore(tmp_path) as still:
            await still.open_log(Log.JOURNAL, 2)
            await still.fence(LeaseUntil(is_taken_meanwhile), "it is another process's", contested=False)
            still.append(Log.JOURNAL, b"2\n")
            await still.commit()
    assert checks >= stopped_at
    assert (tmp_path / Log.JOURNAL).read_bytes() == b"1\n"


async def test_an_abandoned_store_writes_nothing(tmp_path: Path) -> None:
    """The run is another process's: whatever would write raises, also what waits already."""
    async with DiskStore(tmp_path) as store:
        await store.prepare()
        await store.create("run.json", b"{}")
        store.append(Log.JOURNAL, b"1\n")
        await store.commit()
        store.append(Log.JOURNAL, b"2\n")
        store.abandon("it is another process's")
        writes: list[Callable[[], Awaitable[object]]] = [
            store.commit,
            partial(store.create, "manifest.json", b""),
            partial(store.replace, "manifest.json", as_stream([b"x"])),
            partial(store.remove, "run.json"),
            partial(store.append_undurable, "events.jsonl", b"x"),
            partial(store.rename, "run.json", "other.json"),
        ]
        for write in writes:
            with pytest.raises(StoreError, match="another process's"):
                await write()
        with pytest.raises(StoreError, match="another process's"):
            store.append(Log.JOURNAL, b"3\n")
        assert await store.read("run.json") == b"{}"
    assert (tmp_path / Log.JOURNAL).read_bytes() == b"1\n"
    assert await store.names() == {"run.json", Log.JOURNAL}


async def test_a_part_of_a_file_is_read_in_blocks(tmp_path: Path) -> None:
    """From any place to any other, and to the end: all of it, and nothing beyond."""
    data = random.Random(7).randbytes(6 * BLOCK_BYTES + 5)
    (tmp_path / "plan.jsonl").write_bytes(data)
    async with DiskStore(tmp_path) as store:
        for start, end in ((0, None), (3, 10), (5, 5), (BLOCK_BYTES - 1, 5 * BLOCK_BYTES + 3), (7, 99 * BLOCK_BYTES)):
            assert await store.read("plan.jsonl", start, end) == data[start:end]
        blocks = [block async for block in store.stream("plan.jsonl")]
    assert b"".join(blocks) == data
    assert max(map(len, blocks)) == BLOCK_BYTES


async def as_stream(blocks: list[bytes]) -> AsyncIterator[bytes]:
    for block in blocks:
        yield block


def _remove_lock(run: Path) -> None:
    (run / "lock").unlink()


def _replace_lock(run: Path) -> None:
    _remove_lock(run)
    (run / "lock").write_text("another process\n")


def _move_run(run: Path) -> None:
    run.rename(run.with_name("yesterday"))


def _move_run_and_begin_another(run: Path) -> None:
    _move_run(run)
    run.mkdir()
    (run / "lock").touch()


def _move_run_and_put_a_copy_there(run: Path) -> None:
    _move_run(run)
    run.mkdir()
    for path in run.with_name("yesterday").iterdir():
        copy_with_times(path, run / path.name)


@pytest.mark.parametrize(
    "disturb",
    [_remove_lock, _replace_lock, _move_run, _move_run_and_begin_another, _move_run_and_put_a_copy_there],
)
async def test_nothing_is_written_once_the_lock_has_lost_its_name(
    tmp_path: Path, disturb: Callable[[Path], None]
) -> None:
    """Whoever locks what has the lock's name now believes to be alone: of the old holder nothing comes any more, and
    what another process has begun in the directory's place is left as it is."""
    run = tmp_path / "today"
    async with DiskStore(run) as store:
        await store.prepare()
        async with store.lock():
            store.append(Log.JOURNAL, b"fact\n")
            await store.commit()
            disturb(run)
            theirs = {path.name: path.read_bytes() for path in run.iterdir()} if run.exists() else {}
            with pytest.raises(StoreError):
                await store.append_undurable("events.jsonl", b"started\n")
            with pytest.raises(StoreError):
                await store.replace("manifest.json", blocks(b"{}"))
            with pytest.raises(StoreError, match="moved, removed or replaced"):
                await store.remove("tune.json")
            store.append(Log.JOURNAL, b"fact\n")
            with pytest.raises(StoreError, match="moved, removed or replaced"):
                await store.commit()
    for name, data in theirs.items():
        is_our_word = name == "lock" and f'"pid": {os.getpid()},'.encode() in data  # in a copy; it is taken back
        assert (run / name).read_bytes() == (b"" if is_our_word else data)
    assert not (run / "manifest.json").exists()
    moved = tmp_path / "yesterday"
    assert ((moved if moved.exists() else run) / "journal.jsonl").read_bytes() == b"fact\n"
