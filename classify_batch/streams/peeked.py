"""A stream of bytes whose beginning is looked at before it is read: what it is decides how it is read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

HEAD_BYTES_MAX = 1 << 16
"""So much is held at most, and waited for: a pipe may give its bytes one by one."""


class Peeked(AsyncIterator[bytes]):
    """A stream for one reader. What was looked at is read again; whoever gave the stream closes it.

    Attributes:
        ended: whether the stream was seen to end.
    """

    def __init__(self, blocks: AsyncIterator[bytes]) -> None:
        self._blocks = blocks
        self._held = b""
        self.ended = False

    async def peek_beginning(self, is_enough: Callable[[bytes], bool]) -> bytes:
        """The beginning, as far as `is_enough` wants it; less where the stream ends or `HEAD_BYTES_MAX` are there."""
        while not self.ended and len(self._held) < HEAD_BYTES_MAX and not is_enough(self._held):
            if (block := await anext(self._blocks, None)) is None:
                self.ended = True
            else:
                self._held += block
        return self._held

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._held:
            held, self._held = self._held, b""
            return held
        if self.ended:
            raise StopAsyncIteration
        return await anext(self._blocks)
