"""The lines of several journals in the order of their times, in bounded memory: the shards of a run as one timeline.

Each journal is read as far as it was read before, so that the numbers of a report fit each other. Where a clock steps
back, what was written behind that comes at once. Clocks of different machines are taken as they are.
"""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Iterator, Sequence

from anyio.lowlevel import checkpoint

from classify_batch.rundir.journal.entry import Entry
from classify_batch.rundir.journal.reader import Reader
from classify_batch.rundir.opened_run import RunOnDisk
from classify_batch.vocabulary import Log

_BLOCK_BYTES_MAX = 1 << 18
_BLOCK_BYTES_MIN = 1 << 12
_HELD_BYTES = 1 << 25
"""About so many bytes of all journals together are in memory."""


async def read_journals(parts: Sequence[RunOnDisk]) -> AsyncIterator[tuple[Entry, int | None]]:
    """All lines of the journals, each with its shard; None where the run has no shards."""
    block_bytes = max(_BLOCK_BYTES_MIN, min(_BLOCK_BYTES_MAX, _HELD_BYTES // max(1, len(parts))))
    journals = [_Journal(part, block_bytes) for part in parts]
    heads = [
        (at_s, number) for number, journal in enumerate(journals) if (at_s := await journal.advance_line()) is not None
    ]
    heapq.heapify(heads)
    while heads:
        _, number = heads[0]
        journal = journals[number]
        yield journal.entry, journal.shard
        if (at_s := await journal.advance_line()) is None:
            heapq.heappop(heads)
        else:
            heapq.heapreplace(heads, (at_s, number))


class _Journal:
    """A journal that is being read, a block at a time.

    Attributes:
        entry: the line at which reading is.
    """

    entry: Entry

    def __init__(self, part: RunOnDisk, block_bytes: int) -> None:
        self._part = part
        self._block_bytes = block_bytes
        self._reader = Reader(f"{Log.JOURNAL} in {part.store.where}")
        self._entries: Iterator[tuple[Entry, int]] = iter(())
        self._offset = 0
        self.shard = None if part.run.shard is None else part.run.shard["index"]

    async def advance_line(self) -> float | None:
        """Goes to the next line, and returns its time; None behind the last one."""
        while (found := next(self._entries, None)) is None:
            end = min(self._part.journal_end, self._offset + self._block_bytes)
            if end <= self._offset:
                return None
            block = await self._part.store.read(Log.JOURNAL, self._offset, end)
            if not block:
                return None
            self._offset += len(block)
            self._entries = self._reader.read_block(block)
            await checkpoint()
        self.entry = found[0]
        return self.entry.at_s
