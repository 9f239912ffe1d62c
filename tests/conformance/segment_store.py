"""A medium of objects that never change, as a run directory in an object store would be: for tests only.

It proves that `ports.RunStore` asks for no more than such a medium can do. A `Bucket` can put a whole object where its
key is free, get a range of one, and list keys with their sizes. It can't append to an object, cut one, rename one or
take one away.

Each name is a sequence of numbered objects, `NAME/000001`, `NAME/000002`, …; the first line of each says what it does
to the bytes so far: `whole` begins them anew, `more` goes on, `cut END` keeps the first END of them, `gone` takes the
name away. Logical offsets count the bytes that result. A number is given once, so that who loses a race knows it.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, unquote

import anyio
from anyio.lowlevel import checkpoint

from classify_batch.errors import DamagedError, InternalError, StoreError
from classify_batch.ports import Lease
from classify_batch.run_records import Holder
from classify_batch.store.lock import holder_here, locked
from classify_batch.store.os_errors import other_writer, refusals
from classify_batch.vocabulary import DATA_LOGS, Log

LOCK = "lock"
_HEAD_BYTES_MAX = 64


class Bucket:
    """Objects that never change, each kept in a file of `root`.

    Args:
        kill_at: at which put the process kills itself, counted from 1: right before it, or right after it where the
            number is negative.
        full: whether every put is refused.
    """

    def __init__(self, root: Path, *, kill_at: int = 0, full: bool = False) -> None:
        self._root = root
        self._kill_at = kill_at
        self._full = full
        self.puts = 0

    def put_if_absent(self, key: str, data: bytes) -> None:
        """Raises FileExistsError where the key is taken."""
        if self._full:
            raise OSError(28, os.strerror(28))
        self.puts += 1
        if self.puts == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        beside = self._root / f".{os.getpid()}.{self.puts}"
        self._root.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(data)
        try:
            (self._root / quote(key, safe="")).hardlink_to(beside)
        finally:
            beside.unlink()
        if self.puts == -self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def get(self, key: str, start: int, end: int) -> bytes:
        with (self._root / quote(key, safe="")).open("rb") as file:
            file.seek(start)
            return file.read(max(0, end - start))

    def list(self, prefix: str = "") -> dict[str, int]:
        """The keys that begin with `prefix`, in order, with their objects' sizes."""
        if not self._root.is_dir():
            return {}
        sizes = {unquote(each.name): each.stat().st_size for each in self._root.iterdir() if each.name[0] != "."}
        return {key: sizes[key] for key in sorted(sizes) if key.startswith(prefix)}


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of an object that count."""

    key: str
    start: int
    end: int


class Segments:
    """What the objects of a bucket mean."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self._heads: dict[str, bytes] = {}

    def pieces(self, name: str) -> list[Piece] | None:
        """A name's bytes in their order; None where there is no such name."""
        found: list[Piece] | None = None
        for key, size in self.bucket.list(f"{name}/").items():
            head = self._head(key)
            kind, _, end = head.decode().partition(" ")
            piece = Piece(key, len(head) + 1, size)
            if kind == "gone":
                found = None
            elif kind == "whole" or found is None:
                found = [piece]
            elif kind == "more":
                found.append(piece)
            else:
                found = list(_cut(found, 0, int(end)))
        return found

    def size(self, name: str) -> int | None:
        pieces = self.pieces(name)
        return None if pieces is None else sum(piece.end - piece.start for piece in pieces)

    def blocks(self, name: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Raises FileNotFoundError."""
        pieces = self.pieces(name)
        if pieces is None:
            raise FileNotFoundError(2, os.strerror(2), name)
        for piece in _cut(pieces, start, end):
            yield self.bucket.get(piece.key, piece.start, piece.end)

    def next_number(self, name: str) -> int:
        return len(self.bucket.list(f"{name}/")) + 1

    def put(self, name: str, number: int, head: str, data: bytes = b"") -> None:
        """Raises FileExistsError where somebody else has put this number."""
        with refusals(Path(name), but=FileExistsError):
            self.bucket.put_if_absent(f"{name}/{number:06d}", head.encode() + b"\n" + data)

    def put_next(self, name: str, head: str, data: bytes = b"") -> None:
        while True:
            try:
                return self.put(name, self.next_number(name), head, data)
            except FileExistsError:
                continue

    def holder(self) -> Holder | None:
        """Who holds the run: a killed process holds nothing. (Between machines a lease would have to run out.)"""
        if self.size(LOCK) is None:
            return None
        holder = Holder(**json.loads(b"".join(self.blocks(LOCK))))
        try:
            os.kill(holder.pid, 0)
        except ProcessLookupError:
            return None
        return holder

    def _head(self, key: str) -> bytes:
        if key not in self._heads:
            self._heads[key] = self.bucket.get(key, 0, _HEAD_BYTES_MAX).partition(b"\n")[0]
        return self._heads[key]


def _cut(pieces: Sequence[Piece], start: int, end: int | None) -> Iterator[Piece]:
    """The pieces of the bytes from `start` to `end`."""
    offset = 0
    for piece in pieces:
        size = piece.end - piece.start
        first, last = max(0, start - offset), size if end is None else min(size, end - offset)
        if first < last:
            yield Piece(piece.key, piece.start + first, piece.start + last)
        offset += size


class SegmentReader:
    """`ports.RunReader` on a bucket."""

    def __init__(self, bucket: Bucket, where: str) -> None:
        self._segments = Segments(bucket)
        self.where = where

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes | None:
        try:
            return b"".join(self._segments.blocks(name, start, end))
        except FileNotFoundError:
            return None

    def size(self, name: str) -> int | None:
        return self._segments.size(name)

    def holder(self) -> Holder | None:
        return self._segments.holder()


class SegmentStore:
    """`ports.RunStore` on a bucket; runs on asyncio and trio."""

    def __init__(self, bucket: Bucket, where: str) -> None:
        self._segments = Segments(bucket)
        self._pending: list[tuple[Log, bytes]] = []
        self._appended = self._settled = 0
        self._committing = anyio.Lock()
        self._opened: dict[Log, int] = {}
        self._ends: dict[Log, int] = {}
        self._numbers: dict[Log, int] = {}
        self._failure: StoreError | None = None
        self._lease: Lease | None = None
        self._why_lost = ""
        self._closed = False
        self.where = where

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            if self._pending and self._failure is None and not self._closed:
                await self.commit()
        self._closed = True

    # --- Who may write ----------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        await checkpoint()

    @asynccontextmanager
    async def lock(self, *, seize: Lease | None = None) -> AsyncIterator[None]:
        await checkpoint()
        number = self._segments.next_number(LOCK)
        if (holder := self._segments.holder()) is not None and (seize is None or not seize.is_valid):
            raise locked(self.where, holder)
        try:
            self._segments.put(LOCK, number, "whole", json.dumps(asdict(holder_here())).encode())
        except FileExistsError:
            raise locked(self.where, self._segments.holder() or Holder()) from None
        try:
            yield
        finally:
            self._segments.put_next(LOCK, "gone")

    async def fence(self, lease: Lease, why: str, *, contested: bool) -> None:
        """An object never changes, and has its number: what a woken process puts collides with that."""
        await checkpoint()
        self._lease, self._why_lost = lease, why

    def abandon(self, why: str) -> None:
        self._failure = StoreError(why)

    def _refuse_if_lost(self) -> None:
        if self._lease is not None and not self._lease.is_valid:
            raise StoreError(self._why_lost)

    async def holder(self) -> Holder | None:
        await checkpoint()
        return self._segments.holder()

    # --- Reading ----------------------------------------------------------------------------------------------------

    async def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        await checkpoint()
        return b"".join(self._segments.blocks(name, start, end))

    async def stream(self, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        for block in self._segments.blocks(name, start, end):
            yield block
            await checkpoint()

    async def sha256(self, name: str) -> str:
        digest = hashlib.sha256()
        for block in self._segments.blocks(name, 0, None) if self._segments.size(name) is not None else ():
            digest.update(block)
            await checkpoint()
        return digest.hexdigest()

    async def size(self, name: str) -> int | None:
        await checkpoint()
        return self._segments.size(name)

    async def names(self) -> frozenset[str]:
        await checkpoint()
        names = {key.rpartition("/")[0] for key in self._segments.bucket.list()} - {LOCK}
        return frozenset(name for name in names if self._segments.size(name) is not None)

    # --- Files that are written whole -------------------------------------------------------------------------------

    async def replace(self, name: str, blocks: AsyncIterator[bytes]) -> None:
        data = b"".join([block async for block in blocks])
        await checkpoint()
        self._refuse_if_lost()
        self._segments.put_next(name, "whole", data)

    async def create(self, name: str, data: bytes) -> None:
        number = self._segments.next_number(name)
        if self._segments.size(name) is not None:
            raise FileExistsError(17, os.strerror(17), name)
        await checkpoint()  # so that others may race
        self._refuse_if_lost()
        self._segments.put(name, number, "whole", data)

    async def remove(self, name: str) -> None:
        await checkpoint()
        self._refuse_if_lost()
        if self._segments.size(name) is not None:
            self._segments.put_next(name, "gone")

    # --- Files that nobody needs ------------------------------------------------------------------------------------

    async def append_undurable(self, name: str, data: bytes) -> int:
        await checkpoint()
        self._refuse_if_lost()
        size = self._segments.size(name)
        self._segments.put_next(name, "whole" if size is None else "more", data)
        return (size or 0) + len(data)

    async def rename(self, name: str, new_name: str) -> None:
        data = await self.read(name)
        self._refuse_if_lost()
        self._segments.put_next(new_name, "whole", data)
        self._segments.put_next(name, "gone")

    # --- Logs -------------------------------------------------------------------------------------------------------

    async def open_log(self, log: Log, end: int) -> None:
        if log in self._ends:
            raise InternalError(f"{log} can't be opened after the first append to it")
        await checkpoint()
        self._refuse_if_lost()
        size = self._segments.size(log) or 0
        if size < end:
            raise DamagedError(f"{log} has {size} bytes, but {end} were committed", hint="begin again")
        if size > end:
            self._segments.put_next(log, f"cut {end}")
        self._opened[log] = end

    def append(self, log: Log, data: bytes) -> int:
        self._refuse_after_failure()
        start = self._ends.setdefault(log, self._opened.get(log, 0))
        if data:
            self._pending.append((log, data))
            self._appended += 1
            self._ends[log] = start + len(data)
        return start

    async def commit(self) -> None:
        self._refuse_after_failure()
        mark = self._appended
        async with self._committing:
            if self._settled >= mark:
                return
            self._refuse_after_failure()
            group, self._pending = self._pending, []
            try:
                for log in (*DATA_LOGS, Log.JOURNAL):
                    self._put_segment(log, b"".join([data for to, data in group if to is log]))
            except StoreError as failure:
                self._failure = failure
                self._refuse_after_failure()
            self._settled += len(group)

    def _put_segment(self, log: Log, data: bytes) -> None:
        if not data:
            return
        self._refuse_if_lost()
        if log not in self._numbers:
            size, start = self._segments.size(log) or 0, self._opened.get(log, 0)
            if size != start:
                raise other_writer(Path(log), size, start)
            self._numbers[log] = self._segments.next_number(log)
        try:
            self._segments.put(log, self._numbers[log], "more", data)
        except FileExistsError:
            raise other_writer(Path(log), self._segments.size(log) or 0, self._ends[log]) from None
        self._numbers[log] += 1

    def _refuse_after_failure(self) -> None:
        if self._failure is not None:
            raise StoreError(str(self._failure), hint=self._failure.hint) from self._failure
        if self._closed:
            raise InternalError("append or commit after the store was closed")


@dataclass(frozen=True, slots=True)
class SegmentPlace:
    """`ports.RunPlace` on buckets; see `Bucket` for `kill_at`."""

    root: Path
    kill_at: int = 0

    @property
    def where(self) -> str:
        return f"segments:{self.root}"

    @property
    def canonical(self) -> str:
        return f"segments:{self.root.resolve()}"

    @property
    def folder(self) -> None:
        return None

    @property
    def trusted(self) -> bool:
        return False

    def open(self) -> SegmentStore:
        return SegmentStore(Bucket(self.root, kill_at=self.kill_at), self.where)

    def reader(self) -> SegmentReader:
        return SegmentReader(Bucket(self.root), self.where)

    def child(self, name: str) -> SegmentPlace:
        return SegmentPlace(self.root / name, self.kill_at)

    def sibling(self, name: str) -> SegmentPlace:
        return SegmentPlace(self.root.parent / name, self.kill_at)

    def inside(self) -> list[SegmentPlace] | None:
        if not self.root.is_dir():
            return None
        return [SegmentPlace(each) for each in sorted(self.root.iterdir()) if each.is_dir()]
