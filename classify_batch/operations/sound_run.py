"""Whether a complete run is plainly sound: what `verify` asks first, and nearly always all that it has to ask.

Blocks of lines are read, not segments. What is wrong, and where, is found out by another pass, if there is anything.
"""

from __future__ import annotations

from anyio.lowlevel import checkpoint

from classify_batch.errors import DamagedError, WorldError
from classify_batch.ports import RunStore
from classify_batch.rundir.committed_outcomes import IdReader, committed_lines
from classify_batch.rundir.opened_run import RunOnDisk
from classify_batch.rundir.plan import PlanReader
from classify_batch.streams.closing import closing
from classify_batch.streams.id_sums import IdSum
from classify_batch.vocabulary import Log


async def is_plainly_sound(store: RunStore, run: RunOnDisk, plan: PlanReader) -> bool:
    """Whether a complete run that has nothing but results and failures is sound: all bytes are as they were committed,
    with nothing behind them, and hold the IDs of the plan, each once. False may also mean that it must be looked at
    more closely."""
    snapshot = run.snapshot
    if run.run.reused is not None or snapshot.generation or snapshot.provisional_end:
        return False
    ends = ((Log.RESULTS, snapshot.results_end), (Log.FAILURES, snapshot.failures_end), (Log.PROVISIONAL, 0))
    for log, end in ends:
        if (await store.size(log) or 0) != end:
            return False
    answered, reader = IdSum(), IdReader()
    try:
        for log in (Log.RESULTS, Log.FAILURES):
            async with closing(committed_lines(store, run, log, reader)) as stream:
                async for _, file_ids in stream:
                    answered.add_ids(file_ids)
    except (DamagedError, WorldError):
        return False
    return answered == await sum_of_plan(plan)


async def sum_of_plan(plan: PlanReader) -> IdSum:
    """The sum of the planned IDs."""
    planned = IdSum()
    async with closing(plan.raw_file_ids()) as batches:
        async for batch in batches:
            planned.add_ids(batch)
            await checkpoint()
    return planned
