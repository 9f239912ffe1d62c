"""What makes a journal's line whole: its last member is the CRC-32 of all that stands before it.

Apart from the rest of the room, and free of heavy imports, so that `status` can read a journal without loading what a
run needs.
"""

from __future__ import annotations

from zlib import crc32

_CRC = b',"crc":'

DAMAGED_HINT = (
    "nothing was overwritten; put the file back from a copy, or begin a new run directory with the IDs that are missing"
)


class BadLineError(ValueError):
    """A line that is not what was written."""


def seal_line(body: bytes) -> bytes:
    """A JSON object as a line, with its checksum and its newline."""
    return b'%s,"crc":%d}\n' % (body[:-1], crc32(body))


def refuse_unsound(line: bytes) -> None:
    """Raises BadLineError for a line (without its newline) whose checksum doesn't fit."""
    end = line.rfind(_CRC)  # the last one: a string before it may hold the same bytes
    if end < 0:
        raise BadLineError("not a journal line")
    # Compared as bytes, not as a number: `007` or a space would be another line than was written.
    if line[end:] != b',"crc":%d}' % crc32(b"}", crc32(line[:end])):
        raise BadLineError("the checksum doesn't fit")
