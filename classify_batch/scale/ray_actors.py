"""What runs in a cluster's processes: an actor for each shard, and one that hands out turns to all of them.

These are plain classes; `ray_cluster` makes actors of them. A worker reads its key from its own environment or file:
nothing that is sent to it has one.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from classify_batch.engine.progress import Progress
from classify_batch.engine.shutdown import Shutdown, Stop
from classify_batch.errors import ClassifyBatchError, LockedError, UsageError
from classify_batch.events import Event
from classify_batch.limits import GateSource, Priority
from classify_batch.limits.rate_budget import BudgetState, RateBudget, Report, Turn
from classify_batch.operations.run_request import RunRequest
from classify_batch.operations.shards.ending import ShardEnding
from classify_batch.operations.shards.run_shards import run_shard
from classify_batch.operations.shards.whole import read_whole
from classify_batch.settings import Settings
from classify_batch.store import place_of

EVENTS_KEPT = 10_000
"""Further ones are dropped and counted, until these were fetched."""


class ShardWork(NamedTuple):
    """What a worker is given: one shard of a run, and what was asked of the run.

    Attributes:
        run_dir: of the whole run, on a file system that all workers see.
        settings: without any key; `limits` are those of this shard.
        config: where the settings were read from.
    """

    run_dir: str
    shard: int
    settings: Settings
    trusted: bool
    retry_failed: bool
    until_s: float | None
    max_runtime_s: float | None
    config: Path | None


class ShardNews(NamedTuple):
    """What happened in a shard since it was asked last.

    Attributes:
        dropped: events that nobody fetched in time.
    """

    progress: Progress | None
    events: Sequence[Event]
    dropped: int


class ShardReport(NamedTuple):
    """How a worker ended its shard.

    Attributes:
        locked: another process is at work on it; stood_still: it lost its lease, so another one may take it over.
    """

    ending: ShardEnding
    locked: bool = False
    stood_still: bool = False


class ShardActor:
    """Carries out one shard in a worker's process.

    Args:
        limits: where its request gate comes from; None: its settings.
    """

    def __init__(self, limits: GateSource | None = None) -> None:
        self._limits = limits
        self._shutdown = Shutdown()
        self._events: deque[Event] = deque()
        self._dropped = 0
        self._progress: Progress | None = None

    async def process_id(self) -> int:
        """The worker's process; answered as soon as there is one."""
        return os.getpid()

    async def carry_out(self, work: ShardWork) -> ShardReport:
        """Returns when the shard has ended for now. What a person or a later call has to mend is in the report."""
        place = place_of(work.run_dir, trusted=work.trusted)
        try:
            whole = await read_whole(place)
            if whole is None:
                raise UsageError(f"{place.where} holds no run with shards, as its worker sees it", hint=_SAME_FILES)
            request = RunRequest(
                work.settings,
                None,
                place,
                retry_failed=work.retry_failed,
                until_s=work.until_s,
                max_runtime_s=work.max_runtime_s,
                on_progress=self._take_progress,
                observers=[self],
                shared_limits=self._limits,
                config=work.config,
            )
            result = await run_shard(whole, request, work.shard, self._shutdown)
        except ClassifyBatchError as error:
            ending = ShardEnding(work.shard, error.exit_status, str(error), error.hint, called=False)
            return ShardReport(ending, isinstance(error, LockedError), self._stood_still)
        ending = ShardEnding(work.shard, result.exit_status, result.reason, result.hint, result.called)
        return ShardReport(ending, stood_still=self._stood_still and not ending.complete)

    @property
    def _stood_still(self) -> bool:
        return self._shutdown.stop is not None and self._shutdown.stop.lease_lost

    async def stop(self, stop: Stop) -> None:
        """Asks it to stop, as a signal would, also before it has begun."""
        self._shutdown.request_stop(stop)

    async def fetch_news(self) -> ShardNews:
        """What happened since the last call."""
        events, self._events = self._events, deque()
        dropped, self._dropped = self._dropped, 0
        return ShardNews(self._progress, list(events), dropped)

    def _take_progress(self, progress: Progress) -> None:
        self._progress = progress

    async def observe(self, event: Event) -> None:
        """Keeps an event until it is fetched."""
        if len(self._events) < EVENTS_KEPT:
            self._events.append(event)
        else:
            self._dropped += 1


_SAME_FILES = "the run directory must be on a file system that every worker sees under the same path"


class BudgetActor:
    """`RateBudget` in a process of its own. When that process is lost and begun again, it knows nothing: the shards say
    what was discovered by their next answers."""

    def __init__(self, requests_per_s: float, requests_in_flight: int, creates_per_s: float | None) -> None:
        self._given = requests_per_s, requests_in_flight, creates_per_s
        self._budget: RateBudget | None = None
        self._serving: asyncio.Task[None] | None = None

    async def take_turn(self, holder: str, turn_id: int, priority: Priority) -> Turn | None:
        """See `Budget`."""
        return await self._open_budget().take_turn(holder, turn_id, priority)

    async def report(self, holder: str, reports: Sequence[Report]) -> BudgetState:
        """See `Budget`."""
        return await self._open_budget().report(holder, reports)

    def _open_budget(self) -> RateBudget:
        if self._budget is None:
            requests_per_s, requests_in_flight, creates_per_s = self._given
            self._budget = RateBudget(
                requests_per_s=requests_per_s, requests_in_flight=requests_in_flight, creates_per_s=creates_per_s
            )
            self._serving = asyncio.get_running_loop().create_task(self._budget.serve_until_cancelled())
        return self._budget
