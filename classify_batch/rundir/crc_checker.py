"""Proves bytes of a run directory by the CRC-32 with which the journal committed them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from zlib import crc32

from classify_batch.errors import DamagedError
from classify_batch.model import Segment


class CrcChecker:
    """Compares the bytes that are fed with the CRC-32 of the segments that they belong to.

    Args:
        segments: in their order, without a gap; no more of them are read than bytes are fed.
        where: the file, for messages; hint: for what isn't as it was written.
    """

    def __init__(self, segments: AsyncIterator[Segment], where: str, hint: str) -> None:
        self._segments = segments
        self._where = where
        self._hint = hint
        self._segment: Segment | None = None
        self._end = 0
        self._crc = 0

    async def check_block(self, block: bytes) -> None:
        """Takes the file's next bytes. Raises DamagedError at the end of a segment that isn't as it was written."""
        view = memoryview(block)  # a slice of it copies nothing
        while view:
            segment = self._segment
            if segment is None:
                segment = self._segment = await anext(self._segments, None)
            if segment is None:
                raise DamagedError(f"{self._where}, byte {self._end}: nothing says how it was written", hint=self._hint)
            piece = view[: segment.end - self._end]
            view = view[len(piece) :]
            self._end += len(piece)
            self._crc = crc32(piece, self._crc)
            if self._end == segment.end:
                if self._crc != segment.crc:
                    words = f"{self._where}, bytes {segment.start} to {segment.end}: not as they were written"
                    raise DamagedError(words, hint=self._hint)
                self._segment, self._crc = None, 0
