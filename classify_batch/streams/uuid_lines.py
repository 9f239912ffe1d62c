"""Canonical UUIDs as they stand in a file, one on each line: a batch of file IDs that is not taken apart.

Most inputs are nothing else, and ten million strings cost more to make, to check and to put together again than all
that is done with them. A line of 37 bytes needs none of it: one comparison in C says that every line of a block is such
a UUID, a slice of the block is a chunk, and the block itself is what a plan hashes. A block with anything else in it is
a list of strings, as ever.
"""

from __future__ import annotations

import struct
from binascii import unhexlify
from collections.abc import Iterator, Sequence
from itertools import chain, compress
from typing import Self, overload

LINE_BYTES = 37
"""Of a UUID with its newline."""

CANONICAL_CHARACTERS = LINE_BYTES - 1

UUID_BYTES = 16
"""Of a UUID that is no text."""

_FEW = 8
"""Where one of so many lines is left out, what lies between these is copied; where more are, each line by itself."""

_SHAPE = b"00000000-0000-0000-0000-000000000000\n"
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789abcdef", b"0" * 15)
_DIGITS = b"0123456789abcdef"
_DIGIT_PLACES = [place for place, character in enumerate(_SHAPE) if character == ord("0")]
_OTHER_PLACES = [(place, _SHAPE[place : place + 1]) for place in range(LINE_BYTES) if place not in _DIGIT_PLACES]


class UuidLines(Sequence[str]):
    """File IDs that are UUIDs in their canonical spelling, so each is its own key (see file_keys.py).

    Attributes:
        data: the IDs, each with a newline behind it.
    """

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    @classmethod
    def find(cls, lines: bytes) -> Self | None:
        """Whole lines, if each of them is a UUID in its canonical spelling and there is one; None otherwise."""
        count, rest = divmod(len(lines), LINE_BYTES)
        # The first line is looked at by itself: most blocks that hold anything else are recognised by it.
        if not count or rest or lines[:LINE_BYTES].translate(_DIGITS_TO_ZERO) != _SHAPE:
            return None
        # To leave the digits out takes a third of the time of a comparison with so many shapes.
        if len(lines.translate(None, _DIGITS)) != count * len(_OTHER_PLACES):
            return None
        in_place = all(lines[place::LINE_BYTES] == character * count for place, character in _OTHER_PLACES)
        return cls(lines) if in_place else None

    @classmethod
    def pack(cls, file_ids: Sequence[str]) -> Self | None:
        """File IDs, if each is a UUID in its canonical spelling; None otherwise, and where a row carries more."""
        if isinstance(file_ids, cls):
            return file_ids
        if not file_ids or len(file_ids[0]) != CANONICAL_CHARACTERS:
            return None
        try:
            return cls.find("\n".join([*file_ids, ""]).encode("ascii"))
        except UnicodeEncodeError:
            return None

    @classmethod
    def from_binary(cls, binary: bytes) -> Self:
        """UUIDs of 16 bytes each."""
        digits = binary.hex().encode()
        lines = bytearray(_SHAPE) * (len(binary) // UUID_BYTES)
        for column, place in enumerate(_DIGIT_PLACES):
            lines[place::LINE_BYTES] = digits[column :: len(_DIGIT_PLACES)]
        return cls(bytes(lines))

    def to_binary(self) -> bytes:
        """The 16 bytes of each UUID."""
        return unhexlify(self.data.translate(None, b"-\n"))

    def __len__(self) -> int:
        return len(self.data) // LINE_BYTES

    def __iter__(self) -> Iterator[str]:
        return iter(self.data.decode("ascii").split("\n")[:-1])

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> Self: ...

    def __getitem__(self, place: int | slice) -> str | Self:
        if isinstance(place, int):
            at = range(len(self))[place] * LINE_BYTES
            return self.data[at : at + LINE_BYTES - 1].decode("ascii")
        start, stop, step = place.indices(len(self))
        if step != 1:
            raise ValueError("a slice of UUIDs has no steps")
        return type(self)(self.data[start * LINE_BYTES : stop * LINE_BYTES])

    def split_ids(self) -> list[bytes]:
        """The IDs one by one."""
        return self.data[:-1].split(b"\n") if self.data else []

    def compress(self, flags: bytes) -> Self:
        """The IDs for which `flags` has a 1; it has a byte for each, 0 or 1."""
        left_out = flags.count(0)
        if left_out == len(flags):
            return type(self)(b"")
        if left_out > len(flags) // _FEW:
            return type(self)(b"\n".join([*compress(self.split_ids(), flags), b""]))
        kept = []
        start = 0
        for _ in range(left_out):
            gap = flags.index(0, start)
            kept.append(self.data[start * LINE_BYTES : gap * LINE_BYTES])
            start = gap + 1
        kept.append(self.data[start * LINE_BYTES :])
        return type(self)(b"".join(kept))


_MANY = struct.Struct("16s" * 256)
_ONE = struct.Struct("16s")


def split_binary(binary: bytes) -> list[bytes]:
    """UUIDs of 16 bytes each, one by one. Many of them are made by one call; a call for each would take five times as
    long."""
    whole = len(binary) - len(binary) % _MANY.size
    pieces = memoryview(binary)
    return [
        *chain.from_iterable(_MANY.iter_unpack(pieces[:whole])),
        *chain.from_iterable(_ONE.iter_unpack(pieces[whole:])),
    ]


def join_ids(waiting: Sequence[str], more: Sequence[str]) -> Sequence[str]:
    """Both, one behind the other, as UUIDs where both are; `waiting` is given up."""
    if isinstance(more, UuidLines):
        if not waiting:
            return more
        if isinstance(waiting, UuidLines):
            return UuidLines(waiting.data + more.data)
    joined: list[str] = waiting if isinstance(waiting, list) else list(waiting)
    joined.extend(more)
    return joined
