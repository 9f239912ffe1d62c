"""Verifies what a run reused: its bytes, its counts, and that it answers the files of the plan's first chunks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from zlib import crc32

from classify_batch.errors import DamagedError
from classify_batch.operations.reuse.earlier_outcomes import parse_answers, read_whole_lines
from classify_batch.operations.reuse.outcome_answers import AnswerCounts
from classify_batch.ports import RunStore
from classify_batch.rundir.outcome_ids import encode_ids
from classify_batch.rundir.plan import PlanReader
from classify_batch.rundir.run_json import Reused
from classify_batch.streams.closing import closing
from classify_batch.vocabulary import Log


async def check_reused(
    store: RunStore, reused: Reused, plan: PlanReader | None, add: Callable[[Sequence[bytes]], object]
) -> list[str]:
    """The errors in the reused lines. Gives their file IDs, in UTF-8, to `add`.

    `plan`: None where it is damaged, which is reported elsewhere.
    """
    errors: list[str] = []
    answers, files, crc = AnswerCounts(), 0, 0
    waiting: list[str] = []
    lines = read_whole_lines(store, reused.bytes, parse_answers)
    async with closing(lines) as stream, closing(planned_file_ids(plan, reused)) as planned:
        try:
            async for data, file_ids, line_answers in stream:
                crc, files = crc32(data, crc), files + len(file_ids)
                answers.add_answers(line_answers)
                add(encode_ids(file_ids))
                if plan is not None and not errors:
                    errors += await compare_with_plan(file_ids, planned, waiting, files)
        except DamagedError as error:
            return [*errors, f"reused outcomes: {error}"]
        # All lines fit the plan so far; are there planned files without a line?
        if plan is not None and not errors and (waiting or await anext(planned, None) is not None):
            errors.append(f"{Log.RESULTS} has {files} reused outcomes, and the plan's reused chunks hold more files")
    if crc != reused.crc:
        errors.append(f"{Log.RESULTS}, lines 1 to {files}: reused outcomes are not as they were written")
    if (files, *answers.totals) != (reused.files, reused.counts, reused.types):
        errors.append(f"{Log.RESULTS}: the reused outcomes are not those that run.json counts")
    return errors


async def planned_file_ids(plan: PlanReader | None, reused: Reused) -> AsyncGenerator[list[str], None]:
    """The file IDs of the plan's reused chunks."""
    if plan is None:
        return
    async with closing(plan.stream()) as chunks:
        async for chunk, file_ids in chunks:
            if chunk >= reused.chunks:
                return
            yield file_ids


async def compare_with_plan(
    file_ids: Sequence[str], planned: AsyncIterator[list[str]], waiting: list[str], last_line: int
) -> list[str]:
    """Compares the IDs of some lines with the plan, which has the same order; returns the first difference.

    `waiting`: IDs that were read from the plan, and whose lines come next.
    """
    while len(waiting) < len(file_ids) and (more := await anext(planned, None)) is not None:
        waiting += more
    pairs = zip(file_ids, waiting, strict=False)
    place = next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(file_ids), len(waiting)))
    if place < len(file_ids):
        line = last_line - len(file_ids) + place + 1
        return [f"{Log.RESULTS}, line {line}: file ID {file_ids[place]} is not the one that the plan has there"]
    del waiting[: len(file_ids)]
    return []
