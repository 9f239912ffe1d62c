"""File IDs spread over buckets by their keys, so that the IDs of one file meet, however they are spelled.

One bucket at a time fits into memory: 512 buckets of 10 million IDs hold 20,000 each. The IDs of a bucket wait until
there are many to write together, and lie in a temporary file after that.

As long as nothing but UUIDs in their canonical spelling was added, each is kept as its 16 bytes: less to write, to read
and to compare than its 36 characters. What was kept so is taken for text as soon as anything else comes.
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from collections import deque
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from classify_batch.file_keys import file_keys
from classify_batch.streams.spill import LIMITS, NUMBER, Limits, TemporaryFile
from classify_batch.streams.uuid_lines import CANONICAL_CHARACTERS, UUID_BYTES, UuidLines, split_binary

_HELD_BYTES_MAX = 1 << 25
"""Rows that wait in memory may be long, so they are not counted only."""


class Buckets(TemporaryFile):
    """IDs spread by the hash of their keys; within a bucket they keep their spelling, and the order in which they came.

    The hash differs from process to process, so nobody can choose IDs that all fall into one bucket, and nothing that
    leaves this class may depend on an ID's bucket number. In one process a key has the same number in all buckets.

    Attributes:
        own_keys: whether every ID so far is its own key, and stands alone: no rows were added.
        binary: whether every ID so far is a UUID in its canonical spelling, and stands alone.
    """

    def __init__(self, directory: Path | None = None, limits: Limits = LIMITS) -> None:
        super().__init__(directory, limits)
        self._hash = _BucketHash(limits.buckets)
        self._held: list[list[bytes]] = [[] for _ in range(limits.buckets)]
        self._held_ids = self._held_bytes_of_rows = 0
        self._held_ids_max = limits.held_ids
        self._segments: list[array[int]] = []
        """For each write: where every bucket's part begins, and where the last one ends."""
        self._binary_segments = 0
        self.own_keys = self.binary = True

    def __len__(self) -> int:
        return len(self._held)

    def bucket_numbers(self, file_ids: Sequence[str]) -> memoryview:
        """The bucket of each ID."""
        return self._hash.bucket_of_each(file_ids if isinstance(file_ids, UuidLines) else file_keys(file_ids))

    def add_ids(self, file_ids: Sequence[str], rows: Sequence[str] | None = None) -> memoryview:
        """Adds IDs, or in the place of each its row. Returns the bucket of each."""
        kept = file_ids if rows is None else rows
        if self.binary and isinstance(kept, UuidLines):
            binary = kept.to_binary()
            items: Sequence[bytes] = split_binary(binary)
            numbers = self._hash.bucket_of_uuids(binary)
        else:
            self._take_for_text()
            keys = file_ids if isinstance(file_ids, UuidLines) else file_keys(file_ids)
            numbers, items = self._hash.bucket_of_each(keys), _encode(kept)
            self.own_keys = self.own_keys and kept is keys
        # A loop without a line of Python in it: 10 million IDs come by here.
        deque(map(list.append, map(self._held.__getitem__, numbers), items), maxlen=0)
        self._held_ids += len(file_ids)
        if kept is not file_ids:
            self._held_bytes_of_rows += sum(map(len, items))
        if self._held_ids >= self._held_ids_max or self._held_bytes_of_rows >= _HELD_BYTES_MAX:
            self._write_held()
        return numbers

    def read_binary(self, number: int) -> list[bytes]:
        """The 16 bytes of each of a bucket's IDs, in the order in which they were added; only if all are `binary`."""
        return split_binary(self._read_parts(number, self._segments)) + self._held[number]

    def read_bucket(self, number: int) -> list[bytes]:
        """A bucket's IDs or rows in UTF-8, in the order in which they were added."""
        items: list[bytes] = []
        held = self._held[number]
        if binary := self._read_parts(number, self._segments[: self._binary_segments]):
            items = UuidLines.from_binary(binary).split_ids()
        if text := self._read_parts(number, self._segments[self._binary_segments :]):
            items += text[:-1].split(b"\n")
        items += UuidLines.from_binary(b"".join(held)).split_ids() if self.binary else held
        return items

    def bucket_texts(self, number: int) -> list[str]:
        """The same as strings."""
        items = self.read_bucket(number)
        return b"\n".join(items).decode().split("\n") if items else []

    def _take_for_text(self) -> None:
        if self.binary:
            if self._held_ids:
                self._write_held()
            self.binary = False

    def _write_held(self) -> None:
        parts = list(map(b"".join if self.binary else _join_lines, self._held))
        start = self.append(b"".join(parts))
        self._segments.append(array("Q", accumulate(map(len, parts), initial=start)))
        self._binary_segments += self.binary
        for items in self._held:
            items.clear()
        self._held_ids = self._held_bytes_of_rows = 0

    def _read_parts(self, number: int, segments: Sequence[array[int]]) -> bytes:
        return b"".join([self.read(starts[number], starts[number + 1] - starts[number]) for starts in segments])


def _join_lines(items: list[bytes]) -> bytes:
    """Each with a newline behind it."""
    return b"\n".join([*items, b""])


def _encode(texts: Sequence[str]) -> Sequence[bytes]:
    """IDs or rows in UTF-8; none of them has a newline."""
    if isinstance(texts, UuidLines):
        return texts.split_ids()
    return "\n".join(texts).encode().split(b"\n") if texts else ()


_LANE = 256
"""So many buckets one byte of a hash distinguishes; more of them come in multiples of it."""

_LOW_BYTE = 0 if sys.byteorder == "little" else 1
"""Where it stands in a number of two bytes."""

_LOW_TABLES = [os.urandom(_LANE) for _ in range(UUID_BYTES)]
_HIGH_TABLES = [os.urandom(_LANE) for _ in range(UUID_BYTES)]
"""Of this process: each place of a UUID has a table for either byte of the hash."""


class _BucketHash:
    """Tells the buckets of keys, many at once, by two bytes of a hash for each.

    For UUIDs that is tabulation hashing: each of the 16 bytes is looked up in a table of random bytes of its own, and
    what is found there is XORed. A few calls in C do this for thousands of UUIDs together, a byte of each at a time.
    Any other key is hashed by Python itself.
    """

    def __init__(self, buckets: int) -> None:
        self._low = bytes(byte % min(buckets, _LANE) for byte in range(_LANE))
        self._high = bytes(byte % max(1, buckets // _LANE) for byte in range(_LANE))

    def bucket_of_uuids(self, binary: bytes) -> memoryview:
        """The bucket of each UUID, of which there are the 16 bytes."""
        columns = [binary[place::UUID_BYTES] for place in range(UUID_BYTES)]
        return self._make_numbers(_look_up(columns, _LOW_TABLES), _look_up(columns, _HIGH_TABLES))

    def bucket_of_each(self, keys: Sequence[str]) -> memoryview:
        """The bucket of each key."""
        if (uuids := UuidLines.pack(keys)) is not None:
            return self.bucket_of_uuids(uuids.to_binary())
        encoded = _encode(keys)
        # Not the lowest bytes: by these sets are laid out, and what is in one bucket would get the same places of a
        # set. A hash has 8 bytes, or 4, which are then filled up with its sign.
        hashes = struct.pack(f"<{len(encoded)}q", *map(hash, encoded))
        numbers = self._make_numbers(hashes[3::8], hashes[2::8])
        for place, key in enumerate(encoded):
            if len(key) == CANONICAL_CHARACTERS and (uuids := UuidLines.find(key + b"\n")) is not None:
                numbers[place] = self.bucket_of_uuids(uuids.to_binary())[0]
        return numbers

    def _make_numbers(self, low: bytes, high: bytes) -> memoryview:
        numbers = bytearray(2 * len(low))
        numbers[_LOW_BYTE::2] = low.translate(self._low)
        numbers[1 - _LOW_BYTE :: 2] = high.translate(self._high)
        return memoryview(numbers).cast(NUMBER)


def _look_up(columns: Sequence[bytes], tables: Sequence[bytes]) -> bytes:
    found = 0
    for column, table in zip(columns, tables, strict=True):
        found ^= int.from_bytes(column.translate(table))  # one large number: then C XORs all of them
    return found.to_bytes(len(columns[0]))
