"""Group commit on a disk: how often, in which order, and what happens when the disk refuses."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event

import anyio
import pytest

from classify_batch.errors import InternalError, StoreError
from classify_batch.store.disk import DiskStore
from classify_batch.store.group_commit import Committer, LogWriter
from classify_batch.vocabulary import Log
from tests.support.command_line import PATIENCE_S
from tests.support.copies import copy_with_times

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]


class Recorder:
    """An fsync that writes down whose turn it was, and what every log held at that moment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: list[str] = []
        self.sizes: list[dict[str, int]] = []

    def __call__(self, descriptor: int) -> None:
        os.fsync(descriptor)
        inode = os.fstat(descriptor).st_ino
        by_inode = {entry.stat().st_ino: entry.name for entry in [*self.path.iterdir(), self.path]}
        self.names.append(by_inode[inode])
        self.sizes.append({entry.name: entry.stat().st_size for entry in self.path.iterdir()})

    @property
    def logs(self) -> list[str]:
        return [name for name in self.names if name.endswith(".jsonl")]


async def test_waiting_tasks_share_an_fsync(tmp_path: Path) -> None:
    """A hundred tasks that record ten facts each cost ten fsyncs, not a thousand."""
    fsync = Recorder(tmp_path)

    async def record(store: DiskStore) -> None:
        for _ in range(10):
            store.append(Log.JOURNAL, b"fact\n")
            await store.commit()

    async with DiskStore(tmp_path, fsync=fsync) as store, anyio.create_task_group() as tasks:
        for _ in range(100):
            tasks.start_soon(record, store)
    assert len(fsync.logs) == 10


async def test_what_comes_during_an_fsync_shares_the_next(tmp_path: Path) -> None:
    """Appends that arrive while the disk is busy wait for one further fsync, all together."""
    busy, free = Event(), Event()
    fsync = Recorder(tmp_path)

    def held(descriptor: int) -> None:
        fsync(descriptor)
        busy.set()
        free.wait(PATIENCE_S)

    async with DiskStore(tmp_path, fsync=held) as store, anyio.create_task_group() as tasks:
        store.append(Log.JOURNAL, b"first\n")
        tasks.start_soon(store.commit)
        await anyio.to_thread.run_sync(busy.wait)
        for _ in range(50):
            store.append(Log.JOURNAL, b"later\n")
            tasks.start_soon(store.commit)
        free.set()
    assert fsync.logs == ["journal.jsonl"] * 2


async def test_the_journal_is_written_after_the_data_is_durable(tmp_path: Path) -> None:
    """Whatever the order of the calls, no byte of the journal is written before the data's fsyncs returned."""
    fsync = Recorder(tmp_path)
    async with DiskStore(tmp_path, fsync=fsync) as store:
        store.append(Log.JOURNAL, b"fact\n")
        store.append(Log.FAILURES, b"failure\n")
        store.append(Log.RESULTS, b"result\n")
        await store.commit()
    assert fsync.logs == ["results.jsonl", "failures.jsonl", "journal.jsonl"]
    before = fsync.sizes[: fsync.names.index("failures.jsonl") + 1]
    assert not any("journal.jsonl" in sizes for sizes in before)
    assert fsync.names.count(tmp_path.name) == 3


async def test_a_partial_write_is_completed(tmp_path: Path) -> None:
    """A write that takes only some of the bytes is continued until all are there."""

    def three_at_most(descriptor: int, data: memoryview) -> int:
        return os.write(descriptor, data[:3])

    committer = Committer(LogWriter(tmp_path, write=three_at_most))
    committer.append(Log.JOURNAL, b"0123456789", 0)
    await committer.commit()
    await committer.aclose()
    assert (tmp_path / "journal.jsonl").read_bytes() == b"0123456789"


async def test_a_failed_fsync_is_not_tried_again(tmp_path: Path) -> None:
    """After one failed fsync there is no second one, and the error carries the disk's."""
    calls: list[int] = []

    def fail(descriptor: int) -> None:
        calls.append(descriptor)
        raise OSError(errno.EIO, "Input/output error")

    async with DiskStore(tmp_path, fsync=fail) as store:
        store.append(Log.RESULTS, b"result\n")
        store.append(Log.JOURNAL, b"fact\n")
        for _ in range(3):
            with pytest.raises(StoreError, match=r"results\.jsonl: Input/output error") as raised:
                await store.commit()
            assert isinstance(raised.value.__cause__, OSError)
    assert len(calls) == 1
    assert not (tmp_path / "journal.jsonl").exists()


async def test_those_who_gathered_meanwhile_fail_too(tmp_path: Path) -> None:
    """Tasks whose appends wait behind a failing group hear of the failure, and none waits for ever."""
    busy, free = Event(), Event()

    def fail_slowly(descriptor: int) -> None:
        busy.set()
        free.wait(PATIENCE_S)
        raise OSError(errno.EIO, "Input/output error")

    async def commit(store: DiskStore) -> None:
        with pytest.raises(StoreError):
            await store.commit()

    async with DiskStore(tmp_path, fsync=fail_slowly) as store, anyio.create_task_group() as tasks:
        store.append(Log.JOURNAL, b"first\n")
        tasks.start_soon(commit, store)
        await anyio.to_thread.run_sync(busy.wait)
        store.append(Log.JOURNAL, b"second\n")
        tasks.start_soon(commit, store)
        free.set()


async def test_a_commit_after_the_failure_is_refused_too(tmp_path: Path) -> None:
    """What had gathered behind the failing group is written by nobody: a run that ends there must not wait for it."""
    busy, free = Event(), Event()

    def fail_slowly(descriptor: int) -> None:
        busy.set()
        free.wait(PATIENCE_S)
        raise OSError(errno.ENOSPC, "No space left on device")

    async def commit(store: DiskStore) -> None:
        with pytest.raises(StoreError):
            await store.commit()

    async with DiskStore(tmp_path, fsync=fail_slowly) as store:
        async with anyio.create_task_group() as tasks:
            store.append(Log.JOURNAL, b"first\n")
            tasks.start_soon(commit, store)
            await anyio.to_thread.run_sync(busy.wait)
            store.append(Log.JOURNAL, b"second\n")
            free.set()
        with anyio.fail_after(120):
            await commit(store)


async def test_a_bug_in_the_thread_reaches_those_who_wait(tmp_path: Path) -> None:
    """An error that is not the disk's ends the waiting too, as a fault of ours."""

    def broken(descriptor: int) -> None:
        raise ZeroDivisionError

    async with DiskStore(tmp_path, fsync=broken) as store:
        store.append(Log.JOURNAL, b"fact\n")
        with pytest.raises(InternalError):
            await store.commit()


async def test_another_writer_is_noticed(tmp_path: Path) -> None:
    """Bytes that somebody else put behind a log's end are never written over or mixed up with ours."""
    async with DiskStore(tmp_path) as store:
        store.append(Log.JOURNAL, b"ours\n")
        await store.commit()
        with (tmp_path / "journal.jsonl").open("ab") as file:
            file.write(b"theirs\n")
        store.append(Log.JOURNAL, b"ours\n")
        with pytest.raises(StoreError, match="somebody else"):
            await store.commit()
    assert (tmp_path / "journal.jsonl").read_bytes() == b"ours\ntheirs\n"


def _copy_over(path: Path) -> None:
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.rename(path)


def _copy_with_its_times(path: Path) -> None:
    aside = path.rename(path.with_name("aside"))
    copy_with_times(aside, path)


@pytest.mark.parametrize("take_away", [Path.unlink, _copy_over, _copy_with_its_times])
@pytest.mark.parametrize("log", [Log.RESULTS, Log.JOURNAL])
async def test_a_log_without_its_name_is_written_no_more(
    tmp_path: Path, log: Log, take_away: Callable[[Path], None]
) -> None:
    """What is appended to a file that was removed, or replaced by a copy, nobody will ever read: no further fact
    becomes durable, whichever log lost its name."""
    async with DiskStore(tmp_path) as store:
        store.append(Log.RESULTS, b"answer\n")
        store.append(Log.JOURNAL, b"fact\n")
        await store.commit()
        take_away(tmp_path / log)
        store.append(Log.JOURNAL, b"intent\n")
        with pytest.raises(StoreError, match=f"{log} was moved, removed or replaced"):
            await store.commit()
    assert b"intent" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


async def test_a_log_whose_number_changes_is_still_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems number a file anew at each look: that is no other file."""
    monkeypatch.setattr(os.path, "samestat", lambda _one, _other: False)
    async with DiskStore(tmp_path) as store:
        for line in (b"fact\n", b"intent\n"):
            store.append(Log.JOURNAL, line)
            await store.commit()
    assert (tmp_path / "journal.jsonl").read_bytes() == b"fact\nintent\n"


FILLS_UP = """
import asyncio, resource, sys
from pathlib import Path
from classify_batch.errors import StoreError
from classify_batch.ports import Log
from classify_batch.store.disk import DiskStore

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

async def main():
    async with DiskStore(Path(sys.argv[1])) as store:
        committed = 0
        try:
            while True:
                store.append(Log.JOURNAL, b"x" * 299 + b"\\n")
                await store.commit()
                committed += 300
        except StoreError as error:
            print(committed, error, "|", error.hint)

asyncio.run(main())
"""


def test_a_full_disk_keeps_what_was_committed(tmp_path: Path) -> None:
    """Where the system takes no more bytes, what was committed stays and the error names file, reason and hint."""
    answer = subprocess.run(
        [sys.executable, "-c", FILLS_UP, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.startswith(
        f"900 {tmp_path / 'journal.jsonl'}: File too large | raise the limit of a file's size"
    )
    assert (tmp_path / "journal.jsonl").read_bytes()[:900] == (b"x" * 299 + b"\n") * 3
    assert not answer.stderr


APPENDS = """
import asyncio, sys
from pathlib import Path
from classify_batch.ports import Log
from classify_batch.store.disk import DiskStore

async def main():
    async with DiskStore(Path(sys.argv[1])) as store:
        number = 0
        while True:
            end = store.append(Log.RESULTS, b"%07d\\n" % number) + 8
            store.append(Log.JOURNAL, b"%07d\\n" % end)
            await store.commit()
            number += 1
            print(number, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 7, 40, 200])
def test_sigkill_takes_nothing_that_was_committed(tmp_path: Path, lines: int) -> None:
    """After SIGKILL all committed bytes are there, in order, and the journal names no results that are not."""
    with subprocess.Popen([sys.executable, "-c", APPENDS, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        committed = [int(process.stdout.readline()) for _ in range(lines)][-1]
        process.send_signal(signal.SIGKILL)
        committed = max([committed, *(int(line) for line in process.stdout if line.endswith(b"\n"))])
    results = (tmp_path / "results.jsonl").read_bytes()
    journal = (tmp_path / "journal.jsonl").read_bytes()
    expected = b"".join(b"%07d\n" % number for number in range(committed))
    assert results.startswith(expected)
    assert len(journal) >= 8 * committed
    assert max(int(end) for end in journal.split() if len(end) == 7) <= len(results)
