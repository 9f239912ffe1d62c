"""What the bench server counts, and the limits that it sets."""

from __future__ import annotations

import heapq
import math
import statistics
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from bench_suite.world import JobTable


class Window:
    """At most so many requests in any window of a second, or (`fixed`) in each second of the clock; below one a second,
    in any minute. A request that is refused doesn't count."""

    def __init__(self, requests_per_s: float, *, fixed: bool = False) -> None:
        self._window_s = 1.0 if requests_per_s >= 1 else 60.0
        self._most = requests_per_s * self._window_s + 1e-9
        self._fixed = fixed
        self._passed: deque[float] = deque()

    def admit(self, now_s: float, share: float = 1.0) -> bool:
        """`share`: how much of the limit others leave."""
        passed = self._passed
        from_s = now_s // self._window_s * self._window_s if self._fixed else now_s - self._window_s + 1e-12
        while passed and passed[0] < from_s:
            passed.popleft()
        if len(passed) >= max(1, math.floor(share * self._most)):
            return False
        passed.append(now_s)
        return True


class Bucket:
    """Holds so many seconds' worth of requests (at least one), and fills at the rate."""

    def __init__(self, requests_per_s: float, burst_s: float = 1.0) -> None:
        self._per_s = requests_per_s
        self._room = self._level = max(1.0, burst_s * requests_per_s)
        self._at_s = -math.inf

    def admit(self, now_s: float, share: float = 1.0) -> bool:
        """`share`: how much of the limit others leave."""
        self._level = min(self._room, self._level + (now_s - self._at_s) * share * self._per_s)
        self._at_s = now_s
        if self._level < 0.999:  # so that exactly the rate passes, whatever floats make of it
            return False
        self._level -= 1
        return True


def make_limit(requests_per_s: float | None, rate_window: str, burst_s: float) -> Window | Bucket | None:
    """The limit that a server was set to have."""
    if requests_per_s is None:
        return None
    if rate_window == "bucket":
        return Bucket(requests_per_s, burst_s)
    return Window(requests_per_s, fixed=rate_window == "fixed")


class Meter:
    """Counts answers by call and status since the last reset, and when they were given."""

    def __init__(self) -> None:
        self.by_call: dict[str, Counter[int]] = {}
        self.accepted: Counter[int] = Counter()
        self.refused: Counter[int] = Counter()
        self.first_s: float | None = None
        self.first_create_s: float | None = None
        self.last_create_s = self.last_results_s = 0.0
        self.seconds: dict[str, Counter[int]] = {}
        self.per_s_max = 0
        self.connections = self.connections_max = 0
        self._last_second: deque[float] = deque()
        self._cpu_from_s = self._cpu_to_s = 0.0

    def arrive(self, call: str, now_s: float) -> None:
        if self.first_s is None:
            self.first_s = now_s
        if call == "create" and self.first_create_s is None:
            self.first_create_s, self._cpu_from_s = now_s, time.process_time()

    def count(self, call: str, status: int, now_s: float, cause: str = "") -> None:
        """`cause`: of a 429 of the rate, `limit` or `noise`."""
        self.by_call.setdefault(call, Counter())[status] += 1
        second = int(now_s - (self.first_s or now_s))
        what = "accepted" if status != 429 else cause or "full"
        self.seconds.setdefault(f"{'create' if call == 'create' else 'read'} {what}", Counter())[second] += 1
        if status == 429:
            self.refused[second] += 1
            return
        self.accepted[second] += 1
        last = self._last_second
        last.append(now_s)
        while last[0] <= now_s - 1:
            last.popleft()
        self.per_s_max = max(self.per_s_max, len(last))
        if status == 200 and call == "create":
            self.last_create_s = now_s

    def sent_results(self, now_s: float) -> None:
        """An answer with results has left: perhaps the last one."""
        self.last_results_s, self._cpu_to_s = now_s, time.process_time()

    def stats(self, world: JobTable, slots: int) -> dict[str, Any]:
        first_s = self.first_create_s or 0.0
        makespan_s = max(0.0, self.last_results_s - first_s)
        requests = sum(sum(by_status.values()) for by_status in self.by_call.values())
        cpu_s = max(0.0, self._cpu_to_s - self._cpu_from_s)
        seconds = range(max([*self.accepted, *self.refused, -1]) + 1)
        return {
            "jobs": len(world.durations),
            "makespan_s": makespan_s,
            "ideal_s": ideal_s(world.durations, slots),
            "mean_duration_s": statistics.fmean(world.durations or [0.0]),
            "requests": requests,
            "requests_by_call": {call: dict(by_status) for call, by_status in self.by_call.items()},
            "requests_429": sum(self.refused.values()),
            "delay": _delays(world),
            "server_cpu_s": cpu_s,
            "server_busy": cpu_s / makespan_s if makespan_s else 0.0,
            "accepted_per_s": [self.accepted[second] for second in seconds],
            "seconds": {name: [counted[second] for second in seconds] for name, counted in self.seconds.items()},
            "refused_per_s": [self.refused[second] for second in seconds],
            "last_create_s": self.last_create_s - (self.first_s or 0.0),
            "creating_s": max(0.0, self.last_create_s - first_s),
            "per_s_max": self.per_s_max,
            "files_billed_again": world.billed_again,
            "connections_max": self.connections_max,
            "first_request_s": self.first_s,
        }


def _delays(world: JobTable) -> dict[str, float]:
    """From a job's finish to the first answer that showed it: seconds, and as shares of the mean duration."""
    delays = sorted(job.shown_s - job.finished_s for job in world.jobs if job.shown_s is not None)
    if not delays:
        return {}
    figures = {"mean_s": statistics.fmean(delays)}
    figures |= {f"p{rank}_s": delays[min(len(delays) - 1, len(delays) * rank // 100)] for rank in (50, 95)}
    mean_duration_s = statistics.fmean(world.durations)
    return figures | {f"{name[:-2]}_share": value / mean_duration_s for name, value in figures.items()}


def ideal_s(durations: Sequence[float], slots: int) -> float:
    """List scheduling: each job begins as soon as one of the slots is free. No client can be faster."""
    free_at_s = [0.0] * slots
    for duration_s in durations:
        heapq.heapreplace(free_at_s, free_at_s[0] + duration_s)
    return max(free_at_s)
