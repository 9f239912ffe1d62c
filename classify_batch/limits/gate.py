"""What a run needs of a gate: one of its own, one that runs of this process share, or one that processes share."""

from __future__ import annotations

from collections import deque
from contextlib import AbstractAsyncContextManager
from enum import IntEnum
from types import TracebackType
from typing import NamedTuple, Protocol, Self

WAITS_KEPT = 4096
"""So many of the last requests tell how long requests wait for their turn."""


class Priority(IntEnum):
    """Who goes first among those that wait."""

    RESULTS = 0
    POLL = 1
    CREATE = 2


class Headroom(NamedTuple):
    """What the rate leaves.

    Attributes:
        interval_s: between two requests; where creates wait for a rate of their own, between two of these.
        backlog_s: how long the requests that wait already will take.
    """

    interval_s: float
    backlog_s: float


class Passage(Protocol):
    """A request that passed."""

    @property
    def passed_s(self) -> float:
        """When, by the event loop's clock."""

    async def wait_and_mark_sent(self) -> float:
        """Call it when the request is ready. Waits until it may be sent, and returns that time."""


class Gate(Protocol):
    """What every request passes. Open it with `async with`."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> bool | None: ...

    def turn(self, priority: Priority) -> AbstractAsyncContextManager[Passage]:
        """Waits until one more request may be in flight, and the rate lets it pass. The request is in flight until the
        block ends."""

    # --- What answers say -------------------------------------------------------------------------------------------

    def record_answered(self, priority: Priority = Priority.POLL, sent_s: float | None = None) -> None:
        """The API answered a request that left at `sent_s`, and not with a 429."""

    def record_rate_limited(
        self, retry_after_s: float | None, sent_s: float, priority: Priority = Priority.POLL
    ) -> None:
        """A 429 to a request that was sent at `sent_s`."""

    def record_failure(self) -> None:
        """No answer, or one that says that the API is in trouble."""

    def obey_retry_after(self, retry_after_s: float, *, creates_only: bool = False) -> None:
        """An answer that is no 429 of the rate carried a `Retry-After`: nobody passes until then, or no create."""

    # --- What a person or an earlier process says -------------------------------------------------------------------

    def restore(self, discovered_per_s: float | None, discovered_creates_per_s: float | None = None) -> None:
        """Begins with the rates that an earlier process discovered."""

    def set_limits(self, requests_per_s: float | None = None, creates_per_s: float | None = None) -> None:
        """Other rates are given."""

    def pause(self, paused: bool) -> None:
        """Creates wait until further notice, or no longer; everything else goes on."""

    # --- How it stands ----------------------------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """Whether creates wait until further notice."""

    @property
    def waiting_s(self) -> float:
        """Seconds for which nothing will pass."""

    @property
    def headroom(self) -> Headroom:
        """What the rate leaves to those that ask for little."""

    @property
    def discovered_per_s(self) -> float | None:
        """Requests a second that the API was shown to allow, where that is less than was given: of all requests, or of
        those that create nothing where creates have a rate of their own."""

    @property
    def discovered_creates_per_s(self) -> float | None:
        """The same of creates, where they have a rate of their own."""

    @property
    def limited_per_s(self) -> float | None:
        """The lower of these two."""

    @property
    def noise_share(self) -> float | None:
        """Of the requests, those that are answered 429 however slowly they are sent; None where there are hardly any,
        or none were seen."""

    @property
    def broken(self) -> bool:
        """Whether one request at a time is let through, since the API seems to be down."""

    @property
    def failing_s(self) -> float:
        """For how long nothing but failures came."""

    @property
    def ever_answered(self) -> bool:
        """Whether the API answered anything yet."""

    @property
    def rate_limited(self) -> int:
        """Answers that were a 429 of the rate."""

    @property
    def waits_s(self) -> deque[float]:
        """For how long each of the last requests waited for its turn."""


class GateSource(Protocol):
    """Where runs that share a rate get their gates."""

    def gate_of_one_run(self) -> Gate:
        """The gate as one run sees it. Raises UsageError where the source is not open."""
