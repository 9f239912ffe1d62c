"""A new chance for the failed files of a run, in the same directory.

Their lines are first copied durably to `failures.<generation>.jsonl`, and read; then one line in the journal,
`reopened`, says which parts go out again, and from there `failures.jsonl` begins at 0. A crash or a stop before that
line leaves a copy that nobody refers to; a crash after it leaves old failures behind the committed end, which the next
start cuts off.

Files that failed as `overdue`, `unresolved` or `not_answered` may have been paid: they don't go out again, but back
into the hands of those who watch their jobs (or look for them), who send them again only when that is proven to be
safe. What was set aside for their attempts still is, and comes back when it is known what they cost.
"""

from __future__ import annotations

import json
from array import array
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, TypedDict, TypeVar, cast

from anyio.lowlevel import checkpoint

from classify_batch.clock import to_iso
from classify_batch.engine.shutdown import Shutdown
from classify_batch.errors import InterruptedEarlyError
from classify_batch.lifecycle import Recheck, Reopened, RequeuedPart, WrittenPart
from classify_batch.model import AttemptKey, Part, to_ranges
from classify_batch.ports import RunStore
from classify_batch.rundir.journal.entry import Entry, Item, write_part
from classify_batch.rundir.journal.reader import Reader
from classify_batch.rundir.journal.replay import RunSnapshot
from classify_batch.rundir.journal.writer import JournalWriter
from classify_batch.rundir.plan import PlanReader
from classify_batch.streams.closing import closing
from classify_batch.vocabulary import BILLED, CREDITS, UNBILLED, FailureCode, Kind, Log, earlier_failures_name

CHECK_STOP_EVERY = 256
"""Steps of a long loop between two checks whether the run was asked to stop."""

Each = TypeVar("Each")


class _FailureLine(TypedDict):
    """A line of failures.jsonl, as far as it decides what becomes of its file."""

    file_id: str
    code: str
    job_id: str | None
    chunk: int
    attempt: int


class _OldAttempt(NamedTuple):
    """An attempt that was given up and may have been paid; `recheck` is its part's."""

    key: AttemptKey
    job_id: str | None
    recheck: bool = False


@dataclass(slots=True)
class _FailedFiles:
    """The failed files, as positions in their chunks, whose sizes are told."""

    requeued: dict[int, array[int]] = field(default_factory=lambda: defaultdict(lambda: array("H")))
    attempts: dict[int, int] = field(default_factory=dict)
    old: dict[_OldAttempt, array[int]] = field(default_factory=lambda: defaultdict(lambda: array("H")))
    sizes: dict[int, int] = field(default_factory=dict)

    def part(self, chunk: int, positions: array[int], recheck: bool = False) -> WrittenPart:
        whole = len(positions) == self.sizes[chunk]
        return write_part(Part(chunk, None if whole else to_ranges(sorted(positions)), recheck=recheck))


@dataclass(slots=True)
class _PastOfAttempt:
    """What the journal says of an old attempt: when it was first intended, of how many files, and what it has in the
    sums."""

    since_s: float | None = None
    server_s: float | None = None
    project_id: str | None = None
    files: int = 0
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys((CREDITS, BILLED, UNBILLED), 0.0))

    def learn(self, entry: Entry, item: Item, size: int) -> None:
        if entry.kind is Kind.SUBMITTING:
            if self.since_s is None:
                self.since_s, self.server_s, self.project_id = entry.at_s, entry.server_s, item.project_id
            self.files = size if item.ranges is None else sum(stop - start for start, stop in item.ranges)
            self.sums[CREDITS] += item.credits
        for name in self.sums.keys() & (item.sums or {}).keys():
            self.sums[name] += (item.sums or {})[name]

    def add_known_then(self, look: Recheck) -> None:
        """Adds what was known before the intent."""
        if self.server_s is not None:
            look["server_s"] = self.server_s
        if self.project_id is not None:
            look["project_id"] = self.project_id

    def look_again(self) -> None:
        """Its bill was taken out of the sums: the look's end tells it anew."""
        self.sums |= {BILLED: 0.0, UNBILLED: 0.0}

    def add_share(self, look: Recheck, files: int) -> None:
        """Adds what the sums have for so many of its files; a job that tells its bill has one."""
        share = files / self.files if self.files else 0.0
        shares = {name: round(value * share, 6) for name, value in self.sums.items() if value}
        look |= cast(Recheck, shares)


async def read_failures(
    store: RunStore, snapshot: RunSnapshot, plan: PlanReader, shutdown: Shutdown
) -> Reopened | None:
    """Copies and reads the failures: what `reopen` makes true. None where there are none. Only after the directory was
    mended.

    Raises:
        InterruptedEarlyError: a stop was asked for; the run is as it was.
        StoreError: the disk refused; the run is as it was.
    """
    end = snapshot.failures_end
    if not end:
        return None
    generation = snapshot.generation + 1
    await store.replace(earlier_failures_name(generation), _stream_blocks(store, Log.FAILURES, end, shutdown))
    failed = await _read_failed_files(store, end, plan, shutdown)
    past = await _read_past_of_attempts(store, failed, shutdown)
    requeued: list[RequeuedPart] = [
        {"chunk": chunk, "attempts": failed.attempts[chunk], **failed.part(chunk, positions)}
        async for chunk, positions in _until_stopped(sorted(failed.requeued.items()), shutdown)
    ]
    looks = [
        _make_recheck(old, failed, past[old.key], positions)
        async for old, positions in _until_stopped(sorted(failed.old.items(), key=lambda item: item[0].key), shutdown)
    ]
    return {"generation": generation, "again": requeued, "looks": looks}


def _make_recheck(old: _OldAttempt, failed: _FailedFiles, past: _PastOfAttempt, positions: array[int]) -> Recheck:
    chunk, attempt = old.key
    recheck: Recheck = {"chunk": chunk, "attempt": attempt, "attempts": failed.attempts[chunk]}
    recheck |= cast(Recheck, failed.part(chunk, positions, old.recheck))
    if old.job_id is not None:
        recheck["job_id"] = old.job_id
    recheck["since"] = to_iso((past.since_s or 0.0) if old.job_id is None else 0.0)
    past.add_known_then(recheck)
    past.add_share(recheck, len(positions))
    return recheck


async def reopen(store: RunStore, journal: JournalWriter, failed: Reopened) -> None:
    """Gives the failed files their new chance, before any outcome is appended.

    Raises:
        StoreError: the disk refused; nothing was reopened, or all was.
    """
    journal.record_about_run(Kind.REOPENED, failed)
    await journal.durable()
    await store.open_log(Log.FAILURES, 0)


async def _read_failed_files(store: RunStore, end: int, plan: PlanReader, shutdown: Shutdown) -> _FailedFiles:
    failed = _FailedFiles()
    chunk, positions = -1, dict[str, int]()
    async with closing(_read_failure_lines(store, end, shutdown)) as failures:
        async for failure in failures:
            if failure["chunk"] != chunk:
                _raise_if_stopped(shutdown)
                chunk = failure["chunk"]
                positions = {file_id: position for position, file_id in enumerate(await plan.file_ids(chunk))}
                failed.sizes[chunk] = len(positions)
            position, key = positions[failure["file_id"]], AttemptKey(chunk, failure["attempt"])
            old = attempt_to_look_at(key, failure["code"], failure["job_id"])
            (failed.requeued[chunk] if old is None else failed.old[old]).append(position)
            failed.attempts[chunk] = max(failed.attempts.get(chunk, 0), key.attempt)
    return failed


def attempt_to_look_at(key: AttemptKey, code: str, job_id: str | None) -> _OldAttempt | None:
    """The attempt that is to be looked at first; None where its files were surely not paid."""
    match code:
        case FailureCode.OVERDUE:
            return _OldAttempt(key, job_id)
        case FailureCode.UNRESOLVED:
            return _OldAttempt(key, None)
        case FailureCode.NOT_ANSWERED if job_id is not None:
            return _OldAttempt(key, job_id, recheck=True)
        case _:
            return None


async def _read_failure_lines(store: RunStore, end: int, shutdown: Shutdown) -> AsyncGenerator[_FailureLine, None]:
    rest = b""
    async with closing(_stream_blocks(store, Log.FAILURES, end, shutdown)) as blocks:
        async for block in blocks:
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                yield json.loads(line)


async def _read_past_of_attempts(
    store: RunStore, failed: _FailedFiles, shutdown: Shutdown
) -> dict[AttemptKey, _PastOfAttempt]:
    """What became of the old attempts: the journal knows. Also takes from there how many attempts the chunks had, whose
    other files may have been in later ones: no number is given out twice."""
    past = {old.key: _PastOfAttempt() for old in failed.old}
    reader = Reader(Log.JOURNAL)
    async with closing(_stream_blocks(store, Log.JOURNAL, None, shutdown)) as blocks:
        async for block in blocks:
            for entry, _ in reader.feed(block):
                _learn_from_entry(entry, failed, past)
    return past


def _learn_from_entry(entry: Entry, failed: _FailedFiles, past: dict[AttemptKey, _PastOfAttempt]) -> None:
    for recheck in () if entry.reopened is None else entry.reopened["looks"]:
        if (known := past.get(AttemptKey(recheck["chunk"], recheck["attempt"]))) is not None:
            known.look_again()
    for item in entry.items:
        if item.chunk not in failed.attempts:
            continue
        failed.attempts[item.chunk] = max(failed.attempts[item.chunk], item.attempt)
        if (known := past.get(AttemptKey(item.chunk, item.attempt))) is not None:
            known.learn(entry, item, failed.sizes[item.chunk])


# --- Stops in long loops ----------------------------------------------------------------------------------------------


async def _stream_blocks(store: RunStore, log: Log, end: int | None, shutdown: Shutdown) -> AsyncGenerator[bytes, None]:
    async with closing(store.stream(log, 0, end)) as blocks:
        async for block in blocks:
            yield block
            await checkpoint()
            _raise_if_stopped(shutdown)


async def _until_stopped(items: Iterable[Each], shutdown: Shutdown) -> AsyncGenerator[Each, None]:
    for number, item in enumerate(items):
        if number % CHECK_STOP_EVERY == 0:
            await checkpoint()
            _raise_if_stopped(shutdown)
        yield item


def _raise_if_stopped(shutdown: Shutdown) -> None:
    """Nothing was begun yet: a stop just leaves."""
    if shutdown.stop is not None:
        raise InterruptedEarlyError(shutdown.stop.reason, hint="the same command begins again")
