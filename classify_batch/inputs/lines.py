"""Bytes → numbered lines, a batch at a time.

Lines end at `\\n` and nowhere else: `str.splitlines` would also break at U+2028, form feeds and their kind. A
`\\r` in front of it stays on the line; every format knows it as blank. Blocks are cut at their last newline,
so a line is only ever decoded whole and a character never falls between two blocks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from classify_batch.errors import SourceError
from classify_batch.streams.closing import closing
from classify_batch.streams.uuid_lines import UuidLines

LINE_BYTES_MAX = 1 << 20
"""A longer line is refused: it would have to be held in memory whole."""

_HEAD_BYTES = 64
"""Longer than a UUID's line: whether it ends as on Windows."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Lines:
    """Whole lines that follow each other.

    Attributes:
        first: the 1-based number of the first.
        data: the lines; behind the last of a text there may be no newline.
    """

    __slots__ = ("_name", "data", "first")

    def __init__(self, first: int, data: bytes, name: str) -> None:
        self.first = first
        self.data = data
        self._name = name

    def find_uuids(self) -> UuidLines | None:
        """The lines, if each of them is a UUID in its canonical spelling, and nothing else."""
        data = self.data.replace(b"\r\n", b"\n") if b"\r\n" in self.data[:_HEAD_BYTES] else self.data
        return UuidLines.find(data if data.endswith(b"\n") else data + b"\n")

    def decode_lines(self) -> str:
        """The lines, with a newline between each two. Raises SourceError for what is not UTF-8."""
        return _decode_utf8(self.data.removesuffix(b"\n"), self._name, self.first)

    def split_lines(self) -> list[str]:
        """The lines one by one. Raises SourceError for what is not UTF-8."""
        return self.decode_lines().split("\n")

    def count_lines(self) -> int:
        """How many lines these are."""
        newlines = len(self.data) - len(self.data.replace(b"\n", b""))  # a fifth of the time of `count`
        return newlines + (not self.data.endswith(b"\n"))


async def read_lines(blocks: AsyncIterator[bytes], name: str) -> AsyncIterator[Lines]:
    """The lines of a UTF-8 text, with or without a byte-order mark; they are decoded by whoever wants them so.

    Raises:
        SourceError: a line is longer than `LINE_BYTES_MAX`.
    """
    rest, number = b"", 1
    async with closing(blocks) as stream:
        async for block in stream:
            line_end = block.find(b"\n")
            if len(rest) + (len(block) if line_end < 0 else line_end) > LINE_BYTES_MAX:
                raise SourceError(
                    f"{name}, line {number}: longer than {LINE_BYTES_MAX} bytes",
                    hint="one file ID, row or JSON object on each line",
                )
            if line_end < 0:
                rest += block
                continue
            cut = block.rfind(b"\n") + 1
            lines = Lines(number, rest + block[:cut], name)
            rest = block[cut:]
            yield lines
            number += lines.count_lines()
    if rest:
        yield Lines(number, rest, name)


def _decode_utf8(data: bytes, name: str, first: int) -> str:
    if first == 1:
        data = data.removeprefix(_BYTE_ORDER_MARK)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = first + before.count(b"\n")
        at = error.start - (before.rfind(b"\n") + 1) + 1
        raise SourceError(
            f"{name}, line {line}: not UTF-8: byte 0x{data[error.start]:02x} at byte {at} of the line",
            hint="save the file as UTF-8",
        ) from None
