"""What is seen of a run while it is on: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from classify_batch.engine.progress import Progress

LINE_EVERY_S = 5.0

SLOTS_SHOWN_MAX = 100_000
"""More can't be set but by none at all."""
RATE_OVER_S = 30.0

NOISE_SHOWN_MIN = 0.001
"""A smaller share of 429s is nobody's business."""


class Throughput:
    """Files a second over the last half minute, and the time left at that rate."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()

    def mark(self, now_s: float, done: int) -> None:
        if self._marks and done < self._marks[-1][1]:  # failed files got a new chance
            self._marks.clear()
        self._marks.append((now_s, done))
        while now_s - self._marks[0][0] > RATE_OVER_S:
            self._marks.popleft()

    @property
    def files_per_s(self) -> float:
        (first_s, first), (last_s, last) = self._marks[0], self._marks[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0

    def left(self, missing: int, jobs_left_s: float | None) -> str:
        """`jobs_left_s`: how long the jobs in flight still take, before which nothing ends; None: nobody knows."""
        if not self.files_per_s or jobs_left_s is None:
            return "-:--:--"
        minutes, seconds = divmod(int(max(missing / self.files_per_s, jobs_left_s)), 60)
        return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


@contextmanager
def watching() -> Iterator[Callable[[Progress], None]]:
    """Gives the observer of a run."""
    if sys.stderr.isatty():
        with _bar() as observer:
            yield observer
    else:
        yield _lines()


def _lines() -> Callable[[Progress], None]:
    throughput, shown_s = Throughput(), [time.monotonic()]

    def observe(progress: Progress) -> None:
        now_s = time.monotonic()
        done = sum(progress.outcomes.values())
        throughput.mark(now_s, done)
        if now_s - shown_s[0] >= LINE_EVERY_S:
            shown_s[0] = now_s
            click.echo(f"{done:,} of {progress.files:,} files; {details(progress, throughput)}", err=True)

    return observe


@contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    throughput = Throughput()
    columns = (BarColumn(10), MofNCompleteColumn(), TextColumn("{task.fields[details]}"))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("files", total=None, details="")

        def observe(progress: Progress) -> None:
            done = sum(progress.outcomes.values())
            throughput.mark(time.monotonic(), done)
            bar.update(task, total=progress.files, completed=done, details=details(progress, throughput))

        yield observe


def details(progress: Progress, throughput: Throughput) -> str:
    """Time left, rate, what the run waits for, jobs out, outcomes: the most wanted first, as terminals are narrow."""
    outcomes = progress.outcomes
    done = sum(outcomes.values())
    parts = [
        f"{throughput.left(progress.files - done, progress.jobs_left_s)} left",
        f"{throughput.files_per_s:,.0f} files/s",
    ]
    if progress.stopping:
        parts.append("stopping")
    if progress.paused:
        parts.append("paused")
    if progress.waiting_s >= 1:
        why = "the API is down" if progress.down else "the API's rate limit"
        parts.append(f"waiting {progress.waiting_s:.0f} s: {why}")
    if progress.limited_per_s is not None:
        parts.append(f"rate limited by the API at {progress.limited_per_s:.3g}/s")
    if progress.noise_share is not None and progress.noise_share >= NOISE_SHOWN_MIN:
        parts.append(f"429s that don't depend on our rate ({100 * progress.noise_share:.2g} %)")
    parts += [
        f"{progress.in_flight}{f' of {progress.slots}' if progress.slots <= SLOTS_SHOWN_MAX else ''} jobs out",
        f"{outcomes.get('classified', 0):,} classified",
        f"{outcomes.get('unmatched', 0):,} unmatched",
        f"{outcomes.get('failed', 0):,} failed",
    ]
    if progress.in_doubt:
        parts.append(f"{progress.in_doubt} in doubt")
    return ", ".join(parts)
