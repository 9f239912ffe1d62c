"""What `run`, `resume` and `cancel` show while a run is on: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TextIO

from classify_batch.cli.rendering.event_lines import EventLines
from classify_batch.cli.rendering.live_view import SLOTS_SHOWN_MAX, RunView, upload_phrases, wait_reasons
from classify_batch.cli.rendering.rate_causes import format_causes_of_429s
from classify_batch.cli.rendering.screen import Screen
from classify_batch.cli.rendering.throughput import Throughput
from classify_batch.cli.rendering.warnings import printing_warnings
from classify_batch.cli.run_outputs import RunOutputs

if TYPE_CHECKING:
    from classify_batch.engine.progress import Progress
    from classify_batch.operations.run_request import OnProgress
    from classify_batch.ports import Observer

LINE_EVERY_S = 5.0
NO_OUTPUTS = RunOutputs()


class Verbosity(NamedTuple):
    """What a command was asked to show.

    Attributes:
        progress: auto, live, lines or none.
        quiet: no progress and no warnings: errors and the summary only.
        verbose: also a line for each job that is created, ends, or is collected.
        outputs: what is written for other programs.
    """

    progress: str = "auto"
    quiet: bool = False
    verbose: bool = False
    outputs: RunOutputs = NO_OUTPUTS


class Display(NamedTuple):
    """What a run calls, so that it is shown."""

    on_progress: OnProgress | None = None
    observers: Sequence[Observer] = ()


def can_draw_view(stream: TextIO | None, environ: Mapping[str, str]) -> bool:
    """Whether a stream is a terminal on which lines can be drawn anew."""
    return stream is not None and stream.isatty() and environ.get("TERM", "").lower() not in ("", "dumb", "unknown")


def choose_progress(asked: str, stream: TextIO | None, environ: Mapping[str, str]) -> str:
    """live, lines or none. With `CI` set somebody reads the log later, even where it looks like a terminal."""
    if asked not in ("auto", "live"):
        return asked
    in_ci = environ.get("CI", "").lower() not in ("", "0", "false")
    return "live" if can_draw_view(stream, environ) and (asked == "live" or not in_ci) else "lines"


@contextmanager
def showing_run(verbosity: Verbosity) -> Iterator[Display]:
    """Shows a run and prints its warnings inside the block; yields what the run calls for it."""
    if verbosity.outputs.logs_on_stderr:  # which has the warnings, and must hold nothing else
        yield Display()
        return
    if verbosity.quiet:
        with printing_warnings(errors_only=True):
            yield Display()
        return
    how = choose_progress(verbosity.progress, sys.stderr, os.environ)
    view = RunView() if how == "live" else None
    screen = Screen(None if view is None else view.lines)
    observers: list[Observer] = [] if view is None else [view]
    if verbosity.verbose:
        observers.append(EventLines(screen.print_line))
    try:
        with printing_warnings(screen.print_line):
            if view is not None:
                with calling_on_continue(screen.start_afresh):
                    yield Display(LiveProgress(view, screen), observers)
            else:
                yield Display(ProgressLines(screen) if how == "lines" else None, observers)
    finally:
        screen.close()


@contextmanager
def calling_on_continue(callback: Callable[[], None]) -> Iterator[None]:
    """Calls it when the process goes on after it was stopped by Ctrl-Z. It is called between two instructions of the
    main thread, also of its own, so it must take no lock. Does nothing outside of the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGCONT, lambda _number, _frame: callback())
    try:
        yield
    finally:
        signal.signal(signal.SIGCONT, before)


class LiveProgress:
    """Hands the progress of a run to the live view."""

    def __init__(self, view: RunView, screen: Screen) -> None:
        self._view, self._screen = view, screen

    def __call__(self, progress: Progress) -> None:
        self._view.update(progress)
        self._screen.redraw()


class ProgressLines:
    """Prints a line every five seconds, however often it is called."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._throughput = Throughput()
        self._shown_s = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        now_s, done = time.monotonic(), sum(progress.outcomes.values())
        self._throughput.record_done(now_s, done)
        if now_s - self._shown_s >= LINE_EVERY_S:
            self._shown_s = now_s
            files = f"{done:,} of {progress.files:,} files"
            details = format_details(progress, self._throughput)
            self._screen.print_line(f"{time.strftime('%H:%M:%S')} {files}; {details}")


def format_details(progress: Progress, throughput: Throughput) -> str:
    """Time left, rate, what the run waits for, jobs in flight, outcomes, credits."""
    outcomes = progress.outcomes
    done = sum(outcomes.values())
    parts = [
        f"{throughput.format_time_left(progress.files - done, progress.jobs_left_s)} left",
        f"{throughput.files_per_s:,.0f} files/s",
    ]
    parts += wait_reasons(progress)
    parts += format_causes_of_429s(progress.limited_per_s, progress.noise_share)
    parts += [
        f"{progress.in_flight}{f' of {progress.slots}' if progress.slots <= SLOTS_SHOWN_MAX else ''} jobs in flight",
        f"{outcomes.get('classified', 0):,} classified",
        f"{outcomes.get('unmatched', 0):,} unmatched",
        f"{outcomes.get('failed', 0):,} failed",
    ]
    if progress.uploads is not None:
        parts += upload_phrases(progress.uploads)
    if progress.ambiguous:
        parts.append(f"{progress.ambiguous} ambiguous creates")
    return ", ".join(parts)
