"""One side of a comparison: the outcomes that are committed, and the planned files that have none yet.

What the journal doesn't vouch for is not read, so that a run may be on meanwhile. That the committed bytes are as they
were written is for `verify` to prove; here each line must be an outcome, and there must be as many as the journal says.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
from anyio.lowlevel import checkpoint

from classify_batch.errors import DamagedError, WorldError
from classify_batch.manifest.diff.spread import WAITING, Labels, Record, Spread
from classify_batch.manifest.plan import PlanReader
from classify_batch.manifest.reopen import earlier_failures_name
from classify_batch.manifest.standing import RunOnDisk, read_run
from classify_batch.ports import Log, RunStore
from classify_batch.records import OutcomeKind
from classify_batch.sources.closing import closing
from classify_batch.sources.spill import Limits
from classify_batch.wire.shape import Shape

_HINT = "put the file back from a copy; `classify-batch verify` tells all that is wrong"


class _Line(msgspec.Struct):
    """What is compared of a line of results.jsonl or failures.jsonl."""

    file_id: str
    outcome: str
    type: str | None = None
    confidence: float | None = None
    code: str | None = None


_decoder = msgspec.json.Decoder(_Line)
_shape = Shape(_Line)


@dataclass(frozen=True, slots=True)
class Side:
    """A run, spread over buckets.

    Attributes:
        planned: every planned file, of an incomplete run only: a file without an outcome is waiting, and not gone.
    """

    store: RunStore
    run: RunOnDisk
    outcomes: Spread
    planned: Spread | None

    def bucket(self, number: int) -> dict[str, tuple[int, float | None]]:
        """Label and confidence of each file ID. Raises DamagedError where one has two outcomes."""
        records = self.outcomes.bucket(number)
        found = {file_id: (label, confidence) for file_id, label, confidence in records}
        if len(found) < len(records):
            raise DamagedError(f"{self.store.where}: file ID {_first_repeated(records)} has two outcomes", hint=_HINT)
        if self.planned is not None:
            for file_id, label, confidence in self.planned.bucket(number):
                found.setdefault(file_id, (label, confidence))
        return found


async def read_side(
    store: RunStore, run: RunOnDisk, labels: Labels, opened: ExitStack, directory: Path | None, limits: Limits
) -> Side:
    """Spreads a run. `opened` closes what it leaves open.

    Raises:
        DamagedError: what was committed is not there.
        WorldError: the run took its failed files up again while it was read.
        StoreError: the temporary files can't be written.
    """
    standing = run.standing
    outcomes = opened.enter_context(Spread(directory, limits))
    failed = standing.outcomes[OutcomeKind.FAILED]
    try:
        await _spread(store, Log.FAILURES, standing.failures_end, failed, labels, outcomes)
    except DamagedError:
        await _refuse_reopened(store, run)
        raise
    await _refuse_reopened(store, run)
    answered = standing.outcomes.total() - failed
    await _spread(store, Log.RESULTS, standing.results_end, answered, labels, outcomes)
    planned = None
    if not standing.complete:
        planned = opened.enter_context(Spread(directory, limits))
        await _spread_plan(store, run.run.plan_sha256, planned)
    return Side(store, run, outcomes, planned)


async def _refuse_reopened(store: RunStore, run: RunOnDisk) -> None:
    """failures.jsonl begins anew at a retry, which puts its lines aside first: only then is there more to ask."""
    generation = run.standing.generation
    if await store.size(earlier_failures_name(generation + 1)) is None:
        return
    now = await read_run(store)
    if now is None or now.standing.generation != generation:
        raise WorldError(
            f"the run in {store.where} took its failed files up again while it was read", hint="the same command again"
        )


async def _spread_plan(store: RunStore, sha256: str, planned: Spread) -> None:
    plan = PlanReader(store)
    await plan.scan(sha256)
    async with closing(plan.file_id_batches()) as batches:
        async for file_ids in batches:
            planned.add([(file_id, WAITING, None) for file_id in file_ids])
            await checkpoint()


async def _spread(store: RunStore, log: Log, end: int, count: int, labels: Labels, outcomes: Spread) -> None:
    """The first `end` bytes of a file, which hold `count` outcomes."""
    where = f"{log} in {store.where}"
    number, size, rest = 1, 0, b""
    async with closing(_blocks(store, log, end)) as blocks:
        async for block in blocks:
            size += len(block)
            whole, newline, rest = (rest + block).rpartition(b"\n")
            if newline:
                records = _read_lines(whole + newline, where, number, labels)
                outcomes.add(records)
                number += len(records)
            await checkpoint()
    if size < end:
        raise DamagedError(f"{where} has {size} bytes, but {end} were committed", hint=_HINT)
    if rest:
        raise DamagedError(f"{where}, line {number}: not an outcome", hint=_HINT)
    if number - 1 != count:
        raise DamagedError(f"{where} has {number - 1} outcomes, and the journal says {count}", hint=_HINT)


async def _blocks(store: RunStore, log: Log, end: int) -> AsyncIterator[bytes]:
    if not end:
        return
    try:
        async with closing(store.stream(log, 0, end)) as blocks:
            async for block in blocks:
                yield block
    except FileNotFoundError:
        return


def _read_lines(data: bytes, where: str, number: int, labels: Labels) -> list[Record]:
    """Whole lines, the first of which is line `number`; millions of them come by here."""
    try:
        lines = _decoder.decode_lines(data)
    except ValueError:
        lines = []
    if len(lines) != data.count(b"\n"):
        lines = [_read_line(line, where, at) for at, line in enumerate(data.split(b"\n")[:-1], number)]
    return [(line.file_id, labels[line.outcome, line.type, line.code], line.confidence) for line in lines]


def _read_line(data: bytes, where: str, number: int) -> _Line:
    """One line by itself, also one that only Python's own reader takes. Raises DamagedError."""
    try:
        line = _shape.read(data)
        line.file_id.encode()  # a lone surrogate is no file ID
        if not math.isfinite(line.confidence or 0.0):
            raise ValueError("no number")
    except ValueError:
        raise DamagedError(f"{where}, line {number}: not an outcome", hint=_HINT) from None
    return line


def _first_repeated(records: list[Record]) -> str:
    times = Counter(file_id for file_id, _, _ in records)
    return next(file_id for file_id, count in times.items() if count > 1)
