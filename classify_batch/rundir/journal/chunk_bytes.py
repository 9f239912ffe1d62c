"""A byte for each chunk of a run, by the chunk's number.

The chunks of a shard are numbered as in the whole run, so its numbers don't begin at 0. A run that is no shard has a
plain bytearray: half a million lines of a journal come by here, and nothing in Python is as quick.
"""

from __future__ import annotations


class OffsetBytes:
    """Bytes whose indexes begin at `first`. Raises IndexError for any other, negative ones among them."""

    def __init__(self, size: int, first: int) -> None:
        self._bytes = bytearray(size)
        self._first = first

    def __len__(self) -> int:
        return len(self._bytes)

    def __bytes__(self) -> bytes:
        return bytes(self._bytes)

    def __getitem__(self, index: int) -> int:
        return self._bytes[self._index_of_chunk(index)]

    def __setitem__(self, index: int, value: int) -> None:
        self._bytes[self._index_of_chunk(index)] = value

    def _index_of_chunk(self, index: int) -> int:
        if index < self._first:
            raise IndexError(f"chunk {index}, and the first is chunk {self._first}")
        return index - self._first


def bytes_of_chunks(chunks: int, first_chunk: int) -> bytearray | OffsetBytes:
    """So many bytes, all of them 0, the first of which is that of `first_chunk`."""
    return OffsetBytes(chunks, first_chunk) if first_chunk else bytearray(chunks)
