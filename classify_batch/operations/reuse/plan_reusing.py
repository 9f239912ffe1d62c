"""Plans a run that reuses earlier ones: results.jsonl begins with the reused lines, and the plan with their files.

results.jsonl is written first, then plan.jsonl: the plan's first chunks hold the files of the copied lines in their
order, which is known only when they are copied. Each file is written whole or not at all, and without run.json there is
no run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from classify_batch.engine.planner import cut_into_chunks
from classify_batch.errors import DamagedError
from classify_batch.inputs.dedupe import distinct
from classify_batch.inputs.rows import OnFurther, carried_of
from classify_batch.operations.reuse.copied_lines import add_carried, copy_lines, strip_carried
from classify_batch.operations.reuse.count_accepted import count_accepted
from classify_batch.operations.reuse.earlier_outcomes import EarlierRun
from classify_batch.operations.reuse.known_files import KnownFiles, SortedLines
from classify_batch.operations.reuse.outcome_answers import AnswerCounts, parse_outcome_answer
from classify_batch.ports import RunStore
from classify_batch.rundir.plan import PlanSummary, write_plan
from classify_batch.rundir.run_json import Reused
from classify_batch.settings import TriageSettings
from classify_batch.streams.closing import closing
from classify_batch.streams.spill import LIMITS, Limits, Spool
from classify_batch.streams.uuid_lines import join_ids
from classify_batch.vocabulary import FILES_PER_JOB_MAX, Log, OutcomeKind

_COPIED_LINES = 4096
"""So many lines are written at once: each write switches to a thread."""

_LIMITS = LIMITS._replace(buckets=1024, held_ids=1 << 17)
"""More IDs are held in memory: there are three times as many as without reuse, and this takes 30 MiB. With more
buckets, each is smaller: of 10 million IDs, the two sets of a bucket have 10,000 each and stay in the CPU's cache,
which halves the time of their comparison."""


@dataclass(frozen=True, slots=True)
class ReusingPlan:
    """What was planned.

    Attributes:
        reused: what was reused; None where the earlier runs know no file of the input.
    """

    plan: PlanSummary
    duplicates: int
    reused: Reused | None


async def plan_reusing(
    store: RunStore,
    batches: AsyncIterator[Sequence[str]],
    runs: Sequence[EarlierRun],
    files_per_job: int,
    *,
    triage: TriageSettings | None = None,
    directory: Path | None = None,
    limits: Limits | None = None,
    on_further: OnFurther | None = None,
    name: str | None = None,
) -> ReusingPlan:
    """Writes plan.jsonl, and before it results.jsonl, if there is something to reuse.

    Args:
        batches: the rows of the input.
        runs: the runs whose outcomes may be reused, the newest first.
        directory: where temporary files go: up to five times the input's size, or six times if it spells IDs
            differently than the earlier runs.
        on_further: is called with what a file carries beyond what fits; None: that is an error.
        name: of the input, for that error.

    Raises:
        SourceError: a file carries more than fits, and nobody takes the rest.
        DamagedError: a run's results are not as they were written.
        StoreError: the disk refuses a write.
    """
    if limits is None:
        limits = _LIMITS if runs else LIMITS
    with KnownFiles(directory, limits) as known, Spool(directory, limits) as copied_rows:
        await known.read_runs(runs)
        new = distinct(batches, directory=directory, limits=limits, known=known, on_further=on_further, name=name)
        async with closing(new) as new_batches:
            first = await anext(new_batches, list[str]())  # by now all of the input was read, and compared with `known`
            reused = None
            per_chunk = files_per_job if files_per_job > 1 else FILES_PER_JOB_MAX  # reused files go into no job
            if new.known:
                copies = ReusedLines(known, copied_rows, per_chunk, most=2 * new.known > known.lines)
                await store.replace(Log.RESULTS, copies.copied_blocks(runs))
                reused = copies.summarize(await count_accepted(store, triage))
            elif await store.size(Log.RESULTS):
                await store.remove(Log.RESULTS)  # a killed planning left it
            plan = await write_plan(store, plan_chunks(copied_rows, per_chunk, first, new_batches, files_per_job))
    return ReusingPlan(plan, new.duplicates, reused)


async def plan_chunks(
    copied_rows: Spool,
    per_chunk: int,
    first: Sequence[str],
    new_batches: AsyncIterator[Sequence[str]],
    files_per_job: int,
) -> AsyncGenerator[Sequence[str], None]:
    """The chunks of the plan: first the reused files, then the new ones."""
    for rows in copied_rows.replay_ids():
        for start in range(0, len(rows), per_chunk):
            yield rows[start : start + per_chunk]

    async def new_file_ids() -> AsyncGenerator[Sequence[str], None]:
        yield first
        async with closing(new_batches) as batches:
            async for batch in batches:
                yield batch

    async with closing(cut_into_chunks(new_file_ids(), files_per_job)) as chunks:
        async for chunk in chunks:
            yield chunk


class ReusedLines:
    """Copies the lines that count, a chunk at a time, and counts their answers.

    Parsing answers takes time, so the fewer lines are parsed: if most lines count (`most`), the answers of those that
    don't are subtracted from the earlier run's own sums.
    """

    def __init__(self, known: KnownFiles, copied_rows: Spool, files_per_chunk: int, *, most: bool) -> None:
        self._known = known
        self._most = most
        self._copied_rows = copied_rows
        self._per_chunk = files_per_chunk
        self._chunks = self._bytes = self._crc = 0
        self._answers = AnswerCounts()
        self._files: Counter[int] = Counter()
        self._runs: Sequence[EarlierRun] = ()

    async def copied_blocks(self, runs: Sequence[EarlierRun]) -> AsyncGenerator[bytes, None]:
        """The copied lines of all runs. A chunk never holds lines of two runs."""
        self._runs = runs
        for number, earlier in enumerate(runs):
            lines: list[bytes] = []
            rows: Sequence[str] = []
            if self._most:
                snapshot = earlier.run.snapshot
                answered = {kind: n for kind, n in snapshot.outcomes.items() if kind != OutcomeKind.FAILED}
                self._answers.add_counts(answered, snapshot.types)
            async with closing(self._known.sorted_lines(number, earlier)) as stream:
                async for some in stream:
                    self._count_answers(earlier, some)
                    lines += some.lines
                    rows = join_ids(rows, some.rows)
                    if len(lines) >= _COPIED_LINES:
                        whole = len(lines) - len(lines) % self._per_chunk
                        yield self._copy_chunks(number, lines[:whole], rows[:whole])
                        del lines[:whole]
                        rows = rows[whole:]
            if lines:
                yield self._copy_chunks(number, lines, rows)

    def _count_answers(self, earlier: EarlierRun, lines: SortedLines) -> None:
        try:
            if self._most:
                self._answers.add_answers(map(parse_outcome_answer, lines.left_out), sign=-1)
            else:
                self._answers.add_answers(map(parse_outcome_answer, lines.lines))
        except ValueError as error:
            raise _bad_line_error(earlier, error) from None

    def _copy_chunks(self, number: int, lines: list[bytes], rows: Sequence[str]) -> bytes:
        """Copies whole chunks; only the last one may be shorter."""
        run, chunks = self._runs[number], list[bytes]()
        self._copied_rows.add_ids(rows)
        carried = carried_of(rows)
        if run.run.run.identity.get("carry"):
            lines = list(map(strip_carried, lines))
        try:
            for start in range(0, len(lines), self._per_chunk):
                some = lines[start : start + self._per_chunk]
                copied = copy_lines(some, self._chunks + len(chunks), run.run.run.run_id)
                if carried is not None:
                    copied = add_carried(copied, carried[start : start + self._per_chunk])
                chunks.append(copied)
        except ValueError as error:
            raise _bad_line_error(run, error) from None
        data = b"".join(chunks)
        self._chunks += len(chunks)
        self._files[number] += len(rows)
        self._bytes += len(data)
        self._crc = crc32(data, self._crc)
        return data

    def summarize(self, accepted: int) -> Reused:
        """What was reused, for run.json."""
        counts, types = self._answers.totals
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


def _bad_line_error(earlier: EarlierRun, error: ValueError) -> DamagedError:
    return DamagedError(
        f"{Log.RESULTS} in {earlier.store.where} has a line that is not an outcome: {error}",
        hint="`classify-batch verify` names all damage; leave the run out",
    )
