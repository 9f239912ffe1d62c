"""One side of a comparison: the committed outcomes of a run, and its planned files that have none yet.

Of a run with shards all outcomes count, wherever they are, and the plan is the whole run's: so a shard that was never
begun has files that wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from anyio.lowlevel import checkpoint

from classify_batch.errors import DamagedError
from classify_batch.operations.diff.outcome_buckets import (
    WAITING,
    AnswerInterner,
    OutcomeBuckets,
    Record,
    keys_of_records,
)
from classify_batch.operations.open_run import OpenedRun
from classify_batch.ports import RunStore
from classify_batch.rundir.committed_outcomes import HINT, LineReader, OutcomeLine, committed_lines
from classify_batch.rundir.plan import PlanReader
from classify_batch.rundir.run_json import RunFile
from classify_batch.streams.closing import closing
from classify_batch.streams.spill import Limits
from classify_batch.vocabulary import Log

_reader = LineReader(OutcomeLine)


@dataclass(frozen=True, slots=True)
class Side:
    """The records of a run, spread over buckets.

    Attributes:
        where: the run's place, for messages.
        planned: every planned file; only of an incomplete run, where a file without an outcome is waiting, not gone.
    """

    where: str
    outcomes: OutcomeBuckets
    planned: OutcomeBuckets | None

    def read_bucket(self, number: int) -> dict[str, Record]:
        """The record of each file, by the key of its ID. Raises DamagedError where an ID has two outcomes.

        An older version took two spellings of one ID for two files, so each may have an outcome. Then the answer wins
        over the failure, since results were added after failures.
        """
        records = self.outcomes.read_bucket(number)
        found = index_by_key(records)
        if len(found) < len(records) and (repeated := first_repeated_id(records)) is not None:
            raise DamagedError(f"{self.where}: file ID {repeated} has two outcomes", hint=HINT)
        if self.planned is not None:
            for key, record in index_by_key(self.planned.read_bucket(number)).items():
                found.setdefault(key, record)
        return found


async def read_side(
    run: OpenedRun, labels: AnswerInterner, opened: ExitStack, directory: Path | None, limits: Limits
) -> Side:
    """Reads a run, and spreads its records over buckets, which `opened` closes.

    Raises:
        DamagedError: what was committed is not there as it was written.
        WorldError: `retry_failed` reopened the run while it was read.
        StoreError: the temporary files can't be written.
    """
    outcomes = opened.enter_context(OutcomeBuckets(directory, limits))
    # Results last: where an ID has both (see `read_bucket`), the later record wins.
    for log, part in product((Log.FAILURES, Log.RESULTS), run.parts):
        async with closing(committed_lines(part.store, part, log, _reader)) as stream:
            async for _, lines in stream:
                outcomes.add_records(
                    [(line.file_id, labels[line.outcome, line.type, line.code], line.confidence) for line in lines]
                )
    planned = None
    if not run.complete:
        planned = opened.enter_context(OutcomeBuckets(directory, limits))
        await read_planned_files(run.parts[0].store, run.run, planned)
    return Side(run.where, outcomes, planned)


async def read_planned_files(store: RunStore, run: RunFile, planned: OutcomeBuckets) -> None:
    plan = PlanReader(store, run.first_chunk)
    await plan.scan_whole_file(run.plan_sha256)
    async with closing(plan.file_id_batches()) as batches:
        async for file_ids in batches:
            planned.add_records([(file_id, WAITING, None) for file_id in file_ids])
            await checkpoint()


def index_by_key(records: Sequence[Record]) -> dict[str, Record]:
    return dict(zip(keys_of_records(records), records, strict=True))


def first_repeated_id(records: Sequence[Record]) -> str | None:
    times = Counter(file_id for file_id, _, _ in records)
    return next((file_id for file_id, count in times.items() if count > 1), None)
