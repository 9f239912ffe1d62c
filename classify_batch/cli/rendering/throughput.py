"""Files a second, and the time left at that rate."""

from __future__ import annotations

from collections import deque

RATE_OVER_S = 30.0


class Throughput:
    """Measures files a second over the last half minute, and estimates the time left at that rate."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()

    def record_done(self, now_s: float, done: int) -> None:
        if self._marks and done < self._marks[-1][1]:  # `retry_failed` took failed files back
            self._marks.clear()
        self._marks.append((now_s, done))
        while now_s - self._marks[0][0] > RATE_OVER_S:
            self._marks.popleft()

    @property
    def files_per_s(self) -> float:
        (first_s, first), (last_s, last) = self._marks[0], self._marks[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0

    def format_time_left(self, missing: int, jobs_left_s: float | None) -> str:
        """`jobs_left_s`: how long the jobs in flight still take; the run can't end before. None: unknown."""
        if not self.files_per_s or jobs_left_s is None:
            return "-:--:--"
        return format_span(max(missing / self.files_per_s, jobs_left_s))


def format_span(seconds: float) -> str:
    """Hours, minutes and seconds, as 1:02:03."""
    minutes, rest_s = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest_s:02}"
