"""Bytes of a text in any Unicode encoding, with line ends of any kind → UTF-8 whose lines end at a newline."""

from __future__ import annotations

import codecs
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
    zeros = [byte == 0 for byte in head[:_BYTES_THAT_TELL]]
    if zeros == [False, True, False, True]:  # two characters of ASCII, as any file ID or header begins
        return "UTF-16-LE"
    return "UTF-16-BE" if zeros == [True, False, True, False] else None


async def to_newlines(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A text whose lines end at `\\r` alone, as old Macs and some exports write it, with newlines in their place."""
    async with closing(blocks) as stream:
        peeked = Peeked(stream)
        head = await peeked.peek_beginning(lambda held: b"\n" in held)
        ends_at_return = b"\r" in head and b"\n" not in head
        async for block in peeked:
            yield block.replace(b"\r", b"\n") if ends_at_return else block
