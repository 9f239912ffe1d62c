"""Streams end by closing, also when it is their reader that fails: no file stays open until somebody collects it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

Item = TypeVar("Item")


@asynccontextmanager
async def closing(stream: AsyncIterable[Item]) -> AsyncIterator[AsyncIterator[Item]]:
    """A stream for one reader, closed behind it; what can't be closed is left alone."""
    items = aiter(stream)
    try:
        yield items
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()
