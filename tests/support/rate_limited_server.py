"""Servers that answer 429 for reasons of their own, and a crowd that keeps the request gate busy: in virtual time.

A request takes 20 to 30 ms to arrive, where it is judged, and its answer comes 50 to 300 ms after it left. A 429 that
is injected (noise) never reaches the limit, and isn't counted as one of our own making.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import NamedTuple

import anyio

from classify_batch.limits import Priority, RequestGate
from classify_batch.limits.rate import Rate
from classify_batch.limits.request_gate import COOL_DOWN_S_MAX, COOL_DOWN_S_MIN
from classify_batch.limits.retry import Backoff

ARRIVES_S = (0.02, 0.03)
ANSWERED_S = (0.05, 0.3)


class Limit(ABC):
    """What a server allows. `share`, of the time, says how much of it others leave."""

    def __init__(self, per_s: float, share: Callable[[float], float] = lambda _now_s: 1.0) -> None:
        self.per_s = per_s
        self.share = share

    def allowed(self, from_s: float, to_s: float) -> float:
        """How many requests between two moments."""
        steps = max(1, int(to_s - from_s))
        width_s = (to_s - from_s) / steps
        return sum(self.per_s * self.share(from_s + (step + 0.5) * width_s) for step in range(steps)) * width_s

    @abstractmethod
    def admit(self, now_s: float) -> bool:
        """Whether one more may pass; one that may not takes nothing."""


class SlidingWindow(Limit):
    """So many in any window, wherever it begins."""

    def __init__(
        self, per_s: float, share: Callable[[float], float] = lambda _now_s: 1.0, window_s: float = 1.0
    ) -> None:
        super().__init__(per_s, share)
        self._window_s = window_s
        self._passed_s: deque[float] = deque()

    def admit(self, now_s: float) -> bool:
        passed_s = self._passed_s
        while passed_s and passed_s[0] <= now_s - self._window_s:
            passed_s.popleft()
        allows = len(passed_s) < self.per_s * self.share(now_s) * self._window_s - 1e-9
        if allows:
            passed_s.append(now_s)
        return allows


class FixedWindow(Limit):
    """So many in each second of the server's clock."""

    def __init__(self, per_s: float) -> None:
        super().__init__(per_s)
        self._window = self._passed = 0

    def admit(self, now_s: float) -> bool:
        if int(now_s) != self._window:
            self._window, self._passed = int(now_s), 0
        allows = self._passed < self.per_s
        self._passed += allows
        return allows


class TokenBucket(Limit):
    """Fills evenly, and holds so many seconds' worth."""

    def __init__(self, per_s: float, burst_s: float = 10.0) -> None:
        super().__init__(per_s)
        self._level = self._full = per_s * burst_s
        self._at_s = 0.0

    def admit(self, now_s: float) -> bool:
        self._level = min(self._full, self._level + (now_s - self._at_s) * self.per_s)
        self._at_s = now_s
        allows = self._level >= 1
        self._level -= allows
        return allows


class Answered(NamedTuple):
    """A request as the server saw it. `ours`: a 429 that a slower client would not have got."""

    at_s: float
    accepted: bool
    ours: bool


@dataclass
class Server:
    """Answers by chance, and by its limit; keeps a book."""

    limit: Limit | None = None
    noise: float = 0.0
    random: Random = field(default_factory=lambda: Random(1))
    book: list[Answered] = field(default_factory=list)

    def ask(self, now_s: float) -> bool:
        if self.random.random() < self.noise:
            self.book.append(Answered(now_s, accepted=False, ours=False))
            return False
        accepted = self.limit is None or self.limit.admit(now_s)
        self.book.append(Answered(now_s, accepted=accepted, ours=not accepted))
        return accepted

    def accepted(self, from_s: float, to_s: float) -> int:
        return sum(answer.accepted for answer in self.book if from_s <= answer.at_s < to_s)

    def own_share(self, from_s: float, to_s: float) -> float:
        """Of all requests, the 429s of our own making."""
        judged = [answer for answer in self.book if from_s <= answer.at_s < to_s]
        return sum(answer.ours for answer in judged) / max(1, len(judged))

    def used(self, from_s: float, to_s: float, given_per_s: float) -> float:
        """Of what limit and gate allow, the share that was accepted."""
        given = given_per_s * (to_s - from_s)
        most = given if self.limit is None else min(given, self.limit.allowed(from_s, to_s))
        return self.accepted(from_s, to_s) / most


async def keep_busy(
    gate: RequestGate,
    server: Server,
    until_s: float,
    *,
    callers: int = 60,
    priority: Priority = Priority.CREATE,
    retry_after_s: float | None = None,
    seed: int = 1,
) -> None:
    """Sends as fast as the gate lets it: whoever has its answer asks again."""
    random = Random(seed)

    async def ask() -> None:
        while anyio.current_time() < until_s:
            async with gate.turn(priority) as passage:
                sent_s = await passage.wait_and_mark_sent()
                arrives_s, answered_s = random.uniform(*ARRIVES_S), random.uniform(*ANSWERED_S)
                await anyio.sleep(arrives_s)
                accepted = server.ask(anyio.current_time())
                await anyio.sleep(answered_s - arrives_s)
            if accepted:
                gate.record_answered(priority, sent_s)
            else:
                gate.record_rate_limited(retry_after_s, sent_s, priority)

    async with anyio.create_task_group() as tasks:
        for _ in range(callers):
            tasks.start_soon(ask)


# --- The table ---------------------------------------------------------------------------------------------------


def _half_for_two_minutes(now_s: float) -> float:
    return 0.5 if 60 <= now_s < 180 else 1.0


def _nothing() -> Limit | None:
    return None


@dataclass(frozen=True, slots=True)
class Case:
    """A server, the rate that we were given for it, and what is promised.

    Attributes:
        used_min: of what is allowed, judged from `from_s` on (30 s; below 5 requests a second 150 requests).
        own_max: of all requests, 429s of our own making, judged from then on.
        reads: the limit of the requests that create nothing, where they are limited apart from creates.
    """

    name: str
    per_s: float
    limit: Callable[[], Limit | None]
    used_min: float
    own_max: float
    noise: float = 0.0
    until_s: float = 130.0
    from_s: float = 30.0
    reads: Callable[[], Limit | None] | None = None


CASES = (
    Case("no limit but ours", 40, lambda: SlidingWindow(40), 0.98, 0.0),
    Case("noise 0.5 %", 40, _nothing, 0.85, 0.0, 0.005),
    Case("noise 2 %", 40, _nothing, 0.85, 0.0, 0.02),
    Case("noise 5 %", 40, _nothing, 0.75, 0.0, 0.05),
    Case("hidden: a tenth of 200", 200, lambda: SlidingWindow(20), 0.93, 0.01),
    Case("hidden: a tenth of 40", 40, lambda: SlidingWindow(4), 0.93, 0.01, until_s=638, from_s=38),
    Case("hidden: 90 % of 40", 40, lambda: SlidingWindow(36), 0.93, 0.01),
    Case("hidden: half of 40", 40, lambda: SlidingWindow(20), 0.93, 0.01),
    Case("hidden half, noise 2 %", 40, lambda: SlidingWindow(20), 0.80, 0.03, 0.02, until_s=190),
    Case("hidden half, noise 5 %", 40, lambda: SlidingWindow(20), 0.80, 0.03, 0.05, until_s=190),
    Case("others take half, 2 min", 40, lambda: SlidingWindow(40, _half_for_two_minutes), 0.85, 0.03, until_s=210),
    Case("full again after 30 s", 40, lambda: SlidingWindow(40, _half_for_two_minutes), 0.93, 0.03, 0, 240, 210),
    Case("20 a minute", 1 / 3, lambda: SlidingWindow(1 / 3, window_s=60.0), 0.95, 0.01, until_s=1800, from_s=0),
    Case("a bucket of 10 s", 40, lambda: TokenBucket(20), 0.90, 0.02, until_s=190),
    Case("a bucket, a tenth of 200", 200, lambda: TokenBucket(20), 0.90, 0.02, until_s=190),
    Case("a fixed window", 40, lambda: FixedWindow(20), 0.90, 0.02),
    Case("creates and reads apart", 40, lambda: SlidingWindow(20), 0.90, 0.02, reads=lambda: SlidingWindow(30)),
)
READS_PER_S = 100.0


class Figures(NamedTuple):
    """What came of a case: the worse of creates and reads, where these are apart."""

    used: float
    own: float
    discovered_per_s: float | None
    noise_share: float | None = None

    def hold(self, case: Case) -> bool:
        return self.used >= case.used_min and self.own <= case.own_max


async def measure(case: Case, seed: int) -> Figures:
    """A case in virtual time, under trio's autojump clock."""
    creates = Server(case.limit(), case.noise, Random(seed))
    apart = case.reads is not None
    per_s, creates_per_s = (READS_PER_S, case.per_s) if apart else (case.per_s, None)
    servers = [(creates, Priority.CREATE, case.per_s)]
    if case.reads is not None:
        servers.append((Server(case.reads(), case.noise, Random(seed)), Priority.RESULTS, READS_PER_S))
    async with RequestGate(
        requests_in_flight=120, requests_per_s=per_s, creates_per_s=creates_per_s, random=Random(seed)
    ) as gate:
        async with anyio.create_task_group() as tasks:
            for number, (server, priority, _) in enumerate(servers):
                busy = partial(keep_busy, callers=60, priority=priority, seed=2 * seed + number)
                tasks.start_soon(busy, gate, server, case.until_s)
        discovered_per_s = gate.discovered_per_s
    return Figures(
        min(server.used(case.from_s, case.until_s, given_per_s) for server, _, given_per_s in servers),
        max(server.own_share(case.from_s, case.until_s) for server, _, _ in servers),
        discovered_per_s,
    )


def simulate(case: Case, seed: int) -> Figures:
    """A case of one rate without the gate and without tasks, a hundred times as fast: for what takes many seeds.

    Requests always wait, so they leave whenever the rate lets them; the waits while nothing is accepted are the gate's.
    """
    server, random = Server(case.limit(), case.noise, Random(seed)), Random(seed + 1000)
    rate, backoff = Rate(case.per_s), Backoff(COOL_DOWN_S_MIN, COOL_DOWN_S_MAX, Random(seed))
    happens: list[tuple[float, int, str, float, bool]] = [(0.0, 0, "send", 0.0, False)]
    cool_until_s, number = 0.0, 1
    while happens:
        now_s, _, what, sent_s, accepted = heappop(happens)
        if what == "send":
            if now_s >= case.until_s:
                continue
            due_s = max(rate.next_due_s, cool_until_s)
            if due_s <= now_s:
                rate.record_passed(now_s, waited=True)
                heappush(happens, (now_s + random.uniform(*ARRIVES_S), number, "arrive", now_s, False))
                due_s = max(rate.next_due_s, cool_until_s)
            heappush(happens, (min(due_s, now_s + 0.5), number + 1, "send", 0.0, False))
        elif what == "arrive":
            answered_s = max(now_s, sent_s + random.uniform(*ANSWERED_S))
            heappush(happens, (answered_s, number, "answer", sent_s, server.ask(now_s)))
        elif accepted:
            rate.record_accepted(sent_s, now_s)
        elif rate.record_refused(sent_s, now_s):
            cool_until_s = max(cool_until_s, now_s + backoff.wait_s(rate.silences))
            rate.silent_until(cool_until_s)
        number += 2
    span = (case.from_s, case.until_s)
    return Figures(server.used(*span, case.per_s), server.own_share(*span), rate.discovered_per_s, rate.noise_share)
