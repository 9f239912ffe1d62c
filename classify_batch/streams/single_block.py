"""A stream of one block, for what takes streams and is given bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator


async def single_block(data: bytes) -> AsyncIterator[bytes]:
    yield data
