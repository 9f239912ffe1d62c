"""More file IDs than memory should hold, kept in temporary files.

What is added first waits in memory, and goes to a nameless file when there is enough of it: whatever happens to the
process, no file is left behind. A thread of its own writes: the page cache takes a gigabyte in half a second, in which
the next IDs are spread. What is read comes in place, from the page cache, in pieces as small as a batch; the callers
give way to the event loop between these.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from io import FileIO
from itertools import accumulate, chain, pairwise, starmap
from pathlib import Path
from typing import Final, NamedTuple, Self

from classify_batch.errors import StoreError
from classify_batch.streams.temporary_folder import find_temporary_folder
from classify_batch.streams.uuid_lines import UuidLines

NUMBER: Final = "H"
"""How a bucket's number is kept, as `array` and `memoryview` call it: two bytes."""


class Limits(NamedTuple):
    """How much is held in memory. The defaults are for many millions of IDs; tests make them tiny.

    Attributes:
        buckets: up to 256, or a multiple of 256. With 512 the IDs of a bucket of 10 million, and a set of them, still
            stay in the CPU's cache.
        held_ids: IDs that wait in memory for being written to their buckets together.
        file_bytes: of a temporary file, so much waits in memory for being written.
    """

    buckets: int = 512
    held_ids: int = 1 << 15
    file_bytes: int = 1 << 20


LIMITS = Limits()


class TemporaryFile:
    """Bytes that are added at the end, and read from anywhere; close it by `with`. What the disk refuses is a
    StoreError of the next call."""

    def __init__(self, directory: Path | None, limits: Limits) -> None:
        self._directory = directory
        self._waiting_bytes_max = limits.file_bytes
        self._waiting: list[bytes] = []
        self._waiting_bytes = self._written_bytes = 0
        self._file: FileIO | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None

    def append(self, data: bytes) -> int:
        """Puts `data` at the end and returns the offset at which it begins."""
        start = self._written_bytes + self._waiting_bytes
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes > self._waiting_bytes_max:
            self._begin_writing()
        return start

    def read(self, start: int, length: int) -> bytes:
        """What was added together, or a part of it. It may be read as soon as it was added."""
        if start >= self._written_bytes:
            start -= self._written_bytes
            waiting = b"".join(self._waiting)
            self._waiting = [waiting]
            return waiting[start : start + length]
        self._wait_for_writing()
        file = self._open_file()
        try:
            data = os.pread(file.fileno(), length, start)
        except OSError as error:
            raise self._store_error(error) from error
        if len(data) < length:
            raise self._store_error(OSError("it is shorter than what was written"))
        return data

    def _begin_writing(self) -> None:
        self._wait_for_writing()
        file, pool = self._open_file(), self._open_pool()
        self._writing = pool.submit(_write_at, file.fileno(), self._written_bytes, self._waiting)
        self._written_bytes += self._waiting_bytes
        self._waiting, self._waiting_bytes = [], 0

    def _wait_for_writing(self) -> None:
        if self._writing is not None:
            try:
                self._writing.result()
            except OSError as error:
                raise self._store_error(error) from error
            self._writing = None

    def _open_file(self) -> FileIO:
        if self._file is None:
            place = str(self._directory or find_temporary_folder())
            try:
                self._file = tempfile.TemporaryFile(buffering=0, dir=place)  # noqa: SIM115 - it is closed with this
            except OSError as error:
                raise self._store_error(error) from error
        return self._file

    def _open_pool(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="classify-batch-spill")
        return self._pool

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        if self._file is not None:
            with suppress(OSError):  # a full disk was reported already, by the call that met it
                self._file.close()

    def _store_error(self, error: OSError) -> StoreError:
        where = self._directory or find_temporary_folder()
        return StoreError(
            f"temporary files in {where}: {error.strerror or error}",
            hint="finding repeated file IDs takes twice the input's size on disk; make room, or set TMPDIR",
        )


_WRITES_MAX = 64


def _write_at(descriptor: int, start: int, pieces: Sequence[bytes]) -> None:
    """Writes pieces behind each other; many small ones by one call."""
    for piece in pieces if len(pieces) <= _WRITES_MAX else [b"".join(pieces)]:
        rest = memoryview(piece)
        while rest:
            written = os.pwrite(descriptor, rest, start)
            start += written
            rest = rest[written:]


class Spool(TemporaryFile):
    """Batches of IDs that come back in the order in which they went in, each as what it was."""

    def __init__(self, directory: Path | None = None, limits: Limits = LIMITS) -> None:
        super().__init__(directory, limits)
        self._lengths = array("Q")
        self._uuids = bytearray()

    def add_ids(self, file_ids: Sequence[str]) -> None:
        is_uuids = isinstance(file_ids, UuidLines)
        data = file_ids.data if isinstance(file_ids, UuidLines) else "\n".join(file_ids).encode()
        self.append(data)
        self._lengths.append(len(data))
        self._uuids.append(is_uuids)

    def replay_ids(self) -> Iterator[list[str] | UuidLines]:
        start = 0
        for length, is_uuids in zip(self._lengths, self._uuids, strict=True):
            data = self.read(start, length)
            yield UuidLines(data) if is_uuids else data.decode().split("\n")
            start += length


class NumberSpool(TemporaryFile):
    """The buckets of batches of IDs, which come back in the order in which they went in: to hash the IDs once more
    would take longer."""

    def __init__(self, directory: Path | None, limits: Limits) -> None:
        super().__init__(directory, limits)
        self._lengths = array("Q")

    def add_numbers(self, numbers: memoryview) -> None:
        data = numbers.tobytes()
        self.append(data)
        self._lengths.append(len(data))

    def replay_numbers(self) -> Iterator[memoryview]:
        start = 0
        for length in self._lengths:
            yield memoryview(self.read(start, length)).cast(NUMBER)
            start += length


class BucketQueues:
    """For some buckets, a row for each of their IDs, which are taken out one by one. All but a few wait in a temporary
    file."""

    def __init__(self, directory: Path | None, limits: Limits, held_rows: int) -> None:
        self._file = Spool(directory, limits)
        self._held_rows = held_rows
        self._of_bucket: dict[int, Iterator[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)

    def __bool__(self) -> bool:
        return bool(self._of_bucket)

    def add_bucket(self, bucket: int, rows: Sequence[str]) -> None:
        """Adds the rows of a bucket, all of them."""
        parts = ["\n".join(rows[at : at + self._held_rows]).encode() for at in range(0, len(rows), self._held_rows)]
        ends = array("Q", accumulate(map(len, parts), initial=self._file.append(b"".join(parts))))
        self._of_bucket[bucket] = chain.from_iterable(starmap(self._read_part, pairwise(ends)))

    def next_row(self, bucket: int) -> str | None:
        """The row for the next ID of a bucket; None where the bucket has no rows."""
        rows = self._of_bucket.get(bucket)
        return None if rows is None else next(rows)

    def _read_part(self, start: int, end: int) -> list[str]:
        return self._file.read(start, end - start).decode().split("\n")
