"""Bytes → numbered lines, a batch at a time.

Lines end at `\\n` and nowhere else: `str.splitlines` would also break at U+2028, form feeds and their kind. A
`\\r` in front of it stays on the line; every format knows it as blank. Blocks are cut at their last newline,
so a line is only ever decoded whole and a character never falls between two blocks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from classify_batch.errors import SourceError
from classify_batch.streams.closing import closing

LINE_BYTES_MAX = 1 << 20
"""A longer line is refused: it would have to be held in memory whole."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Lines(NamedTuple):
    """Whole lines that follow each other.

    Attributes:
        first: the 1-based number of the first.
        text: the lines, with a newline between each two.
    """

    first: int
    text: str

    def split(self) -> list[str]:
        return self.text.split("\n")


async def read_lines(blocks: AsyncIterator[bytes], name: str) -> AsyncIterator[Lines]:
    """The lines of a UTF-8 text, with or without a byte-order mark.

    Raises:
        SourceError: a line is not UTF-8, or longer than `LINE_BYTES_MAX`.
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
            text = _decode_utf8(rest + block[: cut - 1], name, number)
            rest = block[cut:]
            yield Lines(number, text)
            number += text.count("\n") + 1
    if rest:
        yield Lines(number, _decode_utf8(rest, name, number))


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
