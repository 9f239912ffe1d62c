"""A line for each thing that happens in a run: what `--verbose` prints."""

from __future__ import annotations

import time
from collections.abc import Callable

from classify_batch.cli.rendering.rate_causes import format_causes_of_429s
from classify_batch.events import (
    CreateAmbiguous,
    Event,
    FilesCommitted,
    FilesFailed,
    JobFinished,
    JobSubmitted,
    LimitDiscovered,
    RateLimited,
    Stopped,
)
from classify_batch.protocol.sanitize import printable_line


class EventLines:
    """An observer that prints each event, with the time of day; warnings are printed anyway, as warnings."""

    def __init__(self, print_line: Callable[[str], None]) -> None:
        self._print_line = print_line

    async def observe(self, event: Event) -> None:
        if (words := describe_event(event)) is not None:
            self._print_line(f"{time.strftime('%H:%M:%S')} {printable_line(words)}")


def describe_event(event: Event) -> str | None:  # noqa: PLR0911 - one return for each kind of event
    """An event in words; None: it is printed as a warning already."""
    match event:
        case JobSubmitted():
            how = "found in the job list" if event.found else "created"
            return f"chunk {event.chunk}: job {event.job_id} {how} (attempt {event.attempt})"
        case JobFinished():
            after = "" if event.duration_s is None else f" after {event.duration_s:.1f} s"
            return f"chunk {event.chunk}: its job ended with {event.status}{after}"
        case FilesCommitted():
            counts = ", ".join(f"{count:,} {outcome}" for outcome, count in event.outcomes.items())
            return f"chunk {event.chunk}: {counts or 'no outcome yet, its files are sent again'}"
        case FilesFailed():
            return f"chunk {event.chunk}: {event.files:,} × {event.code}: {event.message}"
        case CreateAmbiguous():
            return f"chunk {event.chunk}: unknown whether its create was accepted: {event.reason}"
        case LimitDiscovered():
            return f"the API allows less than was set: {event.name} = {event.value:g}"
        case RateLimited():
            return "; ".join(format_causes_of_429s(event.per_s, event.noise_share)) or "the API allows what was set"
        case Stopped():
            return f"stopping: {event.reason}"
        case _:
            return None
