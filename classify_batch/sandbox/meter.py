"""What the sandbox has been asked, and how fast: shown at `/sandbox/stats`, and the rate limit."""

from __future__ import annotations

from collections import Counter, deque


class Meter:
    """Counts answers by call and status, and the most requests in any second."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.per_s_max = 0
        self._last_second: deque[float] = deque()

    def arrive(self, now_s: float) -> None:
        last = self._last_second
        last.append(now_s)
        while last[0] <= now_s - 1:
            last.popleft()
        self.per_s_max = max(self.per_s_max, len(last))

    def count(self, call: str, status: str) -> None:
        """`status` is the HTTP status, or `no answer`."""
        self.requests[call, status] += 1

    def by_call(self) -> dict[str, dict[str, int]]:
        table: dict[str, dict[str, int]] = {}
        for (call, status), count in sorted(self.requests.items()):
            table.setdefault(call, {})[status] = count
        return table


class RateLimit:
    """A bucket that holds one second's worth of requests (at least one) and fills at the rate."""

    def __init__(self, requests_per_s: float) -> None:
        self._per_s = requests_per_s
        self._room = max(1.0, requests_per_s)
        self._level = self._room
        self._at_s: float | None = None

    def admit(self, now_s: float) -> bool:
        """Whether a request may pass; one that may not takes nothing."""
        elapsed_s = 0.0 if self._at_s is None else max(0.0, now_s - self._at_s)
        self._level = min(self._room, self._level + elapsed_s * self._per_s)
        self._at_s = now_s
        if self._level < 0.999:  # so that exactly the rate passes, whatever floats make of it
            return False
        self._level -= 1
        return True
