"""One process at a time: the file `lock` in a run directory.

The lock is the kernel's flock on the file, never the file's existence: a killed process holds nothing, so
nobody ever has to remove a stale lock. The words in the file only tell people who holds it. They are written
after the lock is won, and taken back before it is given up; a process that loses never writes.

Two traps, both avoided here. filelock quietly turns to locking by existence where a filesystem has no flock:
a kill would then lock the run for ever, so we refuse such a filesystem. And asking "is it held?" means
locking for a moment: `read_holder` asks with a shared lock, so that askers don't see each other, and who
wants the lock tries a few times before believing that it is held.

The descriptor is closed on exec and (by filelock) after a fork: no child keeps a run locked.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from filelock import Timeout, UnixFileLock

from classify_batch.clock import SystemClock, to_iso
from classify_batch.errors import ClassifyBatchError, LockedError, RunDirectoryError
from classify_batch.run_records import Holder
from classify_batch.store.atomic_file import beside
from classify_batch.store.holder import LOCK, read_holder
from classify_batch.store.os_errors import NOT_SUPPORTED, refusals, unusable
from classify_batch.store.plain_file import has_lost_name

if TYPE_CHECKING:
    from classify_batch.ports import Lease

_ATTEMPTS_MAX = 5
_TRY_AGAIN_S = 0.02
_WORDS_BYTES_MAX = 4096
_NO_FLOCK = NOT_SUPPORTED | {errno.ENOLCK, errno.EBADF, errno.EINVAL}
"""What flock says on file systems without locks. EBADF and EINVAL come from network file systems and from FUSE: the
descriptor is good, and so are the arguments."""


def holder_here() -> Holder:
    """This process as a holder."""
    return Holder(socket.gethostname(), os.getpid(), to_iso(SystemClock().wall_s()))


def locked(where: str, holder: Holder) -> LockedError:
    return LockedError(
        f"run directory {where} is in use by {holder}",
        hint="wait until it ends, or stop it; a second run needs a run directory of its own",
    )


@asynccontextmanager
async def hold(directory: Path, *, seize: Lease | None = None) -> AsyncIterator[os.stat_result]:
    """Holds `directory` until the end of the block; gives what the locked file is. `seize`: the lease of this process,
    by which a new file takes the place of one that a process holds which stands still; that one goes on holding the old
    one, which has no name any more.

    Raises:
        LockedError: somebody else holds it, in this process or another; or this process stood still, too, and its
            lease has ended.
        RunDirectoryError: it can't be locked: missing, forbidden, or on a filesystem without flock.
    """
    if seize is not None:
        with refusals(directory / LOCK):
            _replace_lock_file(directory, seize)
    lock, locked_file = await _acquire_lock(directory)
    try:
        yield locked_file
    finally:
        _release_lock(lock)


async def _acquire_lock(directory: Path) -> tuple[UnixFileLock, os.stat_result]:
    path, named = directory / LOCK, list[os.stat_result]()

    def take_file(descriptor: int) -> None:
        _write_holder(descriptor)
        named.clear()
        with suppress(FileNotFoundError):
            named.append(path.stat())
        if named and has_lost_name(os.fstat(descriptor), named[0]):
            named.clear()

    try:
        lock = _lock_file_of(directory, take_file)
        for _ in range(_ATTEMPTS_MAX):
            with suppress(Timeout):
                lock.acquire()
                if named:
                    return lock, named[0]
                lock.release(force=True)  # somebody has seized the directory since this file was opened
            await anyio.sleep(_TRY_AGAIN_S)
    except OSError as error:
        raise _unlockable_error(directory, error) from error
    raise locked(str(directory), read_holder(directory) or Holder())


def _lock_file_of(directory: Path, on_acquired: Callable[[int], None]) -> UnixFileLock:
    if not directory.is_dir():  # filelock would create it, open to others
        raise RunDirectoryError(f"{directory} is not a directory", hint="check the path of the run directory")
    return UnixFileLock(
        directory / LOCK,
        mode=0o600,
        blocking=False,
        thread_local=False,
        fallback_to_soft=False,
        on_acquired=on_acquired,
    )


def _replace_lock_file(directory: Path, lease: Lease) -> None:
    """Puts a new lock file in the place of the one that is there. This process may have been stopped since it claimed
    its lease, and a third one may have the directory by now: so the lease is asked as the last step. If it is stopped
    right behind that, the new file is gone when it wakes, as whatever a process has half-written."""
    fresh = beside(directory / LOCK)
    os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        if not lease.is_valid:
            raise locked(str(directory), read_holder(directory) or Holder())
        fresh.replace(directory / LOCK)
    finally:
        fresh.unlink(missing_ok=True)


def _release_lock(lock: UnixFileLock) -> None:
    with suppress(OSError):  # words that stay behind harm nobody: a free lock has no holder
        descriptor = os.open(lock.lock_file, os.O_RDWR | os.O_NOFOLLOW)  # os.truncate would follow a link
        try:
            # Where the lock was seized, another process's words stand there.
            if f'"pid": {os.getpid()},'.encode() in os.read(descriptor, _WORDS_BYTES_MAX):
                os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)
    lock.release(force=True)


def _write_holder(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(asdict(holder_here())).encode() + b"\n", 0)


def _unlockable_error(directory: Path, error: OSError) -> ClassifyBatchError:
    if error.errno not in _NO_FLOCK:
        return unusable(directory / LOCK, error)
    return RunDirectoryError(
        f"{directory} can't be locked: its filesystem has no flock ({error.strerror or error})",
        hint="put the run directory on a local disk, or on a network filesystem that is mounted with locks",
    )
