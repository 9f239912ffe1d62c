"""How many parse jobs a plan sends: what they cost differs, and the plan's lines need not be parsed for it."""

from __future__ import annotations

import re

from anyio.lowlevel import checkpoint

from classify_batch.ports import RunStore
from classify_batch.streams.closing import closing
from classify_batch.vocabulary import PARSE_JOB_PREFIX, PLAN_JSONL

_PARSE_JOB = b'["' + PARSE_JOB_PREFIX.encode()
_PLANNED_PARSE_JOB = re.compile(rb'\{"chunk": \d+, "file_ids": ' + re.escape(_PARSE_JOB))


async def count_planned_parse_jobs(store: RunStore, reused_chunks: int) -> int:
    """How many parse jobs a plan of v2 sends. Its chunks hold one file each, but for the first `reused_chunks`, which
    are not sent."""
    count, number, rest = 0, 0, b""
    async with closing(store.stream(PLAN_JSONL)) as blocks:
        async for block in blocks:
            whole, newline, rest = (rest + block).rpartition(b"\n")
            if _PARSE_JOB in whole:  # of most plans no block has one
                lines = whole.split(b"\n")[max(0, reused_chunks - number) :]
                count += sum(_PLANNED_PARSE_JOB.match(line) is not None for line in lines)
            number += whole.count(b"\n") + len(newline)
            await checkpoint()
    return count
