"""How a run ends before it is complete.

A stop either leaves at once (what is being written is finished first), or ends the creates only, so that jobs in
flight, which are paid, are still collected. The first reason counts; a stop that leaves at once replaces one that
collects, and so does a cancel.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import anyio

from classify_batch.errors import ApiError, ClassifyBatchError, ExitStatus
from classify_batch.model import AttemptKey
from classify_batch.streams.background import background_tasks


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run stops, for people (`reason`, `hint`) and for schedulers (`status`).

    `collects`: jobs in flight are still collected. `cancels`: the run was cancelled: jobs in flight are, too, where the
    API can do that. `of_account`: it is about the key that is used, and where it leads: with another one the run can go
    on. `lease_lost`: this process stood still, and another one may carry the shard on.
    """

    reason: str
    status: ExitStatus = ExitStatus.INCOMPLETE
    hint: str = "the same command goes on"
    collects: bool = False
    cancels: bool = False
    of_account: bool = False
    lease_lost: bool = False

    @classmethod
    def from_error(cls, error: ClassifyBatchError, *, collects: bool = False) -> Stop:
        return cls(str(error), error.exit_status, error.hint, collects, of_account=isinstance(error, ApiError))


class Shutdown:
    """Asked for by signals and stages, carried out by the orchestrator.

    Attributes:
        left_open: attempts that this process doesn't go on with.
    """

    def __init__(self) -> None:
        self.stop: Stop | None = None
        self.creating_ended = anyio.Event()
        self.leave_requested = anyio.Event()
        self.left_open: set[AttemptKey] = set()
        self._left_another = anyio.Event()
        self._busy = 0
        self._idle = anyio.Event()

    @property
    def creating(self) -> bool:
        """Whether new jobs may be made."""
        return self.stop is None

    @property
    def cancelling(self) -> bool:
        """Whether the run stops since it was cancelled."""
        return self.stop is not None and self.stop.cancels

    def request_stop(self, stop: Stop) -> None:
        if self.stop is None or (self.stop.collects and (stop.cancels or not stop.collects)):
            self.stop = stop
        self.creating_ended.set()
        if not stop.collects:
            self.leave_requested.set()

    def leave_open(self, key: AttemptKey) -> None:
        """Leaves an attempt to a later process, which finds out what became of it."""
        self.left_open.add(key)
        # Who waits has the old event; the new one is for whoever waits next.
        self._left_another.set()
        self._left_another = anyio.Event()

    async def wait_for_left_open(self) -> None:
        """Returns when a further attempt was left open."""
        await self._left_another.wait()

    @contextmanager
    def call_in_flight(self) -> Iterator[None]:
        """Marks a create call that is on the wire: the run waits for it before it ends."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            if not self._busy:
                self._idle.set()
                self._idle = anyio.Event()

    async def wait_until_idle(self) -> None:
        """Returns when nobody is busy."""
        while self._busy:
            await self._idle.wait()


@asynccontextmanager
async def following(shutdown: Shutdown) -> AsyncIterator[Shutdown]:
    """A shutdown of its own for what runs inside the block, which stops whenever the other one does."""
    own = Shutdown()
    async with background_tasks() as tasks:

        async def follow(event: anyio.Event) -> None:
            await event.wait()
            if shutdown.stop is not None:
                own.request_stop(shutdown.stop)

        tasks.start_soon(follow, shutdown.creating_ended)
        tasks.start_soon(follow, shutdown.leave_requested)
        yield own
