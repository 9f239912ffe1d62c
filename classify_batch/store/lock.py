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
import fcntl
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import anyio
from filelock import Timeout, UnixFileLock

from classify_batch.clock import SystemClock, to_iso
from classify_batch.errors import ClassifyBatchError, LockedError, RunDirectoryError
from classify_batch.store.refusal import refusals, unusable

LOCK = "lock"

_TRIES = 5
_TRY_AGAIN_S = 0.02
_WORDS_BYTES_MAX = 4096
_NO_FLOCK = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK})


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a run; `pid` is 0 in the instant between winning the lock and saying so.

    Attributes:
        since: RFC 3339.
    """

    host: str = ""
    pid: int = 0
    since: str = ""

    @classmethod
    def here(cls) -> Holder:
        return cls(socket.gethostname(), os.getpid(), to_iso(SystemClock().wall_s()))

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}" if self.pid else "another process"


def locked(where: str, holder: Holder) -> LockedError:
    return LockedError(
        f"run directory {where} is in use by {holder}",
        hint="wait until it ends, or stop it; a second run needs a run directory of its own",
    )


@asynccontextmanager
async def hold(directory: Path) -> AsyncIterator[None]:
    """Holds `directory` until the end of the block.

    Raises:
        LockedError: somebody else holds it, in this process or another.
        RunDirectoryError: it can't be locked: missing, forbidden, or on a filesystem without flock.
    """
    lock = await _acquire(directory)
    try:
        yield
    finally:
        _release(lock)


def read_holder(directory: Path) -> Holder | None:
    """Who holds `directory` at this moment, or None. Disturbs nobody, and believes no killed process."""
    path = directory / LOCK
    try:
        with refusals(path, but=FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _parse(os.read(descriptor, _WORDS_BYTES_MAX))
    except OSError:
        return None  # no flock here: `hold` refuses such a place, so nobody holds it
    else:
        return None
    finally:
        os.close(descriptor)


async def _acquire(directory: Path) -> UnixFileLock:
    try:
        lock = _lock_of(directory)
        for _ in range(_TRIES):
            with suppress(Timeout):
                lock.acquire()
                return lock
            await anyio.sleep(_TRY_AGAIN_S)
    except OSError as error:
        raise _unlockable(directory, error) from error
    raise locked(str(directory), read_holder(directory) or Holder())


def _lock_of(directory: Path) -> UnixFileLock:
    if not directory.is_dir():  # filelock would create it, open to others
        raise RunDirectoryError(f"{directory} is not a directory", hint="check the path of the run directory")
    return UnixFileLock(
        directory / LOCK,
        mode=0o600,
        blocking=False,
        thread_local=False,
        fallback_to_soft=False,
        on_acquired=_sign,
    )


def _release(lock: UnixFileLock) -> None:
    with suppress(OSError):  # words that stay behind harm nobody: a free lock has no holder
        os.truncate(lock.lock_file, 0)
    lock.release(force=True)


def _sign(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(asdict(Holder.here())).encode() + b"\n", 0)


def _parse(words: bytes) -> Holder:
    try:
        said = cast("dict[str, object]", json.loads(words))
        return Holder(str(said["host"]), int(str(said["pid"])), str(said["since"]))
    except (ValueError, KeyError, TypeError):
        return Holder()


def _unlockable(directory: Path, error: OSError) -> ClassifyBatchError:
    if error.errno not in _NO_FLOCK:
        return unusable(directory / LOCK, error)
    return RunDirectoryError(
        f"{directory} can't be locked: its filesystem has no flock ({error.strerror})",
        hint="put the run directory on a local disk, or on a network filesystem that is mounted with locks",
    )
