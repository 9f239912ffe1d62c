"""Bytes of a text in any Unicode encoding, with line ends of any kind → UTF-8 whose lines end at a newline."""

from __future__ import annotations

import codecs
import re
from collections.abc import AsyncIterator

from classify_batch.errors import SourceError
from classify_batch.streams.closing import closing
from classify_batch.streams.peeked import Peeked

_BYTES_THAT_TELL = 4

_MARKS = (  # the longer first: UTF-32's begins like UTF-16's
    (b"\xff\xfe\0\0", "UTF-32-LE"),
    (b"\0\0\xfe\xff", "UTF-32-BE"),
    (b"\xff\xfe", "UTF-16-LE"),
    (b"\xfe\xff", "UTF-16-BE"),
)

_BY_ZEROS: dict[tuple[bool, ...], str] = {  # where the first bytes are zero: any file ID or header begins with ASCII
    (False, True, False, True): "UTF-16-LE",
    (True, False, True, False): "UTF-16-BE",
    (False, True, True, True): "UTF-32-LE",
    (True, True, True, False): "UTF-32-BE",
}

_QUOTED_OR_LINE_END = re.compile(rb'(?:^|(?<=[,;|\t \xbf]))"[^"]*(?:""[^"]*)*(?P<end>"?)|\r*\n|\r+')
"""A quote counts where a value begins, also behind a byte-order mark."""


async def convert_to_utf8(blocks: AsyncIterator[bytes], name: str) -> AsyncIterator[bytes]:
    """The same text in UTF-8; what isn't UTF-16 or UTF-32 is left as it is.

    Raises:
        SourceError: the text isn't in the encoding that its first bytes tell.
    """
    async with closing(blocks) as stream:
        peeked = Peeked(stream)
        encoding = find_encoding(await peeked.peek_beginning(_is_enough))
        if encoding is None:
            async for block in peeked:
                yield block
            return
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            async for block in peeked:
                yield decoder.decode(block).encode()
            yield decoder.decode(b"", final=True).encode()
        except UnicodeError as error:
            reason = error.reason if isinstance(error, UnicodeDecodeError) else str(error)
            raise SourceError(f"{name} is not {encoding}: {reason}", hint="save the file as UTF-8") from None


def _is_enough(head: bytes) -> bool:
    """Whether the encoding is known: after a short line in UTF-8, too, since a pipe may give no more for a while."""
    is_plain_line = len(head) > 1 and head.endswith(b"\n") and head[0] not in b"\0\xfe\xff" and b"\0" not in head
    return is_plain_line or len(head) >= _BYTES_THAT_TELL


def find_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32, by its byte-order mark or, without one, by its zeros; None for anything else."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    return _BY_ZEROS.get(tuple(byte == 0 for byte in head[:_BYTES_THAT_TELL]))


async def to_newlines(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A text whose first line ends at `\\r` alone, as old Macs and some exports write it, with newlines at the ends of
    all lines. A newline inside quotes ends no line."""
    async with closing(blocks) as stream:
        peeked = Peeked(stream)
        head = await peeked.peek_beginning(lambda held: _find_line_end(held) is not None)
        line_end = _find_line_end(head)
        if line_end is None:  # one line without an end, or a quote that is still open
            line_end = b"\r" if b"\r" in head and b"\n" not in head else b"\n"
        if line_end != b"\r":
            async for block in peeked:
                yield block
            return
        held = b""
        async for block in peeked:
            whole = (held + block).removesuffix(b"\r")  # a newline may follow it in the next block
            held = (held + block)[len(whole) :]
            yield whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        yield held.replace(b"\r", b"\n")


def _find_line_end(head: bytes) -> bytes | None:
    """What ends the first line of a text that begins so, `\\n` or `\\r`; None: that can't be seen yet."""
    for found in _QUOTED_OR_LINE_END.finditer(head):
        if found[0].endswith(b"\n") and found["end"] is None:
            return b"\n"
        if found["end"] is None:
            return b"\r" if found.end() < len(head) else None  # a newline may follow
        if not found["end"]:
            return None  # the quote is still open
    return None
