"""More file IDs than memory should hold, kept in temporary files.

Two shapes. A `Spool` gives its batches back in order. `Buckets` spread IDs by the hash of their keys, so that the IDs
of one file meet in the same bucket, however they are spelled (see file_keys.py), and one bucket at a time fits into
memory: 256 buckets of 10 million IDs hold 40,000 each.

Both stay in memory while they are small, and lie in nameless files after that: whatever happens to the
process, no file is left behind. Writes are short and go to the page cache, so they are made in place rather
than in a thread; the callers give way to the event loop between batches.
"""

from __future__ import annotations

import struct
import sys
import tempfile
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import FileIO
from itertools import accumulate, chain, pairwise, starmap
from pathlib import Path
from typing import Final, NamedTuple, Self

from classify_batch.errors import StoreError
from classify_batch.file_keys import file_keys
from classify_batch.streams.uuid_lines import UuidLines

_HELD_BYTES_MAX = 1 << 25
"""Rows that wait in memory may be long, so they are not counted only."""


_LANE = 256
"""So many buckets one byte of a hash distinguishes; more of them come in multiples of it."""


class Limits(NamedTuple):
    """How much is held in memory. The defaults are for many millions of IDs; tests make them tiny.

    Attributes:
        buckets: up to 256, or a multiple of 256.
        held_ids: IDs that wait in memory for being written to their buckets together.
        file_bytes: size at which a temporary file goes from memory to disk.
    """

    buckets: int = 256
    held_ids: int = 1 << 15
    file_bytes: int = 1 << 21


LIMITS = Limits()


class _Temporary:
    """A nameless temporary file whose refusals are StoreErrors. The file has no buffer of its own: it is written in
    large pieces, and read in small ones from all over."""

    def __init__(self, directory: Path | None, limits: Limits) -> None:
        self._directory = directory
        self._held_bytes_max = limits.file_bytes
        self._held_bytes = bytearray()
        self._file: FileIO | None = None
        self._end = 0

    def append(self, data: bytes) -> int:
        """Puts `data` at the end and returns the offset at which it begins."""
        start = self._end
        try:
            if self._file is not None:
                _write_at(self._file, start, data)
            else:
                self._held_bytes += data
                if len(self._held_bytes) > self._held_bytes_max:
                    self._file = self._open_file()
                    _write_at(self._file, 0, self._held_bytes)
                    self._held_bytes = bytearray()
        except OSError as error:
            raise self._store_error(error) from error
        self._end += len(data)
        return start

    def read(self, start: int, length: int) -> bytes:
        if self._file is None:
            return bytes(self._held_bytes[start : start + length])
        try:
            self._file.seek(start)
            data = self._file.read(length)
        except OSError as error:
            raise self._store_error(error) from error
        if len(data) < length:
            raise self._store_error(OSError("it is shorter than what was written"))
        return data

    def _open_file(self) -> FileIO:
        place = str(self._directory) if self._directory else None
        return tempfile.TemporaryFile(buffering=0, dir=place)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # a full disk was reported already, by the append that met it
            if self._file is not None:
                self._file.close()

    def _store_error(self, error: OSError) -> StoreError:
        where = self._directory or tempfile.gettempdir()
        return StoreError(
            f"temporary files in {where}: {error.strerror or error}",
            hint="finding repeated file IDs takes twice the input's size on disk; make room, or set TMPDIR",
        )


def _write_at(file: FileIO, start: int, data: bytes | bytearray) -> None:
    file.seek(start)
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


class Spool(_Temporary):
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


class NumberSpool(_Temporary):
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
            yield memoryview(self.read(start, length)).cast(_NUMBER)
            start += length


class Buckets(_Temporary):
    """IDs spread by the hash of their keys; within a bucket they keep their spelling, and the order in which they came.

    Python's hash of bytes differs from process to process, so nobody can choose IDs that all fall into one
    bucket, and nothing that leaves this class may depend on an ID's bucket number.

    Attributes:
        own_keys: whether every ID so far is its own key, and stands alone: no rows were added.
    """

    def __init__(self, directory: Path | None = None, limits: Limits = LIMITS) -> None:
        super().__init__(directory, limits)
        self._number_of = _BucketOfHash(limits.buckets)
        self._held: list[list[bytes]] = [[] for _ in range(limits.buckets)]
        self._held_ids = self._held_bytes_of_rows = 0
        self._held_ids_max = limits.held_ids
        self._segments: list[array[int]] = []
        """For each write: where every bucket's part begins, and where the last one ends."""
        self.own_keys = True

    def __len__(self) -> int:
        return len(self._held)

    def bucket_numbers(self, file_ids: Sequence[str]) -> memoryview:
        """The bucket of each ID."""
        return self._number_of.bucket_of_each(list(map(hash, _encode(file_keys(file_ids)))))

    def add_ids(self, file_ids: Sequence[str], rows: Sequence[str] | None = None) -> memoryview:
        """Adds IDs, or in the place of each its row. Returns the bucket of each."""
        keys = file_ids if isinstance(file_ids, UuidLines) else file_keys(file_ids)
        encoded_keys = _encode(keys)
        numbers = self._number_of.bucket_of_each(list(map(hash, encoded_keys)))
        kept = file_ids if rows is None else rows
        self.own_keys = self.own_keys and kept is keys
        items = encoded_keys if kept is keys else _encode(kept)
        # A loop without a line of Python in it: 10 million IDs come by here.
        deque(map(list.append, map(self._held.__getitem__, numbers), items), maxlen=0)
        self._held_ids += len(file_ids)
        if kept is not file_ids:
            self._held_bytes_of_rows += sum(map(len, items))
        if self._held_ids >= self._held_ids_max or self._held_bytes_of_rows >= _HELD_BYTES_MAX:
            self._spill_to_files()
        return numbers

    def read_bucket(self, number: int) -> list[bytes]:
        """A bucket's IDs or rows in UTF-8, in the order in which they were added."""
        parts = [self.read(starts[number], starts[number + 1] - starts[number]) for starts in self._segments]
        if not any(parts):
            return list(self._held[number])
        return b"\n".join(filter(None, parts)).split(b"\n") + self._held[number]

    def bucket_texts(self, number: int) -> list[str]:
        """The same as strings."""
        items = self.read_bucket(number)
        return b"\n".join(items).decode().split("\n") if items else []

    def _spill_to_files(self) -> None:
        parts = list(map(b"\n".join, self._held))
        start = self.append(b"".join(parts))
        self._segments.append(array("Q", accumulate(map(len, parts), initial=start)))
        for items in self._held:
            items.clear()
        self._held_ids = self._held_bytes_of_rows = 0


def _encode(texts: Sequence[str]) -> Sequence[bytes]:
    """IDs or rows in UTF-8; none of them has a newline."""
    if isinstance(texts, UuidLines):
        return texts.split_ids()
    return "\n".join(texts).encode().split(b"\n") if texts else ()


class _BucketOfHash:
    """Tells buckets from hashes, many at once, by two bytes of each.

    Not the lowest two: by these sets are laid out, and what lies in one bucket would lie in the same places of a set.
    A hash has 8 bytes, or 4, which are then filled up with its sign.
    """

    def __init__(self, buckets: int) -> None:
        self._low = bytes(byte % min(buckets, _LANE) for byte in range(_LANE))
        self._high = bytes(byte % max(1, buckets // _LANE) for byte in range(_LANE))

    def bucket_of_each(self, hashes: Sequence[int]) -> memoryview:
        """The bucket of each hash."""
        packed = struct.pack(f"<{len(hashes)}q", *hashes)
        numbers = bytearray(2 * len(hashes))
        numbers[_LOW_BYTE::2] = packed[3::8].translate(self._low)
        numbers[1 - _LOW_BYTE :: 2] = packed[2::8].translate(self._high)
        return memoryview(numbers).cast(_NUMBER)


_NUMBER: Final = "H"
_LOW_BYTE = 0 if sys.byteorder == "little" else 1
"""Where it stands in a number of two bytes."""


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
