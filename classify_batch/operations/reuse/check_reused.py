"""Proves what a run took over: its bytes, its counts, and that it is about the files of the plan's first chunks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from zlib import crc32

from classify_batch.errors import DamagedError
from classify_batch.operations.reuse.earlier_outcomes import whole_lines, with_answers
from classify_batch.operations.reuse.outcome_answers import Answers
from classify_batch.ports import RunStore
from classify_batch.rundir.plan import PlanReader
from classify_batch.rundir.run_json import Reused
from classify_batch.streams.closing import closing
from classify_batch.streams.spill import Buckets
from classify_batch.vocabulary import Log


async def check_reused(store: RunStore, reused: Reused, plan: PlanReader | None, outcomes: Buckets) -> list[str]:
    """The faults of the lines that were taken over; their file IDs are added to `outcomes`.

    `plan`: None where it is damaged, which is told already.
    """
    faults: list[str] = []
    answers, files, crc = Answers(), 0, 0
    waiting: list[str] = []
    lines = whole_lines(store, reused.bytes, with_answers)
    async with closing(lines) as stream, closing(_planned(plan, reused)) as planned:
        try:
            async for data, file_ids, said in stream:
                crc, files = crc32(data, crc), files + len(file_ids)
                answers.add(said)
                outcomes.add(file_ids)
                if plan is not None and not faults:
                    faults += await _compare(file_ids, planned, waiting, files)
        except DamagedError as error:
            return [*faults, f"reused outcomes: {error}"]
        if plan is not None and not faults and (waiting or await anext(planned, None) is not None):
            faults.append(f"{Log.RESULTS} has {files} reused outcomes, and the plan's reused chunks hold more files")
    if crc != reused.crc:
        faults.append(f"{Log.RESULTS}, lines 1 to {files}: reused outcomes are not as they were written")
    if (files, *answers.told) != (reused.files, reused.counts, reused.types):
        faults.append(f"{Log.RESULTS}: the reused outcomes are not those that run.json counts")
    return faults


async def _planned(plan: PlanReader | None, reused: Reused) -> AsyncGenerator[list[str], None]:
    if plan is None:
        return
    async with closing(plan.stream()) as chunks:
        async for chunk, file_ids in chunks:
            if chunk >= reused.chunks:
                return
            yield file_ids


async def _compare(
    file_ids: Sequence[str], planned: AsyncIterator[list[str]], waiting: list[str], last_line: int
) -> list[str]:
    """Lines stand in the order of the plan. `waiting`: IDs that were read of the plan, and whose lines come next."""
    while len(waiting) < len(file_ids) and (more := await anext(planned, None)) is not None:
        waiting += more
    pairs = zip(file_ids, waiting, strict=False)
    place = next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(file_ids), len(waiting)))
    if place < len(file_ids):
        line = last_line - len(file_ids) + place + 1
        return [f"{Log.RESULTS}, line {line}: file ID {file_ids[place]} is not the one that the plan has there"]
    del waiting[: len(file_ids)]
    return []
