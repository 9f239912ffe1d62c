"""File IDs → chunks. The same IDs and the same size make the same chunks, in whatever batches they come."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

from classify_batch.streams.closing import closing


async def chunked(batches: AsyncIterable[list[str]], files_per_job: int) -> AsyncIterator[list[str]]:
    """Cuts a stream of IDs into chunks of `files_per_job`; the last one may be shorter, and none is empty."""
    waiting: list[str] = []
    async with closing(batches) as stream:
        async for batch in stream:
            waiting += batch
            whole = len(waiting) - len(waiting) % files_per_job
            for start in range(0, whole, files_per_job):
                yield waiting[start : start + files_per_job]
            del waiting[:whole]
    if waiting:
        yield waiting
