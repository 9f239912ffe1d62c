"""File IDs that the calling program already holds, or makes as it goes."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from itertools import islice

from anyio.lowlevel import checkpoint

from classify_batch.inputs.ids import TookFault, all_valid, only_valid, refuse
from classify_batch.streams.closing import closing

NAME = "the given file IDs"
BATCH_IDS = 4096


async def from_iterable(values: Iterable[str], took_fault: TookFault = refuse) -> AsyncIterator[list[str]]:
    """A source over any iterable: a list, a generator, a database cursor."""
    rest = iter(values)
    first = 1
    while batch := list(islice(rest, BATCH_IDS)):
        yield checked(batch, NAME, first, took_fault)
        first += len(batch)
        await checkpoint()


async def from_async_iterable(values: AsyncIterable[str], took_fault: TookFault = refuse) -> AsyncIterator[list[str]]:
    """A source over any asynchronous iterable."""
    batch: list[str] = []
    first = 1
    async with closing(values) as stream:
        async for value in stream:
            batch.append(value)
            if len(batch) == BATCH_IDS:
                yield checked(batch, NAME, first, took_fault)
                first, batch = first + len(batch), []
    if batch:
        yield checked(batch, NAME, first, took_fault)


def checked(batch: list[str], name: str, first: int, took_fault: TookFault = refuse) -> list[str]:
    """The batch itself, or what is sound of it. A fault names the item, counted from 1, that is no file ID."""
    return batch if all_valid(batch) else only_valid(name, enumerate(batch, first), took_fault, unit="item")
