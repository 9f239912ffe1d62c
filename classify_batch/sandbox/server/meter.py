"""Counts requests for `/sandbox/stats`, and limits their rate."""

from __future__ import annotations

from collections import Counter, deque

_FLOAT_MARGIN_S = 1e-6
"""Times since the epoch are about as coarse as this, and a client that keeps exactly the rate must pass."""


class Meter:
    """Counts answers by call and status, and the most requests in any second."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.per_s_max = 0
        self._last_second: deque[float] = deque()

    def count_arrival(self, now_s: float) -> None:
        last = self._last_second
        last.append(now_s)
        # The window is half open: a request exactly a second ago no longer counts.
        while last[0] <= now_s - 1:
            last.popleft()
        self.per_s_max = max(self.per_s_max, len(last))

    def count_response(self, call: str, status: str) -> None:
        """`status` is the HTTP status, or `no answer`."""
        self.requests[call, status] += 1

    def responses_by_call(self) -> dict[str, dict[str, int]]:
        table: dict[str, dict[str, int]] = {}
        for (call, status), count in sorted(self.requests.items()):
            table.setdefault(call, {})[status] = count
        return table


class RateLimit:
    """A bucket that holds one second's worth of requests (at least one) and fills at the rate."""

    def __init__(self, requests_per_s: float) -> None:
        self._requests_per_s = requests_per_s
        self._capacity = max(1.0, requests_per_s)
        self._level = self._capacity
        self._at_s: float | None = None

    def try_to_pass(self, now_s: float) -> bool:
        """Whether a request may pass; one that may not takes nothing."""
        elapsed_s = 0.0 if self._at_s is None else max(0.0, now_s - self._at_s)
        self._level = min(self._capacity, self._level + elapsed_s * self._requests_per_s)
        self._at_s = now_s
        if self._level < 0.999:  # so that exactly the rate passes, whatever floats make of it
            return False
        self._level -= 1
        return True


class WindowLimit:
    """Lets so many pass in any window of one second, wherever it begins: so the API documents its limit of creates."""

    def __init__(self, per_s_max: int) -> None:
        self._per_s_max = per_s_max
        self._passed_s: deque[float] = deque()

    def try_to_pass(self, now_s: float) -> bool:
        """Whether one more may pass; one that may not takes nothing."""
        passed_s = self._passed_s
        while passed_s and passed_s[0] <= now_s - 1 + _FLOAT_MARGIN_S:
            passed_s.popleft()
        if len(passed_s) >= self._per_s_max:
            return False
        passed_s.append(now_s)
        return True
