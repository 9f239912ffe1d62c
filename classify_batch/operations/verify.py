"""Proves a run directory: every committed byte is as it was written, and each file ID has one outcome.

Streams everything: memory holds one bucket of file IDs, whatever the run's size.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any
from zlib import crc32

from anyio.lowlevel import checkpoint

from classify_batch.errors import DamagedError
from classify_batch.operations.reuse.check_reused import check_reused
from classify_batch.operations.status import no_run
from classify_batch.ports import RunStore
from classify_batch.rundir.journal.entry import Item
from classify_batch.rundir.journal.reader import Reader
from classify_batch.rundir.manifest_json import counts_of, sha256_of
from classify_batch.rundir.opened_run import RunOnDisk, read_run
from classify_batch.rundir.outcome_ids import outcome_file_id, outcome_file_ids
from classify_batch.rundir.plan import PlanReader
from classify_batch.store.disk import DiskStore
from classify_batch.streams.closing import closing
from classify_batch.streams.spill import LIMITS, Buckets
from classify_batch.vocabulary import Kind, Log, earlier_failures_name

FAULTS_MAX = 50
"""More than this many say nothing new."""


@dataclass(slots=True)
class Verification:
    """What was found.

    Attributes:
        complete: whether every planned chunk is done.
        faults: damage, each naming file and line; notes: what is worth knowing and no fault.
    """

    files: int = 0
    complete: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def fault(self, words: str) -> None:
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(words)
        elif len(self.faults) == FAULTS_MAX:
            self.faults.append("… and more")


async def verify(store: RunStore, directory: Path | None = None) -> Verification | None:
    """Checks a run; None where there is none. Changes nothing.

    `directory`: where temporary files may go.
    """
    found = Verification()
    try:
        run = await read_run(store)
    except DamagedError as error:
        found.fault(str(error))
        return found
    if run is None:
        return None
    found.files, found.complete = run.run.files, run.standing.complete
    found.counts = counts_of(run.standing.outcomes)
    plan = await _check_plan(store, run, found)
    _note_what_is_open(run, found)
    with Buckets(directory, LIMITS) as outcomes:
        if run.run.reused is not None:
            for words in await check_reused(store, run.run.reused, plan, outcomes):
                found.fault(words)
        await _check_outcomes(store, run, found, outcomes)
        if plan is not None:
            await _check_one_each(plan, outcomes, found, directory)
    await _check_manifest(store, run, found)
    return found


async def _check_plan(store: RunStore, run: RunOnDisk, found: Verification) -> PlanReader | None:
    plan = PlanReader(store)
    try:
        await plan.scan(run.run.plan_sha256)
    except DamagedError as error:
        found.fault(str(error))
        return None
    if plan.chunks != run.run.chunks:
        found.fault(f"plan.jsonl has {plan.chunks} lines, and run.json says {run.run.chunks}")
    return plan


def _note_what_is_open(run: RunOnDisk, found: Verification) -> None:
    paid = [attempt for attempt in run.standing.open.values() if attempt.job_id is not None]
    if paid:
        found.notes.append(f"{len(paid)} jobs were accepted and are not collected yet")
    if len(paid) < len(run.standing.open):
        found.notes.append(f"{len(run.standing.open) - len(paid)} creates are in doubt; the next run reconciles them")
    if run.torn_bytes:
        words = f"{Log.JOURNAL} has {run.torn_bytes} torn bytes behind line {run.standing.seq}"
        if run.manifest_complete:  # nobody was writing
            found.fault(words)
        else:
            found.notes.append(f"{words}; the next run cuts them off")


# --- Outcomes ---------------------------------------------------------------------------------------------------------


class _Tail:
    """A file of outcomes, read from its beginning a segment at a time."""

    def __init__(self, store: RunStore, name: str, start: int = 0, line: int = 1) -> None:
        self.name = name
        self._blocks = _blocks(store, name, start)
        self._held = b""
        self._taken = 0  # of what is held: to cut it off each time would copy a block for every segment
        self.line = line
        self.cut_off = False

    async def take(self, size: int) -> bytes:
        """The next `size` bytes; fewer where the file ends."""
        parts = [self._held[self._taken : self._taken + size]]
        self._taken += len(parts[0])
        missing = size - len(parts[0])
        while missing > 0 and (block := await anext(self._blocks, b"")):
            parts.append(block[:missing])
            self._held, self._taken = block, len(parts[-1])
            missing -= len(block)
        return b"".join(parts)

    async def aclose(self) -> None:
        await self._blocks.aclose()


async def _blocks(store: RunStore, name: str, start: int = 0) -> AsyncGenerator[bytes, None]:
    try:
        async with closing(store.stream(name, start)) as blocks:
            async for block in blocks:
                yield block
                await checkpoint()
    except FileNotFoundError:
        return


async def _check_outcomes(store: RunStore, run: RunOnDisk, found: Verification, outcomes: Buckets) -> None:
    """Every committed segment. Failures that were put aside count for their checksums, and not as outcomes."""
    standing = run.standing
    async with AsyncExitStack() as opened:

        def tail(name: str, start: int = 0, line: int = 1) -> _Tail:
            made = _Tail(store, name, start, line)
            opened.push_async_callback(made.aclose)
            return made

        results, generation = tail(Log.RESULTS, run.run.reused_bytes, run.run.reused_files + 1), 0
        failures = tail(_failures_name(generation, standing.generation))
        provisional = tail(Log.PROVISIONAL)
        reader = Reader(Log.JOURNAL)
        async for block in _blocks(store, Log.JOURNAL):
            for entry, _ in reader.feed(block):
                if entry.kind is Kind.REOPENED:
                    generation += 1
                    failures = tail(_failures_name(generation, standing.generation))
                current = outcomes if generation == standing.generation else None
                for item in entry.items:
                    if item.results is not None:
                        await _check_segment(results, item.results, item, found, outcomes)
                    if item.failures is not None:
                        await _check_segment(failures, item.failures, item, found, current)
                    if item.provisional is not None:
                        await _check_segment(provisional, item.provisional, item, found, None)
    ends = ((results, standing.results_end), (failures, standing.failures_end), (provisional, standing.provisional_end))
    await _check_spare(store, run, found, ends)


async def _check_spare(store: RunStore, run: RunOnDisk, found: Verification, ends: Iterable[tuple[_Tail, int]]) -> None:
    """What stands behind the last committed byte."""
    for number, (lines, end) in enumerate(run.standing.earlier_failures, 1):
        name = earlier_failures_name(number)
        if (spare := (await store.size(name) or 0) - end) > 0:
            found.fault(f"{name}, line {lines + 1}: {spare} bytes that were never committed")
    for log, end in ends:
        spare = (await store.size(log.name) or 0) - end
        if spare > 0 and run.standing.complete:
            found.fault(f"{log.name}, line {log.line}: {spare} bytes that were never committed")
        elif spare > 0:
            found.notes.append(f"{log.name} has {spare} bytes that are not committed yet; the next run cuts them off")


def _failures_name(generation: int, last: int) -> str:
    return Log.FAILURES if generation == last else earlier_failures_name(generation + 1)


async def _check_segment(
    tail: _Tail, segment: tuple[int, int, int], item: Item, found: Verification, outcomes: Buckets | None
) -> None:
    if tail.cut_off:
        return
    start, end, crc = segment
    data = await tail.take(end - start)
    if len(data) == end - start and crc32(data) == crc and (plain := outcome_file_ids(data)) is not None:
        if outcomes is not None:
            outcomes.add(plain)
        tail.line += len(plain)
        return
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    where = f"{tail.name}, lines {tail.line} to {tail.line + max(0, len(lines) - 1)}"
    if len(data) < end - start:
        tail.cut_off = True
        found.fault(f"{where}: cut off at byte {start + len(data)}; {end} bytes were committed")
    elif crc32(data) != crc:
        found.fault(f"{where}: not as they were written (chunk {item.chunk}, attempt {item.attempt})")
    file_ids: list[str] = []
    for number, line in enumerate(lines, tail.line):
        try:
            file_ids.append(outcome_file_id(line))
        except ValueError:
            found.fault(f"{tail.name}, line {number}: not an outcome")
    if outcomes is not None:
        outcomes.add(file_ids)
    tail.line += data.count(b"\n")


async def _check_one_each(plan: PlanReader, outcomes: Buckets, found: Verification, directory: Path | None) -> None:
    """Promise 1: each planned ID once; in an incomplete run at most once."""
    with Buckets(directory, LIMITS) as planned:
        async for batch in plan.file_id_batches():
            planned.add(batch)
            await checkpoint()
        for number in range(LIMITS.buckets):
            _check_bucket(outcomes.bucket(number), set(planned.bucket(number)), found)
            await checkpoint()


def _check_bucket(answered: list[str], asked: set[str], found: Verification) -> None:
    distinct = set(answered)
    if len(distinct) < len(answered):
        for file_id, count in Counter(answered).items():
            if count > 1:
                found.fault(f"file ID {file_id} has {count} outcomes")
    for file_id in distinct - asked:
        found.fault(f"file ID {file_id} has an outcome and is not in the plan")
    if found.complete:
        for file_id in asked - distinct:
            found.fault(f"file ID {file_id} has no outcome")


# --- The manifest -----------------------------------------------------------------------------------------------------


async def _check_manifest(store: RunStore, run: RunOnDisk, found: Verification) -> None:
    closed = run.standing.closed
    manifest = run.manifest
    if manifest is None:
        if closed is not None:
            found.fault("manifest.json is missing or can't be read")
        return
    if manifest.get("run_id") != run.run.run_id:
        found.fault("manifest.json is another run's")
    if not run.manifest_complete:
        return
    if manifest.get("counts") != found.counts or manifest.get("files") != run.run.files:
        found.fault("manifest.json: its counts are not those of the journal")
    outputs: dict[str, Any] = manifest.get("outputs", {})
    for name, output in outputs.items():
        if await sha256_of(store, name) != output.get("sha256"):
            found.fault(f"{name}: its SHA-256 is not the one in manifest.json")


async def verify_run(run_dir: str | PathLike[str]) -> Verification:
    """Proves a run directory. Raises RunDirectoryError where there is no run."""
    path = Path(run_dir)
    spill = path if os.access(path, os.W_OK) else None  # the system's own place for it may be memory
    found = await verify(DiskStore(path), spill) if path.is_dir() else None
    if found is None:
        raise no_run(path)
    return found
