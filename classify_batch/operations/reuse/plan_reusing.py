"""Planning with earlier runs at hand: results.jsonl begins with what they answered, and the plan with its files.

results.jsonl comes first, then plan.jsonl: the plan's first chunks are the files of the copied lines in their order,
which are known when they are copied. Each is written whole or not at all, and without run.json there is no run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from classify_batch.engine.planner import chunked
from classify_batch.errors import DamagedError
from classify_batch.inputs.dedupe import distinct
from classify_batch.operations.reuse.copied_lines import copied_lines
from classify_batch.operations.reuse.count_accepted import count_accepted
from classify_batch.operations.reuse.earlier_outcomes import Earlier
from classify_batch.operations.reuse.known_files import Judged, KnownFiles
from classify_batch.operations.reuse.outcome_answers import Answers, outcome_answer
from classify_batch.ports import RunStore
from classify_batch.rundir.plan import PlanSummary, write_plan
from classify_batch.rundir.run_json import Reused
from classify_batch.settings import TriageSettings
from classify_batch.streams.closing import closing
from classify_batch.streams.spill import LIMITS, Limits, Spool
from classify_batch.vocabulary import FILES_PER_JOB_MAX, Log, OutcomeKind

_COPIED_LINES = 4096
"""As many are written at once: a write takes a hop to a thread."""

_LIMITS = LIMITS._replace(buckets=1009, held_ids=1 << 17)
"""More IDs wait in memory for their buckets: there are thrice as many as without reuse, and this takes 30 MiB. Of more
buckets each is smaller: the two sets of a bucket, of 10,000 IDs each where there are 10 million, stay in the CPU's
cache, which halves the time of their comparison."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What was planned.

    Attributes:
        reused: what was taken over; None where the earlier runs knew no file of the input.
    """

    plan: PlanSummary
    duplicates: int
    reused: Reused | None


async def plan_reusing(
    store: RunStore,
    batches: AsyncIterator[list[str]],
    runs: Sequence[Earlier],
    files_per_job: int,
    *,
    triage: TriageSettings | None = None,
    directory: Path | None = None,
    limits: Limits | None = None,
) -> Planned:
    """Writes results.jsonl, where there is something to reuse, and plan.jsonl.

    Args:
        batches: the input's rows. runs: those whose outcomes fit, the newest first.
        directory: where temporary files go that outgrow memory: five times the input's size, and six
            where it spells the IDs of the earlier runs otherwise.

    Raises:
        DamagedError: a run's results are not there as they were written.
        StoreError: the disk refuses. Whatever `batches` raises comes through.
    """
    if limits is None:
        limits = _LIMITS if runs else LIMITS
    with KnownFiles(directory, limits) as known, Spool(directory, limits) as copied_ids:
        await known.read(runs)
        new = distinct(batches, directory=directory, limits=limits, known=known)
        async with closing(new) as new_batches:
            first = await anext(new_batches, list[str]())  # all of the input was read by then, and is judged
            reused = None
            per_chunk = files_per_job if files_per_job > 1 else FILES_PER_JOB_MAX  # what is reused goes out in no job
            if new.known:
                copying = _Copying(known, copied_ids, per_chunk, most=2 * new.known > known.lines)
                await store.replace(Log.RESULTS, copying.blocks(runs))
                reused = copying.reused(await count_accepted(store, triage))
            elif await store.size(Log.RESULTS):
                await store.truncate(Log.RESULTS, 0)  # what a killed planning left
            plan = await write_plan(store, _chunks(copied_ids, per_chunk, first, new_batches, files_per_job))
    return Planned(plan, new.duplicates, reused)


async def _chunks(
    copied_ids: Spool, per_chunk: int, first: list[str], new_batches: AsyncIterator[list[str]], files_per_job: int
) -> AsyncGenerator[list[str], None]:
    for file_ids in copied_ids.replay():
        for start in range(0, len(file_ids), per_chunk):
            yield file_ids[start : start + per_chunk]

    async def new() -> AsyncGenerator[list[str], None]:
        yield first
        async for batch in new_batches:
            yield batch

    async with closing(chunked(new(), files_per_job)) as chunks:
        async for chunk in chunks:
            yield chunk


class _Copying:
    """Copies the lines that count, a chunk at a time, and counts what goes by.

    What they answer is counted by the lines that are fewer: where most lines count, a run's own sums are taken, less
    the answers of the lines that don't.
    """

    def __init__(self, known: KnownFiles, copied_ids: Spool, files_per_chunk: int, *, most: bool) -> None:
        self._known = known
        self._most = most
        self._copied_ids = copied_ids
        self._per_chunk = files_per_chunk
        self._chunks = self._bytes = self._crc = 0
        self._answers = Answers()
        self._files: Counter[int] = Counter()
        self._runs: Sequence[Earlier] = ()

    async def blocks(self, runs: Sequence[Earlier]) -> AsyncGenerator[bytes, None]:
        """A chunk never holds lines of two runs."""
        self._runs = runs
        for number, earlier in enumerate(runs):
            lines: list[bytes] = []
            file_ids: list[str] = []
            if self._most:
                standing = earlier.run.standing
                answered = {kind: n for kind, n in standing.outcomes.items() if kind != OutcomeKind.FAILED}
                self._answers.add_sums(answered, standing.types)
            async with closing(self._known.judged(number, earlier)) as stream:
                async for judged in stream:
                    self._count(earlier, judged)
                    lines += judged.lines
                    file_ids += judged.file_ids
                    if len(lines) >= _COPIED_LINES:
                        whole = len(lines) - len(lines) % self._per_chunk
                        yield self._block(number, lines[:whole], file_ids[:whole])
                        del lines[:whole], file_ids[:whole]
            if lines:
                yield self._block(number, lines, file_ids)

    def _count(self, earlier: Earlier, judged: Judged) -> None:
        try:
            if self._most:
                self._answers.add(map(outcome_answer, judged.left_out), sign=-1)
            else:
                self._answers.add(map(outcome_answer, judged.lines))
        except ValueError as error:
            raise _no_outcome(earlier, error) from None

    def _block(self, number: int, lines: list[bytes], file_ids: list[str]) -> bytes:
        """Whole chunks as they are written; the last one may be shorter."""
        run, chunks = self._runs[number], list[bytes]()
        self._copied_ids.add(file_ids)
        try:
            for start in range(0, len(lines), self._per_chunk):
                some = lines[start : start + self._per_chunk]
                chunks.append(copied_lines(some, self._chunks + len(chunks), run.run.run.run_id))
        except ValueError as error:
            raise _no_outcome(run, error) from None
        data = b"".join(chunks)
        self._chunks += len(chunks)
        self._files[number] += len(file_ids)
        self._bytes += len(data)
        self._crc = crc32(data, self._crc)
        return data

    def reused(self, accepted: int) -> Reused:
        """What was taken over."""
        counts, types = self._answers.told
        runs = [(self._runs[number], files) for number, files in sorted(self._files.items())]
        return Reused(
            chunks=self._chunks,
            files=self._files.total(),
            bytes=self._bytes,
            crc=self._crc,
            counts=counts,
            types=types,
            accepted=accepted,
            runs=[
                {"run_id": earlier.run.run.run_id, "run_dir": earlier.store.where, "files": files}
                for earlier, files in runs
            ],
        )


def _no_outcome(earlier: Earlier, error: ValueError) -> DamagedError:
    return DamagedError(
        f"{Log.RESULTS} in {earlier.store.where} has a line that is no outcome: {error}",
        hint="`classify-batch verify` tells all that is wrong; leave the run out",
    )
