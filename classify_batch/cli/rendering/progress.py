"""Shows how far a running run is: a progress bar on a terminal, a plain line every few seconds elsewhere."""

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
"""The highest value of `limits.jobs_in_flight`: more slots than that mean that there is no limit."""
RATE_OVER_S = 30.0

NOISE_SHOWN_MIN = 0.004
"""A smaller share of 429s costs nobody anything, and may come of looking for the limit."""


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
        minutes, seconds = divmod(int(max(missing / self.files_per_s, jobs_left_s)), 60)
        return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


@contextmanager
def showing_progress() -> Iterator[Callable[[Progress], None]]:
    """Yields the `on_progress` callback of a run; what it prints ends with the block."""
    if sys.stderr.isatty():
        with progress_bar() as show_progress:
            yield show_progress
    else:
        yield make_line_printer()


def make_line_printer() -> Callable[[Progress], None]:
    """A callback that prints a line every five seconds, however often it is called."""
    throughput, shown_s = Throughput(), [time.monotonic()]

    def print_line(progress: Progress) -> None:
        now_s = time.monotonic()
        done = sum(progress.outcomes.values())
        throughput.record_done(now_s, done)
        if now_s - shown_s[0] >= LINE_EVERY_S:
            shown_s[0] = now_s
            click.echo(f"{done:,} of {progress.files:,} files; {format_details(progress, throughput)}", err=True)

    return print_line


@contextmanager
def progress_bar() -> Iterator[Callable[[Progress], None]]:
    """Yields a callback that moves a progress bar, which disappears at the end of the block."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    throughput = Throughput()
    columns = (BarColumn(10), MofNCompleteColumn(), TextColumn("{task.fields[details]}"))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("files", total=None, details="")

        def update_bar(progress: Progress) -> None:
            done = sum(progress.outcomes.values())
            throughput.record_done(time.monotonic(), done)
            bar.update(task, total=progress.files, completed=done, details=format_details(progress, throughput))

        yield update_bar


def format_details(progress: Progress, throughput: Throughput) -> str:
    """Time left, rate, what the run waits for, jobs in flight, outcomes: the most wanted first, since a narrow terminal
    cuts the rest."""
    outcomes = progress.outcomes
    done = sum(outcomes.values())
    parts = [
        f"{throughput.format_time_left(progress.files - done, progress.jobs_left_s)} left",
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
        f"{progress.in_flight}{f' of {progress.slots}' if progress.slots <= SLOTS_SHOWN_MAX else ''} jobs in flight",
        f"{outcomes.get('classified', 0):,} classified",
        f"{outcomes.get('unmatched', 0):,} unmatched",
        f"{outcomes.get('failed', 0):,} failed",
    ]
    if progress.ambiguous:
        parts.append(f"{progress.ambiguous} ambiguous creates")
    return ", ".join(parts)
