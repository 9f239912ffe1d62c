"""A new chance for the failed files of a run, in the same directory.

Their lines are first copied durably to `failures.<generation>.jsonl`. What is to become of each of them is written to
`retry.<generation>.jsonl` (see `rundir.retry_file`). Then one line in the journal, `reopened`, makes both true, and
from there `failures.jsonl` begins at 0. A crash or a stop before that line leaves files that nobody refers to; a crash
after it leaves old failures behind the committed end, which the next start cuts off.

Files that failed as `overdue`, `unresolved` or `not_answered` may have been paid: they aren't sent again, but go back
to the poller, or to the reconciler where their job is unknown. These send them again only when that is proven to be
safe. The credits that were set aside for their attempts still are, until it is known what they cost.

Memory doesn't grow with the failures: they are read a few thousand at a time, which is enough to bring together what a
chunk's attempts left over, since these end soon after each other. The journal is read along with them, where it is
needed: it says what became of each attempt in the order in which the failures stand.
"""

from __future__ import annotations

import itertools
import re
from array import array
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import NamedTuple, cast

from anyio.lowlevel import checkpoint

from classify_batch.clock import to_iso
from classify_batch.engine.past_attempts import PastAttempt, ended_items
from classify_batch.engine.shutdown import Shutdown
from classify_batch.errors import DamagedError, InterruptedEarlyError
from classify_batch.inputs.ids import shorten
from classify_batch.lifecycle import ENDS, Recheck, Reopened, RequeuedPart, WrittenPart, account_of
from classify_batch.model import AttemptKey, Part, to_ranges
from classify_batch.ports import RunStore
from classify_batch.rundir.committed_outcomes import LineReader, OutcomeLine
from classify_batch.rundir.journal.entry import decode_entry, write_part
from classify_batch.rundir.journal.line import DAMAGED_HINT
from classify_batch.rundir.journal.replay import RunSnapshot
from classify_batch.rundir.journal.writer import JournalWriter
from classify_batch.rundir.plan import PlanReader
from classify_batch.rundir.retry_file import encode_batch
from classify_batch.streams.closing import closing
from classify_batch.vocabulary import (
    FailureCode,
    Kind,
    Log,
    OutcomeKind,
    earlier_failures_name,
    retry_name,
)

_SAYS_NOTHING_HERE = re.compile(rb'.{1,80}"kind":"(?:submitted|adopted|finished)"').match
"""The journal was read as a whole already: these lines are half of it."""

TOGETHER_MAX = 16_384
"""So many failed files are brought together by their chunks."""

PARTS_PER_BATCH = 64

_EPOCH = to_iso(0.0)

_KNOWN_CHUNKS_MAX = 64

_ENDS = frozenset(Kind(state.value) for state in ENDS)

_MAY_BE_PAID = frozenset({FailureCode.OVERDUE.value, FailureCode.UNRESOLVED.value, FailureCode.NOT_ANSWERED.value})


class _FailureLine(OutcomeLine, kw_only=True):
    """A line of failures.jsonl, as far as it decides what becomes of its file."""

    code: str
    job_id: str | None = None
    chunk: int
    attempt: int


class _OldAttempt(NamedTuple):
    """An attempt that was given up and may have been paid; `recheck` is its part's."""

    key: AttemptKey
    job_id: str | None
    recheck: bool = False


async def read_failures(
    store: RunStore, snapshot: RunSnapshot, plan: PlanReader, files: int, shutdown: Shutdown
) -> Reopened | None:
    """Copies and reads the failures: what `reopen_failed` makes true. None where there are none. Only after the
    directory was mended. `files`: of the whole run.

    Raises:
        InterruptedEarlyError: a stop was asked for; the run is as it was.
        StoreError: the disk refused; the run is as it was.
        DamagedError: what was committed is not there as it was written.
    """
    end = snapshot.failures_end
    if not end:
        return None
    generation = snapshot.generation + 1
    await store.replace(earlier_failures_name(generation), _stream_blocks(store, Log.FAILURES, end, shutdown))
    writing = _RetryWriting(store, snapshot, _Positions(plan, files, shutdown), shutdown)
    await store.replace(retry_name(generation), writing.encode_blocks())
    return {"generation": generation, "retry_bytes": writing.bytes}


async def reopen_failed(store: RunStore, journal: JournalWriter, failed: Reopened) -> None:
    """Gives the failed files their new chance, before any outcome is appended.

    Raises:
        StoreError: the disk refused; nothing was reopened, or all was.
    """
    journal.record_about_run(Kind.REOPENED, failed)
    await journal.wait_durable()
    await store.open_log(Log.FAILURES, 0)


def attempt_to_recheck(key: AttemptKey, code: str, job_id: str | None) -> _OldAttempt | None:
    """The attempt whose job is to be read first; None where its files were surely not paid."""
    match code:
        case FailureCode.OVERDUE:
            return _OldAttempt(key, job_id)
        case FailureCode.UNRESOLVED:
            return _OldAttempt(key, None)
        case FailureCode.NOT_ANSWERED if job_id is not None:
            return _OldAttempt(key, job_id, recheck=True)
        case _:
            return None


def _was_surely_not_paid(failure: _FailureLine) -> bool:
    return failure.code not in _MAY_BE_PAID or (failure.code == FailureCode.NOT_ANSWERED and failure.job_id is None)


# --- What becomes of each ---------------------------------------------------------------------------------------------


class _RetryWriting:
    """Makes the lines of a retry.N.jsonl.

    Attributes:
        bytes: of those so far.
    """

    def __init__(self, store: RunStore, snapshot: RunSnapshot, positions: _Positions, shutdown: Shutdown) -> None:
        self._store = store
        self._snapshot = snapshot
        self._positions = positions
        self._shutdown = shutdown
        self.bytes = 0

    async def encode_blocks(self) -> AsyncGenerator[bytes, None]:
        if not _MAY_BE_PAID.isdisjoint(self._snapshot.codes):
            async with closing(self._stream_rechecks()) as stream:
                async for rechecks in stream:
                    yield self._encode_batch([], rechecks)
        async with closing(self._stream_requeued()) as stream_of_parts:
            async for parts in stream_of_parts:
                for start in range(0, len(parts), PARTS_PER_BATCH):
                    yield self._encode_batch(parts[start : start + PARTS_PER_BATCH], [])

    def _encode_batch(self, requeued: list[RequeuedPart], rechecks: list[Recheck]) -> bytes:
        line = encode_batch(requeued, rechecks)
        self.bytes += len(line)
        return line

    async def _stream_requeued(self) -> AsyncGenerator[list[RequeuedPart], None]:
        """What is sent again: a part of each chunk, as far as its failures stand near each other."""
        waiting: list[_FailureLine] = []
        async with closing(_stream_failures(self._store, self._snapshot.failures_end, self._shutdown)) as stream:
            async for failures in stream:
                waiting += [each for each in failures if _was_surely_not_paid(each)]
                if len(waiting) >= TOGETHER_MAX:
                    yield await self._parts_of_failures(waiting)
                    waiting = []
        yield await self._parts_of_failures(waiting)

    async def _parts_of_failures(self, failures: list[_FailureLine]) -> list[RequeuedPart]:
        if self._positions.one_each:
            return [{"chunk": failure.chunk} for failure in failures]
        by_chunk: dict[int, array[int]] = {}
        sizes: dict[int, int] = {}
        for failure in failures:
            by_chunk.setdefault(failure.chunk, array("H")).append(await self._positions.find_position(failure))
            sizes[failure.chunk] = await self._positions.chunk_size(failure.chunk)
        parts: list[RequeuedPart] = []
        for chunk, positions in sorted(by_chunk.items()):
            part: RequeuedPart = {"chunk": chunk}
            part |= cast(RequeuedPart, write_positions(chunk, positions, sizes[chunk]))
            parts.append(part)
        return parts

    async def _stream_rechecks(self) -> AsyncGenerator[list[Recheck], None]:
        """The attempts whose jobs are read first: found along with the journal, in which each ends where its failures
        are committed."""
        pasts, rechecks, account = dict[tuple[int, int], PastAttempt](), list[Recheck](), None
        end, rest, generation = self._snapshot.failures_end, b"", 0
        async with (
            closing(_stream_blocks(self._store, Log.JOURNAL, None, self._shutdown)) as blocks,
            closing(_stream_failures(self._store, end, self._shutdown)) as stream,
        ):
            segments = _Segments(stream)
            async for block in blocks:
                *lines, rest = (rest + block).split(b"\n")
                for entry in map(decode_entry, itertools.filterfalse(_SAYS_NOTHING_HERE, lines)):
                    generation += entry.kind is Kind.REOPENED
                    if entry.opened is not None:
                        account = account_of(entry.opened)
                    for recheck in entry.rechecks:
                        pasts[recheck["chunk"], recheck["attempt"]] = PastAttempt.of_recheck(recheck)
                    for item in ended_items(entry, pasts, account):
                        past = pasts.pop((item.chunk, item.attempt))
                        if generation == self._snapshot.generation and item.failures is not None:
                            key, count = AttemptKey(item.chunk, item.attempt), item.counts or {}
                            failures = await segments.take_lines(key, count.get(OutcomeKind.FAILED, 0))
                            rechecks += await self._rechecks_of_attempt(past, failures)
                            if len(rechecks) >= PARTS_PER_BATCH:
                                yield rechecks
                                rechecks = []
        if rechecks:
            yield rechecks

    async def _rechecks_of_attempt(self, past: PastAttempt, failures: Iterable[_FailureLine]) -> list[Recheck]:
        olds: dict[_OldAttempt, array[int]] = {}
        one_each = self._positions.one_each
        for failure in failures:
            key = AttemptKey(failure.chunk, failure.attempt)
            if (old := attempt_to_recheck(key, failure.code, failure.job_id)) is not None:
                place = 0 if one_each else await self._positions.find_position(failure)
                olds.setdefault(old, array("H")).append(place)
        if not olds:
            return []
        size = 1 if one_each else await self._positions.chunk_size(next(iter(olds)).key.chunk)
        return [_make_recheck(old, past, positions, size) for old, positions in olds.items()]


def _make_recheck(old: _OldAttempt, past: PastAttempt, positions: array[int], chunk_size: int) -> Recheck:
    chunk, attempt = old.key
    recheck: Recheck = {"chunk": chunk, "attempt": attempt}
    recheck |= cast(Recheck, write_positions(chunk, positions, chunk_size, old.recheck))
    if old.job_id is not None:
        recheck["job_id"] = old.job_id
    recheck["since"] = to_iso(past.since_s or 0.0) if old.job_id is None else _EPOCH
    if past.sent:
        recheck["sent_ids"] = [past.sent[position] for position in sorted(positions)]
    past.add_known_then(recheck)
    past.add_share_of_sums(recheck, len(positions), chunk_size)
    return recheck


def write_positions(chunk: int, positions: array[int], chunk_size: int, recheck: bool = False) -> WrittenPart:
    whole = len(positions) == chunk_size
    if whole and not recheck:
        return {}
    return write_part(Part(chunk, None if whole else to_ranges(sorted(positions)), recheck=recheck))


class _Segments:
    """Failure lines, as many at a time as an attempt has left: they stand in the order in which the attempts ended."""

    def __init__(self, stream: AsyncIterator[list[_FailureLine]]) -> None:
        self._stream = stream
        self._lines: list[_FailureLine] = []
        self._next = 0

    async def take_lines(self, key: AttemptKey, count: int) -> list[_FailureLine]:
        """The next lines, which are those that the attempt `key` has left.

        Raises:
            DamagedError: they are another attempt's: somebody has sorted the file, say. Of which job its files are
                searched for, and since when, would be wrong.
        """
        taken: list[_FailureLine] = []
        while len(taken) < count:
            if self._next == len(self._lines):
                self._lines, self._next = await anext(self._stream, []), 0
            if not self._lines:
                raise DamagedError(f"{Log.FAILURES} has fewer lines than {Log.JOURNAL} says", hint=DAMAGED_HINT)
            some = self._lines[self._next : self._next + count - len(taken)]
            self._next += len(some)
            taken += some
        for line in taken:
            if (line.chunk, line.attempt) != key:
                where = f"where attempt {key.attempt} of chunk {key.chunk} has left its failures"
                words = f"{Log.FAILURES}: {shorten(line.file_id)} stands {where}: the lines were moved"
                raise DamagedError(words, hint=DAMAGED_HINT)
        return taken


class _Positions:
    """Where in their chunks files stand. The chunks that were asked for last are kept.

    Attributes:
        one_each: whether each chunk has one file: then the plan need not be read.
    """

    def __init__(self, plan: PlanReader, files: int, shutdown: Shutdown) -> None:
        self.one_each = files == plan.chunks
        self._plan = plan
        self._shutdown = shutdown
        self._known: OrderedDict[int, dict[str, int]] = OrderedDict()

    async def find_position(self, failure: _FailureLine) -> int:
        if self.one_each:
            return 0
        position = (await self._positions_of_chunk(failure.chunk)).get(failure.file_id)
        if position is None:
            words = f"{Log.FAILURES}: {shorten(failure.file_id)} is no file of chunk {failure.chunk}"
            raise DamagedError(words, hint=DAMAGED_HINT)
        return position

    async def chunk_size(self, chunk: int) -> int:
        return 1 if self.one_each else len(await self._positions_of_chunk(chunk))

    async def _positions_of_chunk(self, chunk: int) -> dict[str, int]:
        known = self._known.get(chunk)
        if known is None:
            _raise_if_stopped(self._shutdown)
            file_ids = await self._plan.file_ids(chunk)
            known = self._known[chunk] = {file_id: position for position, file_id in enumerate(file_ids)}
            if len(self._known) > _KNOWN_CHUNKS_MAX:
                self._known.popitem(last=False)
        return known


# --- Streams that hear a stop -----------------------------------------------------------------------------------------


async def _stream_failures(store: RunStore, end: int, shutdown: Shutdown) -> AsyncGenerator[list[_FailureLine], None]:
    reader, rest, number = LineReader(_FailureLine), b"", 1
    async with closing(_stream_blocks(store, Log.FAILURES, end, shutdown)) as blocks:
        async for block in blocks:
            whole, newline, rest = (rest + block).rpartition(b"\n")
            if newline:
                failures = reader.read_lines(whole + newline, f"{Log.FAILURES} in {store.where}", number)
                number += len(failures)
                yield failures


async def _stream_blocks(store: RunStore, log: Log, end: int | None, shutdown: Shutdown) -> AsyncGenerator[bytes, None]:
    async with closing(store.stream(log, 0, end)) as blocks:
        async for block in blocks:
            yield block
            await checkpoint()
            _raise_if_stopped(shutdown)


def _raise_if_stopped(shutdown: Shutdown) -> None:
    """Nothing was begun yet: a stop just leaves."""
    if shutdown.stop is not None:
        raise InterruptedEarlyError(shutdown.stop.reason, hint="the same command begins again")
