"""Verifies a run directory: every committed byte is as it was written, and each file ID has one outcome.

Everything is streamed, and nearly every run is sound. So the first pass asks only whether all of it is: checksums of
the committed bytes, and the IDs of the outcomes against the plan's, by their sums. Where it can't say so, the next
passes say what is wrong, and where; memory then holds one bucket of file IDs, whatever the run's size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

from anyio import create_task_group
from anyio.lowlevel import checkpoint

from classify_batch.errors import DamagedError, the_cause
from classify_batch.operations.output_hashes import OutputHashes
from classify_batch.operations.reuse.check_reused import check_reused
from classify_batch.operations.sound_run import is_plainly_sound, sum_of_plan
from classify_batch.ports import RunStore
from classify_batch.rundir.journal.entry import Entry, Item, decode_entry
from classify_batch.rundir.lost_lines import answer_sizes, refuse_lost_lines
from classify_batch.rundir.manifest_json import counts_of
from classify_batch.rundir.opened_run import RunOnDisk, read_run
from classify_batch.rundir.outcome_ids import decode_ids, encode_ids, outcome_file_id, outcome_id_bytes
from classify_batch.rundir.plan import PlanReader
from classify_batch.streams.buckets import Buckets
from classify_batch.streams.closing import closing
from classify_batch.streams.id_sums import IdSum
from classify_batch.streams.spill import LIMITS
from classify_batch.vocabulary import Kind, Log, earlier_failures_name

ERRORS_MAX = 50
"""Further errors are left out: a damaged file can have one for each of its lines."""


@dataclass(slots=True)
class Verification:
    """What `verify` found.

    Attributes:
        complete: whether every planned chunk is done.
        errors: damage, each with file and line.
        notes: what is worth knowing, and no damage.
    """

    files: int = 0
    complete: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add_error(self, message: str) -> None:
        """Adds an error; beyond `ERRORS_MAX` it is left out."""
        if len(self.errors) < ERRORS_MAX:
            self.errors.append(message)
        elif len(self.errors) == ERRORS_MAX:
            self.errors.append("… and more")


async def verify_store(store: RunStore, directory: Path | None = None) -> Verification | None:
    """Verifies a run, without changing anything. None: there is no run.

    `directory`: where temporary files may go.
    """
    found, hashes = Verification(), OutputHashes(store)
    try:
        async with create_task_group() as tasks:
            # Hashing lets go of the interpreter's lock: a second core does it in the meantime.
            tasks.start_soon(hashes.hash_all_outputs)
            if (run := await check_run(store, found, directory)) is None:
                tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        cause = the_cause(group)
        raise cause from (cause.__cause__ or group)
    if run is None:
        return found if found.errors else None
    await check_manifest(run, found, hashes)
    return found


async def check_run(store: RunStore, found: Verification, directory: Path | None) -> RunOnDisk | None:
    """Checks all but the manifest. None: there is no run, or it can't be read, which is an error."""
    sizes = await answer_sizes(store)
    try:
        run = await read_run(store)
    except DamagedError as error:
        found.add_error(str(error))
        return None
    if run is not None:
        found.files, found.complete = run.run.files, run.snapshot.complete
        found.counts = counts_of(run.snapshot.outcomes)
        try:
            await refuse_lost_lines(store, run, sizes)
        except DamagedError as error:
            found.add_error(str(error))
        plan = await check_plan(store, run, found)
        note_open_attempts(run, found)
        await check_outcome_ids(store, run, plan, found, directory)
    return run


async def check_plan(store: RunStore, run: RunOnDisk, found: Verification) -> PlanReader | None:
    """Checks the plan's hash and length; returns its reader, or None where it is damaged."""
    plan = PlanReader(store, run.run.first_chunk)
    try:
        await plan.scan_whole_file(run.run.plan_sha256)
    except DamagedError as error:
        found.add_error(str(error))
        return None
    if plan.chunks != run.run.chunks:
        found.add_error(f"plan.jsonl has {plan.chunks} lines, and run.json says {run.run.chunks}")
    return plan


def note_open_attempts(run: RunOnDisk, found: Verification) -> None:
    """Notes what an interrupted run leaves behind, and the next one goes on with."""
    accepted = [attempt for attempt in run.snapshot.open_attempts.values() if attempt.job_id is not None]
    if accepted:
        found.notes.append(f"{len(accepted)} jobs were accepted and are not collected yet")
    if len(accepted) < len(run.snapshot.open_attempts):
        ambiguous = len(run.snapshot.open_attempts) - len(accepted)
        found.notes.append(f"{ambiguous} creates are ambiguous (accepted or not); the next run reconciles them")
    if run.torn_bytes:
        message = f"{Log.JOURNAL} has {run.torn_bytes} torn bytes behind line {run.snapshot.seq}"
        if run.manifest_complete:  # a run that has ended: no process was interrupted while it wrote
            found.add_error(message)
        else:
            found.notes.append(f"{message}; the next run cuts them off")


# --- File IDs ---------------------------------------------------------------------------------------------------------

AddIds = Callable[[Sequence[bytes]], object]
"""Takes the IDs of some outcomes, in UTF-8."""


async def check_outcome_ids(
    store: RunStore, run: RunOnDisk, plan: PlanReader | None, found: Verification, directory: Path | None
) -> None:
    """Checks every committed line, and that each planned ID has one outcome; in an incomplete run, at most one."""
    if plan is not None and found.complete and await is_plainly_sound(store, run, plan):
        return
    if plan is not None and found.complete and await check_by_sums(store, run, plan, found):
        return
    # The sums differ, so some ID is wrong; or not every ID has its outcome yet. Whatever the lines themselves say of
    # that was said by the first pass, if there was one.
    in_lines = Verification() if plan is not None and found.complete else found
    with Buckets(directory, LIMITS) as outcomes:
        await check_lines(store, run, plan, in_lines, lambda file_ids: outcomes.add_ids(decode_ids(file_ids)))
        if plan is not None:
            await check_one_outcome_each(plan, outcomes, found, directory)


async def check_by_sums(store: RunStore, run: RunOnDisk, plan: PlanReader, found: Verification) -> bool:
    """Checks every committed line; returns whether the IDs of the outcomes are those of the plan, each once."""
    answered = IdSum()
    await check_lines(store, run, plan, found, answered.add_ids)
    return answered == await sum_of_plan(plan)


async def check_lines(
    store: RunStore, run: RunOnDisk, plan: PlanReader | None, found: Verification, add: AddIds
) -> None:
    """Checks the lines that were reused and those that were committed, and gives their IDs to `add`."""
    if run.run.reused is not None:
        for message in await check_reused(store, run.run.reused, plan, add):
            found.add_error(message)
    await check_outcomes(store, run, found, add)


# --- Outcomes ---------------------------------------------------------------------------------------------------------


_MARKS_OF_OUTCOMES = (b'"results":[', b'"failures":[', b'"provisional":[', b'"kind":"reopened"')
"""As the journal spells them. Inside of a string a quote has a backslash before it, so nothing else looks like this."""


class SegmentReader:
    """Reads a file of outcomes from its beginning, a segment at a time.

    Attributes:
        line: the number of the next line.
        cut_off: whether the file ended inside a segment: nothing behind it can be checked.
    """

    def __init__(self, store: RunStore, name: str, start: int = 0, line: int = 1) -> None:
        self.name = name
        self._blocks = stream_blocks(store, name, start)
        self._held = b""
        self._taken = 0  # how much of `_held` was read: cutting it off instead would copy a block for every segment
        self.line = line
        self.cut_off = False

    async def read_segment(self, size: int) -> bytes:
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


async def stream_blocks(
    store: RunStore, name: str, start: int = 0, end: int | None = None
) -> AsyncGenerator[bytes, None]:
    """The blocks of a file; none where there is no file."""
    try:
        async with closing(store.stream(name, start, end)) as blocks:
            async for block in blocks:
                yield block
                await checkpoint()
    except FileNotFoundError:
        return


async def check_outcomes(store: RunStore, run: RunOnDisk, found: Verification, add: AddIds) -> None:
    """Checks every committed segment, and gives the IDs of the outcomes to `add`. Failures that `retry_failed` set
    aside have checksums that must fit, but are no outcomes anymore."""
    snapshot = run.snapshot
    async with AsyncExitStack() as opened:

        def open_segments(name: str, start: int = 0, line: int = 1) -> SegmentReader:
            segments = SegmentReader(store, name, start, line)
            opened.push_async_callback(segments.aclose)
            return segments

        results, generation = open_segments(Log.RESULTS, run.run.reused_bytes, run.run.reused_files + 1), 0
        failures = open_segments(failures_file_name(generation, snapshot.generation))
        provisional = open_segments(Log.PROVISIONAL)
        async with closing(entries_with_outcomes(store, run.journal_end)) as entries:
            async for entry in entries:
                # From here on failures.jsonl begins anew: its lines so far were copied to failures.N.jsonl.
                if entry.kind is Kind.REOPENED:
                    generation += 1
                    failures = open_segments(failures_file_name(generation, snapshot.generation))
                # Failures of an earlier generation were retried: their files have later outcomes.
                current = add if generation == snapshot.generation else None
                for item in entry.items:
                    if item.results is not None:
                        await check_segment(results, item.results, item, found, add)
                    if item.failures is not None:
                        await check_segment(failures, item.failures, item, found, current)
                    if item.provisional is not None:
                        await check_segment(provisional, item.provisional, item, found, None)
    ends = ((results, snapshot.results_end), (failures, snapshot.failures_end), (provisional, snapshot.provisional_end))
    await check_uncommitted(store, run, found, ends)


async def entries_with_outcomes(store: RunStore, journal_end: int) -> AsyncGenerator[Entry, None]:
    """The journal's lines that commit outcomes or begin another generation; the others were read by `read_run`, and
    are not parsed again. Those of a big run are four times as many."""
    rest = b""
    async with closing(stream_blocks(store, Log.JOURNAL, end=journal_end)) as blocks:
        async for block in blocks:
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                if any(map(line.__contains__, _MARKS_OF_OUTCOMES)):
                    yield decode_entry(line)


async def check_uncommitted(
    store: RunStore, run: RunOnDisk, found: Verification, ends: Iterable[tuple[SegmentReader, int]]
) -> None:
    """Checks that nothing stands behind the last committed byte; an interrupted run may have left something there."""
    for number, (lines, end) in enumerate(run.snapshot.earlier_failures, 1):
        name = earlier_failures_name(number)
        if (spare := (await store.size(name) or 0) - end) > 0:
            found.add_error(f"{name}, line {lines + 1}: {spare} bytes that were never committed")
    for log, end in ends:
        spare = (await store.size(log.name) or 0) - end
        if spare > 0 and run.snapshot.complete:
            found.add_error(f"{log.name}, line {log.line}: {spare} bytes that were never committed")
        elif spare > 0 and not found.errors:  # a damaged run goes on with nothing
            found.notes.append(f"{log.name} has {spare} bytes that are not committed yet; the next run cuts them off")


def failures_file_name(generation: int, last: int) -> str:
    """Each `retry_failed` begins a new generation: its failures so far were copied to
    failures.N.jsonl, and failures.jsonl begins anew."""
    return Log.FAILURES if generation == last else earlier_failures_name(generation + 1)


async def check_segment(
    reader: SegmentReader, segment: tuple[int, int, int], item: Item, found: Verification, add: AddIds | None
) -> None:
    """Checks a segment's length, checksum and lines. The quick way first: nearly all segments are sound."""
    if reader.cut_off:
        return
    start, end, crc = segment
    data = await reader.read_segment(end - start)
    if len(data) == end - start and crc32(data) == crc and (file_ids := outcome_id_bytes(data)) is not None:
        if add is not None:
            add(file_ids)
        reader.line += len(file_ids)
        return
    lines = data.split(b"\n")
    if not lines[-1]:  # the empty string behind the last newline
        lines.pop()
    where = f"{reader.name}, lines {reader.line} to {reader.line + max(0, len(lines) - 1)}"
    if len(data) < end - start:
        reader.cut_off = True
        found.add_error(f"{where}: cut off at byte {start + len(data)}; {end} bytes were committed")
    elif crc32(data) != crc:
        found.add_error(f"{where}: not as they were written (chunk {item.chunk}, attempt {item.attempt})")
    readable: list[str] = []
    for number, line in enumerate(lines, reader.line):
        try:
            readable.append(outcome_file_id(line))
        except ValueError:
            found.add_error(f"{reader.name}, line {number}: not an outcome")
    if add is not None:
        add(encode_ids(readable))
    reader.line += data.count(b"\n")


async def check_one_outcome_each(
    plan: PlanReader, outcomes: Buckets, found: Verification, directory: Path | None
) -> None:
    """Checks that each planned ID has one outcome; in an incomplete run, at most one."""
    with Buckets(directory, LIMITS) as planned:
        async with closing(plan.file_id_batches()) as batches:
            async for batch in batches:
                planned.add_ids(batch)
                await checkpoint()
        for number in range(LIMITS.buckets):
            check_bucket(outcomes.bucket_texts(number), set(planned.bucket_texts(number)), found)
            await checkpoint()


def check_bucket(answered: list[str], planned: set[str], found: Verification) -> None:
    """Checks the IDs of one bucket: those that have an outcome against those that are planned."""
    distinct = set(answered)
    if len(distinct) < len(answered):
        for file_id, count in Counter(answered).items():
            if count > 1:
                found.add_error(f"file ID {file_id} has {count} outcomes")
    for file_id in distinct - planned:
        found.add_error(f"file ID {file_id} has an outcome and is not in the plan")
    if found.complete:
        for file_id in planned - distinct:
            found.add_error(f"file ID {file_id} has no outcome")


# --- The manifest -----------------------------------------------------------------------------------------------------


async def check_manifest(run: RunOnDisk, found: Verification, hashes: OutputHashes) -> None:
    """Checks that the manifest fits the journal, and its hashes the outputs."""
    closed = run.snapshot.closed
    manifest = run.manifest
    if manifest is None:
        if closed is not None:
            found.add_error("manifest.json is missing or can't be read")
        return
    # A manifest of a running or killed run may be older than the journal, so only its run is checked.
    if manifest["run_id"] != run.run.run_id:
        found.add_error("manifest.json is another run's; `resume` writes this run's anew")
    elif run.manifest_claims_complete and run.manifest_is_older:
        found.add_error(
            f"manifest.json is older than the journal: it knows {manifest['journal_seq']:,} of {run.snapshot.seq:,} "
            "lines; `resume` writes it anew"
        )
    if not run.manifest_complete:
        return
    if manifest["counts"] != counts_of(run.snapshot.outcomes) or manifest["files"] != run.run.files:
        found.add_error("manifest.json: its counts are not those of the journal")
    for name, output in (manifest.get("outputs") or {}).items():
        if await hashes.sha256(name, manifest) != output.get("sha256"):
            found.add_error(f"{name}: its SHA-256 is not the one in manifest.json")
