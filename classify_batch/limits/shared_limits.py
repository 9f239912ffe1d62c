"""One request gate for several runs in one process.

An organisation has one rate, whatever runs share it. So the gate is one, and what a run learns of the API (429s, an
outage) all of them obey; but to pause a run pauses no other one, and how long its requests waited is counted by run.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import anyio

from classify_batch.arguments import refuse_no_number
from classify_batch.errors import UsageError
from classify_batch.limits.gate import WAITS_KEPT, Gate, Headroom, Passage, Priority
from classify_batch.limits.request_gate import RequestGate


class SharedLimits:
    """Limits that hold for all runs together which are given them.

        async with SharedLimits(requests_per_s=40) as limits:
            await asyncio.gather(
                arun(settings, "a.txt", "runs/a", shared_limits=limits),
                arun(settings, "b.txt", "runs/b", shared_limits=limits),
            )

    Enter it in the event loop in which the runs run, and leave it after their end. `limits.requests_per_s` and
    `limits.creates_per_s` of their settings, and their `requests_in_flight` beyond the one here, have no effect then;
    every other limit is the run's own.

    Args:
        requests_per_s: requests a second, of all runs together.
        requests_in_flight: requests at once, of all runs together.
        creates_per_s: a lower rate for creates; None: they have none of their own.
    """

    def __init__(
        self, *, requests_per_s: float = 20.0, requests_in_flight: int = 16, creates_per_s: float | None = None
    ) -> None:
        given = {"requests_per_s": requests_per_s, "requests_in_flight": requests_in_flight}
        for name, value in (given | ({} if creates_per_s is None else {"creates_per_s": creates_per_s})).items():
            refuse_no_number(name, value, "a number above 0")
            if not value > 0:
                raise UsageError(f"{name}={value}", hint="a number above 0")
        self._requests_per_s = requests_per_s
        self._requests_in_flight = requests_in_flight
        self._creates_per_s = creates_per_s
        self._gate: RequestGate | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        if self._gate is not None:
            raise UsageError("these limits were entered before", hint="make new ones")
        self._gate = RequestGate(
            requests_in_flight=self._requests_in_flight,
            requests_per_s=self._requests_per_s,
            creates_per_s=self._creates_per_s,
        )
        await self._gate.__aenter__()
        self._loop = _running_loop()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        gate, self._gate = self._gate, None
        if gate is not None:
            await gate.__aexit__(None, None, None)  # an error of the block passes as it is, and in no group

    def gate_of_one_run(self) -> Gate:
        """The gate as one run sees it. Raises UsageError outside of the block, and in another event loop: its turns are
        given by a task of that loop, and who waits in another one would wait for ever."""
        if self._gate is None:
            raise UsageError("the shared limits are not entered", hint="run inside of `async with limits:`")
        if _running_loop() is not self._loop:
            raise UsageError(
                "the shared limits were entered in another event loop",
                hint="`await arun(…)` in the loop that entered them; `run` has a loop of its own, also in a thread",
            )
        return GateOfOneRun(self._gate)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None  # another kind of event loop


class GateOfOneRun:
    """A gate that others pass, too. Its task and its rates are those of the shared one."""

    def __init__(self, shared: RequestGate) -> None:
        self._shared = shared
        self._paused = False
        self._resumed = anyio.Event()
        self.waits_s: deque[float] = deque(maxlen=WAITS_KEPT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    # --- Of this run alone ------------------------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        return self._paused

    def pause(self, paused: bool) -> None:
        self._paused = paused
        self._resumed.set()
        self._resumed = anyio.Event()

    @asynccontextmanager
    async def turn(self, priority: Priority) -> AsyncIterator[Passage]:
        began_s = anyio.current_time()
        while priority is Priority.CREATE and self._paused:
            await self._resumed.wait()
        async with self._shared.turn(priority) as passage:
            self.waits_s.append(passage.passed_s - began_s)
            yield passage

    # --- Of all of them ---------------------------------------------------------------------------------------------

    @property
    def ever_answered(self) -> bool:
        return self._shared.ever_answered

    @property
    def rate_limited(self) -> int:
        return self._shared.rate_limited

    @property
    def waiting_s(self) -> float:
        return self._shared.waiting_s

    @property
    def headroom(self) -> Headroom:
        return self._shared.headroom

    @property
    def discovered_per_s(self) -> float | None:
        return self._shared.discovered_per_s

    @property
    def discovered_creates_per_s(self) -> float | None:
        return self._shared.discovered_creates_per_s

    @property
    def limited_per_s(self) -> float | None:
        return self._shared.limited_per_s

    @property
    def noise_share(self) -> float | None:
        return self._shared.noise_share

    @property
    def broken(self) -> bool:
        return self._shared.broken

    @property
    def failing_s(self) -> float:
        return self._shared.failing_s

    def restore(self, discovered_per_s: float | None, discovered_creates_per_s: float | None = None) -> None:
        self._shared.restore(discovered_per_s, discovered_creates_per_s)

    def set_limits(self, requests_per_s: float | None = None, creates_per_s: float | None = None) -> None:
        self._shared.set_limits(requests_per_s, creates_per_s)

    def record_rate_limited(
        self, retry_after_s: float | None, sent_s: float, priority: Priority = Priority.POLL
    ) -> None:
        self._shared.record_rate_limited(retry_after_s, sent_s, priority)

    def obey_retry_after(self, retry_after_s: float, *, creates_only: bool = False) -> None:
        self._shared.obey_retry_after(retry_after_s, creates_only=creates_only)

    def record_answered(self, priority: Priority = Priority.POLL, sent_s: float | None = None) -> None:
        self._shared.record_answered(priority, sent_s)

    def record_failure(self) -> None:
        self._shared.record_failure()
