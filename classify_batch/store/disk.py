"""A run directory on a disk.

Files that are written whole go through `atomic_file.py`, the logs through the group commit of `group_commit.py`;
reading is a cold path and goes through aiofiles. A log is one file, and a logical offset is the offset in it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from anyio import to_thread

from classify_batch.errors import (
    ChildOfRunError,
    DamagedError,
    InternalError,
    RunDirectoryError,
    StoreError,
    WorldError,
)
from classify_batch.run_records import Holder
from classify_batch.store.atomic_file import (
    TEMPORARY,
    Fsync,
    beside,
    create_file,
    is_leftover,
    is_of_another_process,
    opened,
    replace_file,
    sync_directory,
)
from classify_batch.store.group_commit import Committer, LogWriter
from classify_batch.store.holder import LOCK, read_holder
from classify_batch.store.lock import hold
from classify_batch.store.os_errors import refusals, taken_away, unusable
from classify_batch.store.plain_file import is_same_file, open_plain_file
from classify_batch.store.trust import describe_link, refuse_untrusted
from classify_batch.streams.blocks import BLOCK_BYTES, read_descriptor
from classify_batch.streams.closing import closing
from classify_batch.vocabulary import Log

if TYPE_CHECKING:
    from classify_batch.ports import Lease


class DiskStore:
    """`ports.RunStore` on the directory `path`; bound to asyncio.

    `async with` commits what is left at its end, and ends the thread. `fsync` can be replaced, to count or slow it
    down. `trusted`: links are followed, and other users may write to it (see `trust.py`).
    """

    def __init__(self, path: Path, *, fsync: Fsync = os.fsync, trusted: bool = False) -> None:
        self._path = path
        self._fsync = fsync
        self._trusted = trusted
        self._process = os.getpid()
        self._follow = 0 if trusted else os.O_NOFOLLOW  # whoever may put a link there would choose what we overwrite
        self._committer = Committer(LogWriter(path, fsync=fsync, flags=self._follow, permit=self._refuse_if_not_ours))
        self._lease: Lease | None = None
        self._locked: os.stat_result | None = None
        self._why_lost = ""
        self._opened: dict[Log, int] = {}
        self._ends: dict[Log, int] = {}
        self._made: list[Path] = []
        self._abandoned = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Commits what is left (unless a commit failed before) and ends the thread. Raises StoreError."""
        await self._committer.aclose()

    @property
    def where(self) -> str:
        return str(self._path)

    # --- The directory --------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Creates the directory and its missing parents, for their owner only, and tries to write to it.

        Directories that exist stay as they are. What is made is removed again at the end of `lock()`, where no file
        was added meanwhile. Raises RunDirectoryError, also for one that other users could misuse.
        """
        await to_thread.run_sync(self._prepare_directory)

    @asynccontextmanager
    async def lock(self, *, seize: Lease | None = None) -> AsyncIterator[None]:
        async with hold(self._path, seize=seize) as locked_file:
            self._locked = locked_file
            await self.sweep()
            names = self._list_names()
            try:
                yield
            finally:  # while the lock is held: who didn't get it must not remove what its holder is making
                self._remove_what_was_made(names)
                self._locked = None

    async def holder(self) -> Holder | None:
        return read_holder(self._path)

    async def fence(self, lease: Lease, why: str, *, contested: bool) -> None:
        self._lease, self._why_lost = lease, why
        if contested:
            with refusals(self._path):
                await to_thread.run_sync(self._shut_out_others)

    def abandon(self, why: str) -> None:
        self._abandoned, self._why_lost = True, why
        self._committer.abandon(self._lost_error())

    async def sweep(self) -> None:
        """Removes what a killed process left half-written; `lock` does it. Only for the lock's holder: what a process
        of another machine is just writing looks the same.
        """
        with refusals(self._path):
            await to_thread.run_sync(self._remove_leftovers)

    # --- Reading --------------------------------------------------------------------------------------------

    async def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        async with closing(self.stream(name, start, end)) as blocks:
            return b"".join([block async for block in blocks])

    async def stream(self, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        path = self._path_of(name)
        try:
            async with opened(path, "rb", but=_MISSING) as file:
                with refusals(path):
                    async with closing(read_descriptor(file.fileno(), start, end)) as blocks:
                        async for block in blocks:
                            yield block
        except NotADirectoryError as error:
            raise FileNotFoundError(*error.args) from error

    async def sha256(self, name: str) -> str:
        path, digest, start = self._path_of(name), hashlib.sha256(), 0
        with refusals(path), suppress(*_MISSING):
            # A piece a thread: whoever is cancelled waits for one piece, not for gigabytes.
            while end := await to_thread.run_sync(_hash_piece, path, digest, start):
                start = end
        return digest.hexdigest()

    async def size(self, name: str) -> int | None:
        path = self._path_of(name)
        with refusals(path):
            try:
                return (await to_thread.run_sync(path.stat)).st_size
            except _MISSING:
                return None

    async def names(self) -> frozenset[str]:
        """The files that are there, without the lock and what is half-written; none without a directory."""
        with refusals(self._path):
            return await to_thread.run_sync(self._list_names)

    # --- Files that are written whole -----------------------------------------------------------------------

    async def replace(self, name: str, blocks: AsyncIterator[bytes]) -> None:
        await replace_file(self._path_to_write(name), blocks, self._fsync, self._refuse_if_not_ours)

    async def create(self, name: str, data: bytes) -> None:
        await create_file(self._path_to_write(name), data, self._fsync, self._refuse_if_not_ours)

    async def remove(self, name: str) -> None:
        path = self._path_to_write(name)
        with refusals(path):
            await to_thread.run_sync(self._remove_file, path)

    # --- Files that nobody needs ----------------------------------------------------------------------------

    async def append_undurable(self, name: str, data: bytes) -> int:
        path = self._path_to_write(name)
        with refusals(path):
            return await to_thread.run_sync(self._append_to_file, path, data)

    async def rename(self, name: str, new_name: str) -> None:
        path, new_path = self._path_to_write(name), self._path_to_write(new_name)
        with refusals(path, but=FileNotFoundError):
            await to_thread.run_sync(self._rename_file, path, new_path)

    # --- Logs -----------------------------------------------------------------------------------------------

    async def open_log(self, log: Log, end: int) -> None:
        """Cuts the file back. One of just that size is still made durable: what a killed process wrote may be readable
        and yet not on the disk.
        """
        if log in self._ends:
            raise InternalError(f"{log} can't be opened after the first append to it")
        with refusals(self._path / log):
            await to_thread.run_sync(self._cut_file, log, end)
        self._opened[log] = end

    def append(self, log: Log, data: bytes) -> int:
        start = self._ends.get(log)
        if start is None:
            start = self._ends[log] = self._opened.get(log, 0)
        if data:
            self._committer.append(log, data, start)
            self._ends[log] = start + len(data)
        return start

    def commit(self) -> Coroutine[None, None, None]:
        return self._committer.commit()

    # --- What these stand on --------------------------------------------------------------------------------

    def _path_of(self, name: str) -> Path:
        if Path(name).name != name or name in ("", ".."):
            raise InternalError(f"{name!r} is not the plain name of a file")
        return self._path / name

    def _path_to_write(self, name: str) -> Path:
        self._refuse_if_lost()
        return self._path_of(name)

    def _refuse_if_lost(self) -> None:
        """Raises StoreError where the run is another process's, or may be, and ChildOfRunError in a child by a fork.
        From any thread."""
        if os.getpid() != self._process:
            raise ChildOfRunError
        if self._abandoned or (self._lease is not None and not self._lease.is_valid):
            raise self._lost_error()

    def _refuse_if_not_ours(self) -> None:
        """Raises StoreError also where the lock is another file by now, or its directory was moved: whoever locks that
        one believes that nobody else is at work. From a worker thread, since it asks the disk."""
        self._refuse_if_lost()
        if (locked := self._locked) is None:
            return
        path = self._path / LOCK
        try:
            named = path.stat()
        except _MISSING:
            raise taken_away(path) from None
        if not is_same_file(locked, named):
            raise taken_away(path)

    def _lost_error(self) -> StoreError:
        return StoreError(self._why_lost, hint="the same command goes on when the other process has ended")

    def _remove_file(self, path: Path) -> None:
        self._refuse_if_not_ours()
        path.unlink(missing_ok=True)

    def _rename_file(self, path: Path, new_path: Path) -> None:
        self._refuse_if_not_ours()
        path.replace(new_path)

    def _shut_out_others(self) -> None:
        """Takes from under other processes what they have half-written, and the files of the logs that they have open.

        All others, not only the last owner: one before it may stand still, too. A report or an export that is just
        being written here fails, and is asked for again: that can't be told apart, and happens once in a takeover.
        """
        half_written = [entry for entry in self._path.iterdir() if is_of_another_process(entry.name)]
        # In this order: where this process stood still, and another one is at work, the list may have what that writes.
        self._refuse_if_not_ours()
        for entry in half_written:
            entry.unlink(missing_ok=True)
        for log in Log:
            path = self._path / log
            if not path.exists():
                continue
            fresh = beside(path)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as copy, open(path, "rb", opener=open_plain_file) as old:
                shutil.copyfileobj(old, copy, BLOCK_BYTES)
                copy.flush()
                self._fsync(copy.fileno())
            self._refuse_if_not_ours()
            fresh.replace(path)
        sync_directory(self._path, self._fsync)

    def _append_to_file(self, path: Path, data: bytes) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | self._follow  # a pipe must not be waited for
        descriptor = os.open(path, flags, 0o600)
        try:
            self._refuse_if_not_ours()
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def _prepare_directory(self) -> None:
        try:
            # Innermost first, so that folders are empty when they are removed.
            self._made = [each for each in (self._path / LOCK, self._path, *self._path.parents) if not each.exists()]
            if self._path.exists() and not self._path.is_dir():
                raise RunDirectoryError(f"{self._path} is a file", hint="name another run directory")
            for level in reversed([self._path, *self._path.parents]):
                if not level.exists():
                    if level.is_symlink():  # else mkdir would say that it exists
                        raise RunDirectoryError(
                            f"{describe_link(str(level), level)}, where nothing is",
                            hint="make the directory that the link leads to, or name another run directory",
                        )
                    level.mkdir(mode=0o700, exist_ok=True)
                    sync_directory(level.parent, self._fsync)  # a durable file in a folder that is lost is lost
            trial = beside(self._path / "trial")
            descriptor = os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                own_uid = os.fstat(descriptor).st_uid
            finally:
                os.close(descriptor)
                trial.unlink(missing_ok=True)  # who just got the lock sweeps what a killed process may have left
            refuse_untrusted(self._path, own_uid, trusted=self._trusted)
        except OSError as error:
            raise unusable(self._path, error) from error

    def _remove_what_was_made(self, names: frozenset[str]) -> None:
        with suppress(OSError, StoreError):  # tidying up must not replace the error that ended the planning
            self._refuse_if_not_ours()
            if self._list_names() <= names:
                for each in self._made:
                    each.rmdir() if each.is_dir() else each.unlink(missing_ok=True)

    def _remove_leftovers(self) -> None:
        for entry in find_leftovers(self._path):
            entry.unlink(missing_ok=True)

    def _list_names(self) -> frozenset[str]:
        try:
            files = [entry.name for entry in os.scandir(self._path) if entry.is_file()]
        except _MISSING:
            return frozenset()
        return frozenset(name for name in files if name != LOCK and not TEMPORARY.fullmatch(name))

    def _cut_file(self, log: Log, end: int) -> None:
        path = self._path / log
        try:
            descriptor: int | None = os.open(path, os.O_RDWR | self._follow)
        except FileNotFoundError:
            descriptor = None
        try:
            if (size := 0 if descriptor is None else os.fstat(descriptor).st_size) < end:
                raise DamagedError(
                    f"{path} has {size} bytes, but {end} were committed",
                    hint="restore the file from a copy, or begin again in a new run directory",
                )
            self._refuse_if_not_ours()  # of a file that is open already, as in LogWriter
            if descriptor is not None:
                os.ftruncate(descriptor, end)  # what stands behind was never committed
                self._fsync(descriptor)
        finally:
            if descriptor is not None:
                os.close(descriptor)


def find_leftovers(directory: Path) -> list[Path]:
    """What killed processes left half-written."""
    return [entry for entry in directory.iterdir() if is_leftover(entry.name)]


async def sweep_unless_held(directory: Path) -> None:
    """Removes what killed processes left half-written, for who neither holds the lock nor needs it otherwise. Where
    there is nothing, the directory isn't touched. Where somebody holds it, or the disk is read-only, nothing happens.
    """
    with suppress(OSError, RunDirectoryError, WorldError):
        if await to_thread.run_sync(find_leftovers, directory):
            async with hold(directory):
                await DiskStore(directory).sweep()


_MISSING = (FileNotFoundError, NotADirectoryError)
"""A path below a file holds nothing either."""


_PIECE_BYTES = 1 << 26
_HASHED_BYTES = 1 << 21
"""Hashed at once: whenever hashing ends, the thread waits for the interpreter's lock, 5 ms if others compute."""


def _hash_piece(path: Path, digest: hashlib._Hash, start: int) -> int:
    """Hashes the next piece of a file. Returns where it ends, or 0 where nothing is left."""
    end = start
    held = memoryview(bytearray(_HASHED_BYTES))
    with open(path, "rb", buffering=0, opener=open_plain_file) as file:
        file.seek(start)
        while end < start + _PIECE_BYTES and (count := file.readinto(held)):
            digest.update(held[:count])
            end += count
    return end if end > start else 0
