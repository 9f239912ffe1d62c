"""File IDs that the calling program already holds, or makes as it goes."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from itertools import islice

from anyio.lowlevel import checkpoint

from classify_batch.sources.closing import closing
from classify_batch.sources.ids import all_valid, first_fault

NAME = "the given file IDs"
BATCH_IDS = 4096


async def from_iterable(values: Iterable[str], *, name: str = NAME) -> AsyncIterator[list[str]]:
    """A source over any iterable: a list, a generator, a database cursor."""
    rest = iter(values)
    first = 1
    while batch := list(islice(rest, BATCH_IDS)):
        yield checked(batch, name, first)
        first += len(batch)
        await checkpoint()


async def from_async_iterable(values: AsyncIterable[str], *, name: str = NAME) -> AsyncIterator[list[str]]:
    """A source over any asynchronous iterable."""
    batch: list[str] = []
    first = 1
    async with closing(values) as stream:
        async for value in stream:
            batch.append(value)
            if len(batch) == BATCH_IDS:
                yield checked(batch, name, first)
                first, batch = first + len(batch), []
    if batch:
        yield checked(batch, name, first)


def checked(batch: list[str], name: str, first: int) -> list[str]:
    """The batch itself. Raises SourceError naming the item, counted from 1, that is no file ID."""
    if not all_valid(batch):
        raise first_fault(name, enumerate(batch, first), unit="item")
    return batch
