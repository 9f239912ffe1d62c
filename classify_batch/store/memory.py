"""The run directory's twin in memory, for runs in virtual time and for rehearsing power cuts. It ships.

It keeps apart what is durable and what is only appended, so that a test can pull the plug at any time and
choose how much of the rest had reached the disk, within the one promise that a disk keeps: no byte of the
journal without all bytes that were appended to the other logs before it.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import anyio
from anyio.lowlevel import checkpoint

from classify_batch.errors import DamagedError, InternalError, StoreError
from classify_batch.ports import Lease
from classify_batch.run_records import Holder
from classify_batch.store.lock import holder_here, locked
from classify_batch.store.os_errors import other_writer, refused
from classify_batch.streams.closing import closing
from classify_batch.vocabulary import DATA_LOGS, Log


class MemoryStore:
    """`ports.RunStore` in memory; runs on asyncio and trio.

    Args:
        files: what is there at the beginning.
        commit_s: how long a commit takes, in the event loop's time.
    """

    def __init__(self, files: Mapping[str, bytes] | None = None, *, commit_s: float = 0.0) -> None:
        self._files = {name: bytearray(data) for name, data in (files or {}).items()}
        self._commit_s = commit_s
        self._pending: list[tuple[Log, bytes]] = []
        self._settled = 0
        self._opened: dict[Log, int] = {}
        self._ends: dict[Log, int] = {}
        self._durable_ends: dict[Log, int] = {}
        self._bytes_left: int | None = None
        self._commits_left: int | None = None
        self._failure: StoreError | None = None
        self._closed = False
        self._holder: Holder | None = None
        self._lease: Lease | None = None
        self._why_lost = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Commits what is left, unless a commit failed before."""
        with anyio.CancelScope(shield=True):
            if self._pending and self._failure is None and not self._closed:
                await self.commit()
        self._closed = True

    @property
    def where(self) -> str:
        return "memory"

    # --- Misfortune -----------------------------------------------------------------------------------------

    @property
    def files(self) -> dict[str, bytes]:
        """A copy of what is durable, by name."""
        return {name: bytes(data) for name, data in self._files.items()}

    def crash(self, choose: Callable[[int, int], int] = min) -> MemoryStore:
        """The store that is found after a power cut now; this one must not be used any more.

        Args:
            choose: given the least and the most pending bytes of a log that can have become durable, says
                how many have. `min` keeps what was committed, `max` everything, and `Random(seed).randint`
                anything between.
        """
        pending = Counter[Log]()
        for log, data in self._pending:
            pending[log] += len(data)
        kept = {Log.JOURNAL: choose(0, pending[Log.JOURNAL])}  # first: it decides what the others owe
        owed = self._uncommitted_bytes(kept[Log.JOURNAL])
        for log in DATA_LOGS:
            kept[log] = choose(owed[log], pending[log])
        found = self.files
        for log, count in kept.items():
            if count:
                found[log.value] = found.get(log, b"") + b"".join(d for to, d in self._pending if to is log)[:count]
        return MemoryStore(found, commit_s=self._commit_s)

    def fail_after(self, *, bytes_written: int | None = None, commits: int | None = None) -> None:
        """Lets the medium be full after that many more bytes, or fail after that many more commits."""
        self._bytes_left = bytes_written
        self._commits_left = commits

    # --- ports.RunStore -------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        await checkpoint()

    @asynccontextmanager
    async def lock(self, *, seize: Lease | None = None) -> AsyncIterator[None]:
        if self._holder is not None and (seize is None or not seize.is_valid):
            raise locked(self.where, self._holder)
        self._holder = holder_here()
        try:
            yield
        finally:
            self._holder = None

    async def fence(self, lease: Lease, why: str, *, contested: bool) -> None:  # noqa: ARG002 - nothing is half-written
        await checkpoint()
        self._lease, self._why_lost = lease, why

    def abandon(self, why: str) -> None:
        self._failure = StoreError(why, hint="the same command goes on when the other process has ended")

    def _refuse_if_lost(self) -> None:
        if self._lease is not None and not self._lease.is_valid:
            raise StoreError(self._why_lost, hint="the same command goes on when the other process has ended")

    async def holder(self) -> Holder | None:
        await checkpoint()
        return self._holder

    async def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        await checkpoint()
        if name not in self._files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return bytes(self._files[name][start:end])

    async def stream(self, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        if data := await self.read(name, start, end):
            yield data

    async def sha256(self, name: str) -> str:
        await checkpoint()
        return hashlib.sha256(self._files.get(name, b"")).hexdigest()

    async def size(self, name: str) -> int | None:
        await checkpoint()
        return len(self._files[name]) if name in self._files else None

    async def names(self) -> frozenset[str]:
        await checkpoint()
        return frozenset(self._files)

    async def replace(self, name: str, blocks: AsyncIterator[bytes]) -> None:
        async with closing(blocks) as stream:
            data = b"".join([block async for block in stream])
        await checkpoint()
        self._refuse_if_lost()
        self._charge_space(name, len(data))
        self._files[name] = bytearray(data)

    async def create(self, name: str, data: bytes) -> None:
        await checkpoint()
        self._refuse_if_lost()
        if name in self._files:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        self._charge_space(name, len(data))
        self._files[name] = bytearray(data)

    async def remove(self, name: str) -> None:
        await checkpoint()
        self._refuse_if_lost()
        self._files.pop(name, None)

    async def append_undurable(self, name: str, data: bytes) -> int:
        await checkpoint()
        self._refuse_if_lost()
        self._charge_space(name, len(data))
        self._files.setdefault(name, bytearray()).extend(data)
        return len(self._files[name])

    async def rename(self, name: str, new_name: str) -> None:
        await checkpoint()
        self._refuse_if_lost()
        if name not in self._files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        self._files[new_name] = self._files.pop(name)

    async def open_log(self, log: Log, end: int) -> None:
        if log in self._ends:
            raise InternalError(f"{log} can't be opened after the first append to it")
        await checkpoint()
        self._refuse_if_lost()
        if (size := len(self._files.get(log, b""))) < end:
            raise DamagedError(f"{log} has {size} bytes, but {end} were committed", hint="begin again")
        if log in self._files:
            del self._files[log][end:]
        self._opened[log] = end

    def append(self, log: Log, data: bytes) -> int:
        self._refuse_over_capacity()
        start = self._ends.setdefault(log, self._opened.get(log, 0))
        if data:
            self._pending.append((log, data))
            self._ends[log] = start + len(data)
        return start

    async def commit(self) -> None:
        self._refuse_over_capacity()
        mark = self._settled + len(self._pending)  # what is appended during the wait is the next commit's
        await anyio.sleep(self._commit_s)
        if self._settled < mark:
            self._make_durable(mark)

    # --- What these stand on --------------------------------------------------------------------------------

    def _make_durable(self, mark: int) -> None:
        """Makes the first `mark` appends durable, data before journal, as far as there is room."""
        self._refuse_over_capacity()
        if self._commits_left == 0:
            self._failure = refused(Path("journal.jsonl"), _make_os_error(errno.EIO))
            self._refuse_over_capacity()
        try:
            self._refuse_if_lost()
        except StoreError as failure:
            self._failure = failure
            raise
        group = self._pending[: mark - self._settled]
        for log, data in sorted(group, key=lambda entry: entry[0] is Log.JOURNAL):  # stable: each log keeps its order
            self._write_at_once(log, data)
        del self._pending[: len(group)]
        self._settled = mark
        if self._commits_left is not None:
            self._commits_left -= 1

    def _write_at_once(self, log: Log, data: bytes) -> None:
        """Like a full disk: takes what fits, and what comes behind is never written."""
        file = self._files.setdefault(log.value, bytearray())
        try:
            if len(file) != (end := self._durable_ends.setdefault(log, self._opened.get(log, 0))):
                raise other_writer(Path(log), len(file), end)
            file.extend(data[: self._bytes_left])
            self._durable_ends[log] = len(file)
            self._charge_space(log, len(data))
        except StoreError as failure:
            self._bytes_left = 0  # a disk that was full stays full
            self._failure = failure
            self._pending.clear()
            raise

    def _charge_space(self, name: str, count: int) -> None:
        if self._bytes_left is not None:
            if count > self._bytes_left:
                raise refused(Path(name), _make_os_error(errno.ENOSPC))
            self._bytes_left -= count

    def _uncommitted_bytes(self, journal_bytes: int) -> Counter[Log]:
        """How much of the other logs must be durable if that many pending bytes of the journal are."""
        owed = Counter[Log]()
        before = Counter[Log]()
        for log, data in self._pending:
            if log is not Log.JOURNAL:
                before[log] += len(data)
            elif journal_bytes > 0:
                owed = before.copy()
                journal_bytes -= len(data)
        return owed

    def _refuse_over_capacity(self) -> None:
        if self._failure is not None:
            raise StoreError(str(self._failure), hint=self._failure.hint) from self._failure
        if self._closed:
            raise InternalError("append or commit after the store was closed")


def _make_os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
