"""One side of a comparison: the outcomes that are committed, and the planned files that have none yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from anyio.lowlevel import checkpoint

from classify_batch.errors import DamagedError
from classify_batch.operations.diff.outcome_buckets import WAITING, AnswerInterner, OutcomeBuckets, Record, keys_of
from classify_batch.ports import RunStore
from classify_batch.rundir.committed_outcomes import HINT, LineReader, OutcomeLine, committed_lines
from classify_batch.rundir.opened_run import RunOnDisk
from classify_batch.rundir.plan import PlanReader
from classify_batch.streams.closing import closing
from classify_batch.streams.spill import Limits
from classify_batch.vocabulary import Log

_reader = LineReader(OutcomeLine)


@dataclass(frozen=True, slots=True)
class Side:
    """A run, spread over buckets.

    Attributes:
        planned: every planned file, of an incomplete run only: a file without an outcome is waiting, and not gone.
    """

    store: RunStore
    run: RunOnDisk
    outcomes: OutcomeBuckets
    planned: OutcomeBuckets | None

    def bucket(self, number: int) -> dict[str, Record]:
        """The record of each file, by the key of its ID. Raises DamagedError where an ID has two outcomes.

        Two spellings of one ID may have one each, in a run of a version that took them for two files: an answer goes
        before a failure then, as it stands behind it.
        """
        records = self.outcomes.bucket(number)
        found = _by_key(records)
        if len(found) < len(records) and (repeated := _first_repeated(records)) is not None:
            raise DamagedError(f"{self.store.where}: file ID {repeated} has two outcomes", hint=HINT)
        if self.planned is not None:
            for key, record in _by_key(self.planned.bucket(number)).items():
                found.setdefault(key, record)
        return found


async def read_side(
    store: RunStore, run: RunOnDisk, labels: AnswerInterner, opened: ExitStack, directory: Path | None, limits: Limits
) -> Side:
    """Spreads a run. `opened` closes what it leaves open.

    Raises:
        DamagedError: what was committed is not there as it was written.
        WorldError: the run took its failed files up again while it was read.
        StoreError: the temporary files can't be written.
    """
    outcomes = opened.enter_context(OutcomeBuckets(directory, limits))
    for log in (Log.FAILURES, Log.RESULTS):
        async with closing(committed_lines(store, run, log, _reader)) as stream:
            async for _, lines in stream:
                outcomes.add(
                    [(line.file_id, labels[line.outcome, line.type, line.code], line.confidence) for line in lines]
                )
    planned = None
    if not run.standing.complete:
        planned = opened.enter_context(OutcomeBuckets(directory, limits))
        await _spread_plan(store, run.run.plan_sha256, planned)
    return Side(store, run, outcomes, planned)


async def _spread_plan(store: RunStore, sha256: str, planned: OutcomeBuckets) -> None:
    plan = PlanReader(store)
    await plan.scan(sha256)
    async with closing(plan.file_id_batches()) as batches:
        async for file_ids in batches:
            planned.add([(file_id, WAITING, None) for file_id in file_ids])
            await checkpoint()


def _by_key(records: Sequence[Record]) -> dict[str, Record]:
    return dict(zip(keys_of(records), records, strict=True))


def _first_repeated(records: Sequence[Record]) -> str | None:
    times = Counter(file_id for file_id, _, _ in records)
    return next((file_id for file_id, count in times.items() if count > 1), None)
