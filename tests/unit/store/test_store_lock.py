"""The lock between real processes."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from classify_batch.errors import ExitStatus, LockedError, RunDirectoryError
from classify_batch.store import lock
from classify_batch.store.holder import LOCK, read_holder
from classify_batch.store.lock import hold

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]

HOLDS = """
import asyncio, sys, subprocess
from pathlib import Path
from classify_batch.store.lock import hold

async def main():
    async with hold(Path(sys.argv[1])):
        if sys.argv[2] == "child":
            child = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL)
            print(child.pid, flush=True)
        else:
            print("held", flush=True)
        sys.stdin.read()

asyncio.run(main())
"""


@contextmanager
def another_process(directory: Path, how: str = "alone") -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    arguments = [sys.executable, "-c", HOLDS, str(directory), how]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().decode().strip()
        finally:
            process.kill()


async def test_another_process_is_named(tmp_path: Path) -> None:
    """A run held by another process is refused with status 75, and the holder's words are left alone."""
    with another_process(tmp_path) as (process, _):
        words = (tmp_path / LOCK).read_bytes()
        with pytest.raises(LockedError, match=f"process {process.pid} on ") as raised:
            async with hold(tmp_path):
                pass
        assert raised.value.exit_status == ExitStatus.INCOMPLETE
        assert (tmp_path / LOCK).read_bytes() == words
        assert json.loads(words)["pid"] == process.pid
        holder = read_holder(tmp_path)
        assert holder is not None
        assert holder.pid == process.pid


async def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    """At once after SIGKILL nobody holds the run, whatever the file still says."""
    with another_process(tmp_path) as (process, _):
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / LOCK).read_bytes()
    assert read_holder(tmp_path) is None
    async with hold(tmp_path):
        holder = read_holder(tmp_path)
    assert holder is not None
    assert holder.pid == os.getpid()


async def test_a_child_does_not_inherit_the_lock(tmp_path: Path) -> None:
    """A child that outlives a killed holder keeps nothing locked."""
    with another_process(tmp_path, "child") as (process, child):
        try:
            process.send_signal(signal.SIGKILL)
            process.wait()
            async with hold(tmp_path):
                pass
        finally:
            os.kill(int(child), signal.SIGKILL)


async def test_a_released_lock_says_nothing(tmp_path: Path) -> None:
    """After the release the file stays, empty, and nobody holds the run."""
    async with hold(tmp_path):
        pass
    assert (tmp_path / LOCK).read_bytes() == b""
    assert read_holder(tmp_path) is None


async def test_reading_the_holder_never_blocks_the_lock(tmp_path: Path) -> None:
    """Reading who holds a run never keeps a process from holding it."""
    async with hold(tmp_path):
        assert [holder.pid for _ in range(10) if (holder := read_holder(tmp_path))] == [os.getpid()] * 10
        with pytest.raises(LockedError):
            async with hold(tmp_path):
                pass
    assert read_holder(tmp_path) is None


def test_a_dead_event_loop_holds_nothing(tmp_path: Path) -> None:
    """When the loop is thrown away with the lock held, the lock goes with it."""
    context = hold(tmp_path)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(context.__aenter__())
    loop.close()
    assert read_holder(tmp_path) is not None
    del context
    gc.collect()
    assert read_holder(tmp_path) is None


async def test_a_holder_that_has_not_spoken_yet(tmp_path: Path) -> None:
    """A lock that is held with nothing legible in its file is held by `another process`."""
    with (tmp_path / LOCK).open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LockedError, match="in use by another process"):
            async with hold(tmp_path):
                pass


@pytest.mark.parametrize(
    "number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EBADF, errno.EINVAL, 524], ids=errno.errorcode.get
)
async def test_a_filesystem_without_flock_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Where the file system has no flock, whatever it says, the run is refused and the hint is about file systems; the
    run is not locked by a mere file instead."""

    def missing(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", missing)
    with pytest.raises(RunDirectoryError, match="no flock") as caught:
        async with hold(tmp_path):
            pass
    assert "mounted with locks" in caught.value.hint


async def test_a_missing_directory_is_not_created(tmp_path: Path) -> None:
    """Locking needs the directory, and never creates it."""
    with pytest.raises(RunDirectoryError, match="nowhere"):
        async with hold(tmp_path / "nowhere"):
            pass
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("held", [True, False])
async def test_a_lock_on_a_file_that_lost_its_name_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    """Between opening the lock file and locking it, the directory is seized, and its old holder ends: this process has
    the kernel's lock on a file that nobody else will ever ask for. So it asks for the one that is there."""
    write_holder, fresh = lock._write_holder, tmp_path / "fresh"

    with fresh.open("wb") as seized:

        def seize_meanwhile(descriptor: int) -> None:
            monkeypatch.setattr(lock, "_write_holder", write_holder)
            if held:
                fcntl.flock(seized, fcntl.LOCK_EX)
            fresh.replace(tmp_path / LOCK)
            write_holder(descriptor)

        monkeypatch.setattr(lock, "_write_holder", seize_meanwhile)
        if held:
            with pytest.raises(LockedError):
                async with hold(tmp_path):
                    pass
            return
        async with hold(tmp_path):
            with pytest.raises(BlockingIOError):
                fcntl.flock(seized, fcntl.LOCK_EX | fcntl.LOCK_NB)
