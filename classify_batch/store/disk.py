"""A run directory on a disk.

Files that are written whole go through `whole.py`, the three logs through the group commit of `commit.py`;
reading is a cold path and goes through aiofiles.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from anyio import to_thread

from classify_batch.errors import DamagedError, InternalError, RunDirectoryError
from classify_batch.store.atomic_file import (
    TEMPORARY,
    Fsync,
    beside,
    give_new_name,
    opened,
    publish,
    sync_directory,
    written_beside,
)
from classify_batch.store.group_commit import Committer, LogWriter
from classify_batch.store.holder import LOCK, Holder, read_holder
from classify_batch.store.lock import hold
from classify_batch.store.os_errors import refusals, unusable
from classify_batch.vocabulary import Log

BLOCK_BYTES = 1 << 18
"""Read as fast as in larger blocks, and small enough that what the threads' heaps keep of freed ones is little."""


class DiskStore:
    """`ports.RunStore` on the directory `path`; bound to asyncio.

    Reading needs no ceremony. Who writes opens it with `async with`, which commits what is left and ends the
    thread; calls `prepare`, and holds `lock()` meanwhile. `fsync` can be replaced, to count or slow it down.
    """

    def __init__(self, path: Path, *, fsync: Fsync = os.fsync) -> None:
        self._path = path
        self._fsync = fsync
        self._committer = Committer(LogWriter(path, fsync=fsync))
        self._ends: dict[Log, int] = {}

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

        Directories that exist stay as they are. Raises RunDirectoryError.
        """
        await to_thread.run_sync(self._prepare_directory)

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        async with hold(self._path):
            await self.sweep()
            yield

    def holder(self) -> Holder | None:
        """Who holds the run at this moment. Safe while a run is on."""
        return read_holder(self._path)

    async def sweep(self) -> None:
        """Removes what a killed process left half-written; `lock` does it. Only for the lock's holder: what
        another process is just writing looks the same.
        """
        with refusals(self._path):
            await to_thread.run_sync(self._remove_leftovers)

    # --- Reading --------------------------------------------------------------------------------------------

    async def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        return b"".join([block async for block in self.stream(name, start, end)])

    async def stream(self, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        path = self._path_of(name)
        async with opened(path, "rb", but=FileNotFoundError) as file:
            with refusals(path):
                await file.seek(start)
                while block := await file.read(_next_block_bytes(start, end)):
                    start += len(block)
                    yield block

    async def size(self, name: str) -> int | None:
        path = self._path_of(name)
        with refusals(path):
            try:
                return (await to_thread.run_sync(path.stat)).st_size
            except FileNotFoundError:
                return None

    async def names(self) -> frozenset[str]:
        """The files that are there, without the lock and what is half-written; none without a directory."""
        with refusals(self._path):
            return await to_thread.run_sync(self._list_names)

    # --- Files that are written whole -----------------------------------------------------------------------

    async def replace(self, name: str, blocks: AsyncIterator[bytes]) -> None:
        path = self._path_of(name)
        async with written_beside(path, blocks, self._fsync) as temporary:
            with refusals(path):
                await to_thread.run_sync(publish, temporary.replace, path, self._fsync)

    async def create(self, name: str, data: bytes) -> None:
        path = self._path_of(name)
        async with written_beside(path, _single_block(data), self._fsync) as temporary:
            with refusals(path, but=FileExistsError):
                await to_thread.run_sync(publish, partial(give_new_name, temporary), path, self._fsync)

    async def remove(self, name: str) -> None:
        path = self._path_of(name)
        with refusals(path):
            await to_thread.run_sync(partial(path.unlink, missing_ok=True))

    # --- Logs -----------------------------------------------------------------------------------------------

    async def truncate(self, log: Log, end: int) -> None:
        """Cuts a log back to `end` bytes. One of just that size is still made durable: what a killed process
        wrote may be readable and yet not on the disk. Raises DamagedError where the log is shorter.
        """
        if log in self._ends:
            raise InternalError(f"{log} can't be cut back after the first append to it")
        with refusals(self._path / log):
            await to_thread.run_sync(self._truncate_file, log, end)

    def append(self, log: Log, data: bytes) -> int:
        start = self._ends.get(log)
        if start is None:
            start = self._ends[log] = self._size_now(log)
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

    def _size_now(self, log: Log) -> int:
        path = self._path / log
        with refusals(path):
            return path.stat().st_size if path.exists() else 0

    def _prepare_directory(self) -> None:
        try:
            if self._path.exists() and not self._path.is_dir():
                raise RunDirectoryError(f"{self._path} is a file", hint="name another run directory")
            for level in reversed([self._path, *self._path.parents]):
                if not level.exists():
                    level.mkdir(mode=0o700, exist_ok=True)
                    sync_directory(level.parent, self._fsync)
            trial = beside(self._path / "trial")
            os.close(os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            trial.unlink()
        except OSError as error:
            raise unusable(self._path, error) from error

    def _remove_leftovers(self) -> None:
        for entry in self._path.iterdir():
            if TEMPORARY.fullmatch(entry.name):
                entry.unlink(missing_ok=True)

    def _list_names(self) -> frozenset[str]:
        try:
            files = [entry.name for entry in os.scandir(self._path) if entry.is_file()]
        except FileNotFoundError:
            return frozenset()
        return frozenset(name for name in files if name != LOCK and not TEMPORARY.fullmatch(name))

    def _truncate_file(self, log: Log, end: int) -> None:
        path = self._path / log
        if (size := self._size_now(log)) < end:
            raise DamagedError(
                f"{path} has {size} bytes, but {end} were committed",
                hint="restore the file from a copy, or begin again in a new run directory",
            )
        if path.exists():
            with path.open("r+b") as file:
                file.truncate(end)
                self._fsync(file.fileno())


def _next_block_bytes(start: int, end: int | None) -> int:
    return BLOCK_BYTES if end is None else max(0, min(BLOCK_BYTES, end - start))


async def _single_block(data: bytes) -> AsyncIterator[bytes]:
    yield data
