"""Runs a run, and gives its outcomes to a loop as they are committed.

The run is a task of its own, and the loop reads what the run has written down. So what is yielded is committed, memory
holds about a megabyte of outcomes, and a reader that is slow slows the creates (`ReaderPace`). No cancel scope and no
task group stays open while the caller's code runs: a generator that has a stream inside, and is closed by whatever
task, works as anywhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio

from classify_batch.arguments import refuse_no_number
from classify_batch.engine.shutdown import Shutdown, Stop
from classify_batch.errors import InterruptedEarlyError, UsageError
from classify_batch.inputs.open import SourceSpec, anchored_source
from classify_batch.inputs.reading import parse_reading
from classify_batch.limits.reader_pace import ReaderPace
from classify_batch.limits.shared_limits import SharedLimits
from classify_batch.operations.folder_request import as_globs
from classify_batch.operations.function_observer import Observe, all_observers
from classify_batch.operations.outcome import Outcome
from classify_batch.operations.part_tails import NewOutcomes, Part, PartTails, read_run_json
from classify_batch.operations.result import RunResult
from classify_batch.operations.reuse.earlier_runs import Reuse
from classify_batch.operations.run import refuse_no_settings
from classify_batch.operations.run_request import OnProgress, RunRequest
from classify_batch.operations.shards.carry_out import carry_out
from classify_batch.operations.shards.choice import Shard, parse_shards
from classify_batch.ports import Observer
from classify_batch.settings import Settings
from classify_batch.store import Location, anchored
from classify_batch.streams.closing import closing

if TYPE_CHECKING:
    from arro3.core import Table

POLL_EVERY_S = 0.05
"""How often the journal is looked at where the reader waits: as often as it is written."""

AHEAD = 1000

ROWS_A_TABLE = 1000
TABLE_WITHIN_S = 5.0

_LEFT = Stop("who read its outcomes left the stream")
_IN_A_LOOP = "a stream is read inside of `async with stream(…) as outcomes`, in a running asyncio loop"


def stream(
    settings: Settings,
    file_ids: SourceSpec | None = None,
    run_dir: Location = "run",
    *,
    ahead: int = AHEAD,
    column: str | None = None,
    input_format: str | None = None,
    delimiter: str | None = None,
    on_progress: OnProgress | None = None,
    retry_failed: bool = False,
    until_s: float | None = None,
    max_runtime_s: float | None = None,
    reuse: Reuse = (),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    observer: Observe | None = None,
    observers: Sequence[Observer] = (),
    shared_limits: SharedLimits | None = None,
    trust_run_dir: bool = False,
    shards: int | None = None,
    shard: Shard = None,
) -> OutcomeStream:
    """Classifies files, and yields each outcome once it is committed; the same call resumes an interrupted run.

        async with stream(settings, "ids.txt", "runs/today") as outcomes:
            async for outcome in outcomes:
                ...
        print(outcomes.result.state)

    All outcomes of the run are yielded: those that earlier processes committed come first. Of a run with shards so are
    those of all shards, also of those that other processes carry out meanwhile, until this call has no more to do;
    with `shard`, only those of that one. They come in the order in which they are found. To leave the block early
    stops the run as the first SIGTERM stops the command: within 4 s, incomplete with status 75, and the same call goes
    on. Exceptions of the block pass through, after the run has stopped.

    Args:
        ahead: while more outcomes than these are committed and not yet read, no more jobs are created.
        settings, file_ids, run_dir: as for `run`, and so are all others.

    Raises:
        UsageError: settings, input or directory don't fit, which the loop's first step says.
        WorldError: another process holds the run, or the disk refuses a write; the same call goes on later.
    """
    refuse_no_settings(settings)
    refuse_no_number("ahead", ahead, "a number of outcomes, from 0")
    if ahead < 0:
        raise UsageError(f"ahead={ahead}", hint="a number of outcomes, from 0")
    chosen = parse_shards(shards, shard)
    reading = parse_reading(input_format, delimiter, column)
    request = RunRequest(
        settings,
        None if file_ids is None else anchored_source(file_ids),
        anchored(run_dir, trusted=trust_run_dir),
        reading,
        reuse,
        retry_failed,
        until_s,
        max_runtime_s,
        on_progress=on_progress,
        observers=all_observers(observer, observers),
        shared_limits=shared_limits,
        include=as_globs(include),
        exclude=as_globs(exclude),
        shards=chosen.shards,
        shard=chosen.shard,
    )
    return OutcomeStream(request, ahead)


class OutcomeStream:
    """The outcomes of a run that is on; see `stream`. It can be entered once."""

    def __init__(self, request: RunRequest, ahead: int) -> None:
        self._request = request
        self._ahead = ahead
        self._run: asyncio.Task[RunResult] | None = None
        self._reading: _Reading | None = None
        self._result: RunResult | None = None
        self._error_was_raised = False

    @property
    def result(self) -> RunResult:
        """How the run ended: after the last outcome, and after the block.

        Raises:
            UsageError: it has not ended, or it was left before it was planned.
        """
        if self._result is None:
            raise UsageError("the run of this stream has not ended", hint="read it to its end, or leave the block")
        return self._result

    async def __aenter__(self) -> Self:
        if self._run is not None:
            raise UsageError("this stream was entered before", hint="call `stream` again: it goes on with the run")
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise UsageError("no asyncio loop is running", hint=_IN_A_LOOP) from None
        self._shutdown = Shutdown()
        pace = ReaderPace(self._ahead)
        work = carry_out(replace(self._request, pace=pace), self._shutdown)
        self._run = asyncio.create_task(work, name="classify_batch stream")
        self._reading = _Reading(self._request, pace, self._run)
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        if self._run is None or self._reading is None:
            raise UsageError("this stream was not entered", hint=_IN_A_LOOP)
        outcome = await self._reading.next_outcome()
        if outcome is not None:
            return outcome
        if self._run.cancelled():
            raise StopAsyncIteration  # the loop ends, and cancels all its tasks
        if self._run.exception() is not None and self._error_was_raised:
            raise StopAsyncIteration
        self._error_was_raised = True
        self._result = self._run.result()
        raise StopAsyncIteration

    async def tables(self, rows: int = ROWS_A_TABLE, within_s: float = TABLE_WITHIN_S) -> AsyncIterator[Table]:
        """The outcomes as Arrow tables, for whatever reads these: `polars.DataFrame(table)`. Needs the extra `parquet`.

        Each has the columns of `RunHandle.to_arrow`, whatever is in it.

        Args:
            rows: of a table, at most.
            within_s: how long its first outcome waits for further ones.

        Raises:
            UsageError: the extra isn't installed, or `rows` is no number of rows; and as the stream itself.
        """
        from classify_batch.operations.arrow_table import make_table  # noqa: PLC0415 - an extra

        refuse_no_number("rows", rows, "a number of rows, from 1")
        refuse_no_number("within_s", within_s, "a number of seconds")
        if rows < 1:
            raise UsageError(f"rows={rows}", hint="a number of rows, from 1")
        carry: Sequence[str] | None = None
        async with closing(self._gather_by_rows(rows, within_s)) as groups:
            async for outcomes in groups:
                if carry is None:
                    run = await anyio.to_thread.run_sync(
                        partial(read_run_json, self._request.place.reader(), takes_shards=True)
                    )
                    carry = run.settings.get("plan", {}).get("carry", ())
                yield make_table(outcomes, carry)

    async def _gather_by_rows(self, rows: int, within_s: float) -> AsyncIterator[list[Outcome]]:
        """The outcomes by groups."""
        held: list[Outcome] = []
        until_s: float | None = None
        while True:
            try:
                async with asyncio.timeout_at(until_s):
                    outcome = await anext(self, None)
            except TimeoutError:
                outcome = None
            else:
                if outcome is None:
                    break
                held.append(outcome)
                if self._reading is not None:  # what is there already needs no waiting
                    held += self._reading.take_ready(rows - len(held))
                until_s = until_s or asyncio.get_running_loop().time() + within_s
            if held and (outcome is None or len(held) >= rows):
                yield held
                held, until_s = [], None
        if held:
            yield held

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._run is None:
            return
        self._shutdown.request_stop(_LEFT)
        try:
            await _wait_for_end(self._run)
        finally:
            if self._reading is not None:
                await self._reading.aclose()
        if self._run.cancelled():
            return
        failure = self._run.exception()
        if failure is None:
            self._result = self._run.result()
        elif error is None and not self._error_was_raised and not isinstance(failure, InterruptedEarlyError):
            raise failure


async def _wait_for_end(task: asyncio.Task[Any]) -> None:
    """Waits for a task that was asked to stop, also where the caller is cancelled meanwhile: a run takes 4 s at most,
    and who is cancelled must not leave one behind that still holds its directory, nor a thread that reads it."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            with anyio.CancelScope(shield=True):
                await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


class _Reading:
    """What the loop has read so far."""

    def __init__(self, request: RunRequest, pace: ReaderPace, run: asyncio.Task[RunResult]) -> None:
        self._request = request
        self._pace = pace
        self._run = run
        self._tails: PartTails | None = None
        self._batches: Iterator[NewOutcomes] = iter(())
        self._outcomes: Iterator[Outcome] = iter(())
        self._part: Part = None
        self._fetching: asyncio.Task[NewOutcomes | None] | None = None
        self._fetching_scope = anyio.CancelScope()
        self._is_last_poll = False
        self._ended = False

    async def next_outcome(self) -> Outcome | None:
        """The next one, once it is committed; None where the run has ended and all were given.

        Who waits for it may be cancelled, and ask again: what is being read meanwhile is read by a task of its own.
        """
        while (outcome := next(self._outcomes, None)) is None:
            if self._ended:
                return None
            if self._fetching is None:
                self._fetching_scope = anyio.CancelScope()  # one serves once
                self._fetching = asyncio.create_task(self._fetch_outcomes(), name="classify_batch stream reader")
            await asyncio.wait({self._fetching})
            fetched, self._fetching = self._fetching, None
            if (found := fetched.result()) is None:
                self._ended = True
            else:
                self._outcomes, self._part = iter(found.decode()), found.part
        self._pace.count_read(1, self._part)
        return outcome

    def take_ready(self, most: int) -> list[Outcome]:
        """Some of the next ones, as far as they were read already."""
        outcomes = list(islice(self._outcomes, most))
        self._pace.count_read(len(outcomes), self._part)
        return outcomes

    async def aclose(self) -> None:
        """Reads no further."""
        if self._fetching is not None:
            # By its scope, and not by `cancel()` of asyncio, which would leave a thread behind that reads on.
            self._fetching_scope.cancel()
            await _wait_for_end(self._fetching)
            if not self._fetching.cancelled():
                self._fetching.exception()  # asked for, so that asyncio doesn't log it: nobody reads on

    async def _fetch_outcomes(self) -> NewOutcomes | None:
        """Some more outcomes, once they are there; None where the run has ended and all were given."""
        with self._fetching_scope:
            while (batch := await anyio.to_thread.run_sync(next, self._batches, None)) is None:
                if self._is_last_poll or not await self._begin_poll():
                    return None
            return batch
        return None  # cancelled

    async def _begin_poll(self) -> bool:
        """Looks for more, after a while; False where the run came to no outcomes."""
        if self._tails is not None:
            await asyncio.wait({self._run}, timeout=POLL_EVERY_S)
        elif not await self._wait_until_open():
            return False
        self._is_last_poll = self._run.done()  # asked before the poll: what was committed last is in it
        if self._tails is None:
            place, shard = self._request.place, self._request.shard
            self._tails = await anyio.to_thread.run_sync(PartTails, place, shard)
        self._batches = self._tails.poll_committed(self._may_read)
        return True

    def _may_read(self, part: Part) -> bool:
        """Where failed files are retried, not before their shard is open: then their old outcomes are put aside."""
        if part is None or not self._request.retry_failed or self._is_last_poll:
            return True
        return self._pace.has_started(part)

    async def _wait_until_open(self) -> bool:
        """Waits until the run in the directory is known to be the one that was asked for; False where it isn't, or is
        refused. It is read from the beginning then."""
        opened = asyncio.ensure_future(self._pace.started.wait())
        try:
            await asyncio.wait({self._run, opened}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            opened.cancel()
        return self._pace.started.is_set() or (not self._run.cancelled() and self._run.exception() is None)
