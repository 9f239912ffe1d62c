"""What the live view shows: a running run as a few lines of text, for any width and height. Nothing is drawn here.

A line is a label and phrases. Phrases that don't fit go on in the next line, so that no number is ever cut off; only
the texts of errors are. Where the terminal is too low for all lines, those that matter least are left out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from classify_batch.cli.rendering.rate_causes import format_causes_of_429s
from classify_batch.cli.rendering.throughput import Throughput, format_span
from classify_batch.events import CreateAmbiguous, Event, FilesCommitted, FilesFailed, JobFinished, LimitsChanged
from classify_batch.protocol.sanitize import printable_line
from classify_batch.rundir.disk_space import format_bytes
from classify_batch.vocabulary import OutcomeKind

if TYPE_CHECKING:
    from rich.text import Text

    from classify_batch.engine.progress import Progress
    from classify_batch.model import Uploads

SLOTS_SHOWN_MAX = 100_000
"""The highest value of `limits.jobs_in_flight`: more slots than that mean that there is no limit."""

ERRORS_KEPT_MAX = 100
"""So many different texts of errors are counted; of more, those seen last."""
ERRORS_SHOWN_MAX = 4
BAR_COLUMNS_MAX = 40
LABEL_COLUMNS = 9
ELLIPSIS = "…"

RED, YELLOW, GREEN = "red", "yellow", "green"

Phrase = tuple[str, str]
"""Words, and their style; an empty style is the terminal's own."""


@dataclass(frozen=True, slots=True)
class Row:
    """A label and its phrases. `cut`: the phrases are texts from outside, each on one line, cut to the width.

    `importance`: rows of low importance are left out first.
    """

    label: str
    phrases: Sequence[Phrase]
    importance: int
    cut: bool = False


@dataclass(slots=True)
class SeenJobs:
    """What the events of this process said of jobs. `collecting`: jobs that have ended, and are not committed yet."""

    collecting: set[tuple[int, int]] = field(default_factory=set)
    ended_badly: int = 0


class RunView:
    """Takes in what a run reports, in its event loop, and gives the lines to whoever draws them.

    It is an observer of the run; `update` is its `on_progress`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._throughput = Throughput()
        self._began_s = time.monotonic()
        self._progress: Progress | None = None
        self._seen = SeenJobs()
        self._errors: dict[str, int] = {}
        self._limits_changed: str | None = None
        self._ambiguous_reason = ""

    def update(self, progress: Progress) -> None:
        with self._lock:
            self._throughput.record_done(time.monotonic(), sum(progress.outcomes.values()))
            self._progress = progress

    async def observe(self, event: Event) -> None:
        """Takes an event in; from the run's own event loop."""
        self.record_event(event)

    def record_event(self, event: Event) -> None:
        with self._lock:
            match event:
                case JobFinished():
                    self._seen.collecting.add((event.chunk, event.attempt))
                    self._seen.ended_badly += event.status in ("ERROR", "FAILED", "CANCELLED")
                case FilesCommitted():
                    self._seen.collecting.discard((event.chunk, event.attempt))
                case FilesFailed():
                    self._count_error(f"{event.code}: {event.message}", event.files)
                case CreateAmbiguous():
                    self._ambiguous_reason = event.reason
                case LimitsChanged():
                    changes = ", ".join(f"{name} = {value}" for name, value in event.limits.items())
                    self._limits_changed = f"{changes} (by `tune` at {time.strftime('%H:%M:%S')})"
                case _:
                    pass

    def _count_error(self, message: str, count: int) -> None:
        self._errors[message] = self._errors.pop(message, 0) + count  # the last one seen stands last
        if len(self._errors) > ERRORS_KEPT_MAX:
            del self._errors[next(iter(self._errors))]

    def lines(self, width: int, height: int, ascii_only: bool = False) -> list[Text]:
        """The lines to draw, none wider than `width`, at most `height`; none before the run began."""
        with self._lock:
            if self._progress is None:
                return []
            rows = list(self._make_rows(self._progress))
            bar = make_progress_bar(self._progress, width, ascii_only=ascii_only)
        return [bar, *lay_out_rows(rows, width, height - 1, ascii_only=ascii_only)][:height]

    # --- Rows, each from what is known now ------------------------------------------------------------------------

    def _make_rows(self, progress: Progress) -> Iterator[Row]:
        yield Row("files", outcome_phrases(progress), 9)
        done = sum(progress.outcomes.values())
        yield Row(
            "speed",
            [
                (f"{self._throughput.format_time_left(progress.files - done, progress.jobs_left_s)} left", ""),
                (f"{self._throughput.files_per_s:,.0f} files/s", ""),
                (f"{format_span(time.monotonic() - self._began_s)} so far", ""),
            ],
            7,
        )
        if progress.uploads is not None:
            yield Row("uploads", [(words, "") for words in upload_phrases(progress.uploads)], 5)
        yield Row("jobs", list(self._job_phrases(progress)), 6)
        if credits := credit_phrases(progress):
            yield Row("credits", credits, 3)
        if waits := self._wait_phrases(progress):
            yield Row("waits", waits, 8)
        if causes := format_causes_of_429s(progress.limited_per_s, progress.noise_share):
            yield Row("API", [(cause, YELLOW) for cause in causes], 4)
        if self._limits_changed is not None:
            yield Row("limits", [(printable_line(self._limits_changed), "")], 2, cut=True)
        for at, (message, count) in enumerate(list(reversed(self._errors.items()))[:ERRORS_SHOWN_MAX]):
            yield Row(
                "" if at else "errors", [(f"{count:,} × {printable_line(message)}", RED)], 5 if at == 0 else 1, cut=True
            )

    def _job_phrases(self, progress: Progress) -> Iterator[Phrase]:
        slots = f" of {progress.slots:,}" if progress.slots <= SLOTS_SHOWN_MAX else ""
        yield f"{progress.in_flight:,}{slots} in flight", ""
        if progress.ambiguous:
            yield f"{progress.ambiguous:,} ambiguous {'create' if progress.ambiguous == 1 else 'creates'}", YELLOW
        if self._seen.collecting:
            yield f"{len(self._seen.collecting):,} being collected", ""
        if self._seen.ended_badly:
            yield f"{self._seen.ended_badly:,} ended in error or cancelled", RED
        yield f"{progress.jobs:,} created", ""
        yield f"{progress.requests:,} requests", ""

    def _wait_phrases(self, progress: Progress) -> list[Phrase]:
        waits = [(words, YELLOW) for words in wait_reasons(progress)]
        if progress.ambiguous and self._ambiguous_reason:
            waits.append(
                (printable_line(f"looking for jobs whose create was not answered ({self._ambiguous_reason})"), YELLOW)
            )
        return waits


def outcome_phrases(progress: Progress) -> list[Phrase]:
    """Files by outcome, failures first."""
    counts = {kind: progress.outcomes.get(kind.value, 0) for kind in OutcomeKind}
    missing = progress.files - sum(progress.outcomes.values())
    return [
        (f"{counts[OutcomeKind.FAILED]:,} failed", RED if counts[OutcomeKind.FAILED] else ""),
        (f"{counts[OutcomeKind.CLASSIFIED]:,} classified", GREEN),
        (f"{counts[OutcomeKind.UNMATCHED]:,} unmatched", ""),
        (f"{missing:,} to do", ""),
    ]


def upload_phrases(uploads: Uploads) -> list[str]:
    """How many of a folder's documents the project has, and what was sent."""
    return [
        f"{uploads.brought:,} of {uploads.total:,} documents in the project",
        f"{uploads.sent:,} uploaded",
        f"{format_bytes(uploads.bytes)} sent",
    ]


def credit_phrases(progress: Progress) -> list[Phrase]:
    reserved, bound, _ = progress.credits
    if bound is not None:
        return [(f"at most {reserved:,.0f} of {bound:,.0f} used or reserved", "")]
    return [(f"at most {reserved:,.0f} used or reserved", "")] if reserved else []


def wait_reasons(progress: Progress) -> list[str]:
    """What the run waits for, and why."""
    reasons = []
    if progress.stopping:
        reasons.append(f"stopping: {printable_line(progress.stopping)}")
    if progress.paused:
        reasons.append("paused: `tune --resume` goes on")
    if progress.waiting_s >= 1:
        why = "the API is down" if progress.down else "the API's rate limit"
        reasons.append(f"waiting {progress.waiting_s:.0f} s: {why}")
    if progress.credits.waiting:
        reasons.append("waiting for credits that jobs in flight may give back")
    return reasons


def make_progress_bar(progress: Progress, width: int, *, ascii_only: bool = False) -> Text:
    """The first line: how much of all is done, in words and as a bar."""
    from rich.text import Text

    done, files = sum(progress.outcomes.values()), max(progress.files, 1)
    share = min(done / files, 1.0)
    words = f" {int(100 * share)} %  {done:,}/{progress.files:,}"
    columns = max(0, min(BAR_COLUMNS_MAX, width - len(words)))
    full = int(share * columns)
    filled, empty = ("#", ".") if ascii_only else ("━", "─")
    line = Text.assemble((filled * full, GREEN), (empty * (columns - full), "dim"), words)
    line.truncate(width)
    return line


def lay_out_rows(rows: Sequence[Row], width: int, height: int, *, ascii_only: bool = False) -> list[Text]:
    """The rows as lines. Leaves the least important rows out where there are more lines than `height`."""
    blocks = [(row, lay_out_row(row, width, ascii_only=ascii_only)) for row in rows]
    while len(blocks) > 1 and sum(len(lines) for _, lines in blocks) > height:
        least = min(range(len(blocks)), key=lambda at: (blocks[at][0].importance, -at))
        del blocks[least]
    return [line for _, lines in blocks for line in lines]


def lay_out_row(row: Row, width: int, *, ascii_only: bool = False) -> list[Text]:
    from rich.text import Text

    separator = ", " if ascii_only else " · "
    lines: list[Text] = []
    line = Text(row.label.ljust(LABEL_COLUMNS), style="")
    empty = True
    for words, style in row.phrases:
        phrase = Text(printable_in_ascii(words) if ascii_only else words, style=style)
        if not empty and line.cell_len + len(separator) + phrase.cell_len > width:
            lines.append(line)
            line, empty = Text(" " * LABEL_COLUMNS), True
        if not empty:
            line.append(separator, style="dim")
        line.append_text(phrase)
        empty = False
    lines.append(line)
    for each in lines:
        if each.cell_len > width:
            each.truncate(width, overflow="crop" if ascii_only else "ellipsis")
    return lines


def printable_in_ascii(words: str) -> str:
    return words.replace("×", "x").replace(ELLIPSIS, "...").encode("ascii", "replace").decode()
