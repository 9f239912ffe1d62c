"""File IDs → chunks. The same IDs and the same size make the same chunks, in whatever batches they come."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Sequence

from classify_batch.streams.closing import closing
from classify_batch.streams.uuid_lines import join_ids

_PACKED_IDS_MIN = 8
"""A slice of UUIDs that are packed costs as much as one of this many strings."""


async def cut_into_chunks(batches: AsyncIterable[Sequence[str]], files_per_job: int) -> AsyncIterator[Sequence[str]]:
    """Cuts a stream of IDs into chunks of `files_per_job`; the last one may be shorter, and none is empty."""
    waiting: Sequence[str] = []
    async with closing(batches) as stream:
        async for batch in stream:
            waiting = join_ids(waiting, batch if files_per_job >= _PACKED_IDS_MIN else list(batch))
            whole = len(waiting) - len(waiting) % files_per_job
            for start in range(0, whole, files_per_job):
                yield waiting[start : start + files_per_job]
            if whole:
                waiting = waiting[whole:]
    if waiting:
        yield waiting
