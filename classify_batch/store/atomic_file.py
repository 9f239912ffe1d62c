"""Files that are written whole: at any time the old one or the new one is there, never a part of one.

A file is written beside its place, made durable, and given its name in one step that happens or doesn't. The
directory is made durable last, where the file system can do that, since a file's own fsync doesn't promise its name.
What a killed process leaves beside is known by its spelling, `.NAME.PID.NUMBER.tmp`, and swept by the next holder of
the lock. Reports, exports and changed limits are written beside without the lock, so what a process that is alive may
be writing is left alone.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Literal, cast

import aiofiles
from aiofiles.threadpool.binary import AsyncBufferedIOBase
from anyio import CancelScope, to_thread

from classify_batch.store.os_errors import NOT_SUPPORTED, refusals
from classify_batch.store.plain_file import open_plain_file
from classify_batch.store.processes import is_alive
from classify_batch.streams.closing import closing
from classify_batch.streams.single_block import single_block

Fsync = Callable[[int], None]
Permit = Callable[[], None]
"""Raises StoreError where this process may not write any more. Asked in a worker thread."""

TEMPORARY = re.compile(r"\..+\.((?P<pid>\d+)\.(?P<process>[0-9a-f]{4})[0-9a-f]{4}|claim)\.tmp")

_THIS_PROCESS = secrets.token_hex(2)
"""Tells the files of this process from those of a dead one with its ID: in a container each may have the ID 1."""
_NUMBERS = itertools.count(secrets.randbelow(0x10000))

_NO_HARD_LINKS = NOT_SUPPORTED | {errno.EPERM, errno.EACCES, errno.EXDEV, errno.EMLINK}
"""What file systems say that have no hard links. Where a name may really not be given (EPERM, EACCES), renaming says so
again."""
_NO_DIRECTORY_SYNC = NOT_SUPPORTED | {errno.EBADF, errno.EINVAL}
"""What file systems say whose directories can't be synced: they keep names in their own way, and there is no other."""
_CLAIMS_MAX = 100
_NAME_BYTES_MAX = 255
"""What file systems take."""


def beside(path: Path) -> Path:
    """A name next to `path` that nobody else uses; no longer than names may be, unless the path's own is."""
    end = f".{os.getpid()}.{_THIS_PROCESS}{next(_NUMBERS) % 0x10000:04x}.tmp"
    name, room = os.fsencode(path.name), _NAME_BYTES_MAX - len(end) - 1
    fits = len(name) <= room or len(name) > _NAME_BYTES_MAX
    # No half of a character, which some file systems refuse.
    return path.with_name(f".{path.name if fits else 'long' + name[: room - 4].decode(errors='ignore')}{end}")


def is_of_another_process(name: str) -> bool:
    """Whether a file of this name is being written, or was left half-written, by another process."""
    found = TEMPORARY.fullmatch(name)
    return found is not None and (found["pid"] != str(os.getpid()) or found["process"] != _THIS_PROCESS)


def is_leftover(name: str) -> bool:
    """Whether a file of this name was left half-written, by a process of this machine that is dead (or by one of
    another machine, whose life can't be asked for)."""
    found = TEMPORARY.fullmatch(name)
    if found is None or found["pid"] is None:
        return found is not None
    pid = int(found["pid"])
    return found["process"] != _THIS_PROCESS if pid == os.getpid() else not is_alive(pid)


@asynccontextmanager
async def opened(
    path: Path, mode: Literal["rb", "xb"], *, but: type[OSError] | tuple[type[OSError], ...] = ()
) -> AsyncIterator[AsyncBufferedIOBase]:
    """An open file, for its owner only where it is new, that is closed also in a cancelled task.

    Refusals of opening (except `but`) and closing become StoreErrors; what the block raises is left as it is.
    """
    with refusals(path, but=but), CancelScope(shield=True):
        file = await aiofiles.open(path, mode, opener=open_plain_file if mode == "rb" else _create_for_owner_only)
    try:
        yield cast("AsyncBufferedIOBase", file)
    finally:
        with refusals(path), CancelScope(shield=True):
            await file.close()


@asynccontextmanager
async def written_beside(path: Path, blocks: AsyncIterator[bytes], fsync: Fsync) -> AsyncIterator[Path]:
    """A durable file with all `blocks`. It is gone after the block, whatever happens, unless renamed."""
    temporary = beside(path)
    try:
        await _fill_temporary(temporary, path, blocks, fsync)
        yield temporary
    finally:
        with suppress(OSError):
            temporary.unlink()


def allow() -> None:
    """Whoever needs no permission has it."""


async def replace_file(
    path: Path, blocks: AsyncIterator[bytes], fsync: Fsync = os.fsync, permit: Permit = allow
) -> None:
    """Writes a file whole, in place of an older one if there is one. Raises StoreError, and what `permit` raises."""
    async with written_beside(path, blocks, fsync) as temporary:
        with refusals(path):
            await to_thread.run_sync(publish, temporary.replace, path, fsync, permit)


async def create_file(path: Path, data: bytes, fsync: Fsync = os.fsync, permit: Permit = allow) -> None:
    """Like `replace_file`, but raises FileExistsError where the name is taken, also when two race for it."""
    async with written_beside(path, single_block(data), fsync) as temporary:
        with refusals(path, but=FileExistsError):
            await to_thread.run_sync(publish, partial(give_new_name, temporary), path, fsync, permit)


def publish(give_name: Callable[[Path], object], path: Path, fsync: Fsync, permit: Permit = allow) -> None:
    """Lets `give_name` name a finished file `path`, and makes the name durable.

    `permit` is asked right before, in the same thread. Between the two this process may be stopped, and woken when the
    directory is another's; that one has removed the finished file by then, so it has no name to give any more.
    """
    permit()
    try:
        give_name(path)
    except FileNotFoundError:
        permit()
        raise
    sync_directory(path.parent, fsync)


def give_new_name(temporary: Path, path: Path, *, link: Callable[[Path, Path], None] = os.link) -> None:
    """Names a finished file `path`, unless that is taken: then FileExistsError, also when two race.

    A hard link is the one step that does both. Without hard links the race is for a lock on a claim beside: not for the
    claim itself, which a killed winner would leave behind, and nobody would ever give the name again.
    """
    try:
        link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        with _claimed(path):
            if os.path.lexists(path):
                raise _taken(path) from None
            temporary.rename(path)


@contextmanager
def _claimed(path: Path) -> Iterator[None]:
    """Holds the claim to a name. Raises FileExistsError where somebody else is just giving the name."""
    claim = path.with_name(f".{path.name}.claim.tmp")
    for _ in range(_CLAIMS_MAX):
        descriptor = os.open(claim, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):  # the latter on some network file systems
                raise _taken(path) from None
            if not _is_named(descriptor, claim):
                continue  # its holder has removed it since, and the next one claims another file
            try:
                yield
            finally:
                claim.unlink(missing_ok=True)  # while it is locked: nobody else can hold this very file
            return
        finally:
            os.close(descriptor)
    raise _taken(path)


def _is_named(descriptor: int, path: Path) -> bool:
    """Whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _taken(path: Path) -> FileExistsError:
    return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def sync_directory(directory: Path, fsync: Fsync) -> None:
    """Makes the names in a directory durable: a file's own fsync doesn't promise its name."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_SYNC:
            raise
    finally:
        os.close(descriptor)


async def _fill_temporary(temporary: Path, path: Path, blocks: AsyncIterator[bytes], fsync: Fsync) -> None:
    async with opened(temporary, "xb") as file, closing(blocks) as stream:
        async for block in stream:  # outside `refusals`: an OSError of the producer is not the disk's
            with refusals(path):
                await file.write(block)
        with refusals(path):
            await file.flush()
            await to_thread.run_sync(fsync, file.fileno())  # before it gets its name, which must lead to all of it


def _create_for_owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
