"""Where things stand in the pictures of a report, in units of their view boxes. Pure; the template draws them.

Drawn by the template itself, because its style sheet must be able to colour all of it: leather paints fixed colours on
a background of its own, so that a dark page shows a white box, and names nothing for a screen reader. altair and
lets-plot bring tens of megabytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from classify_batch.clock import to_iso
from classify_batch.operations.report.event_log import Span
from classify_batch.operations.report.timeline import Timeline

WIDTH, HEIGHT = 720.0, 160.0


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle. `words`: what it says when it is pointed at, or read aloud."""

    x: float
    y: float
    width: float
    height: float
    words: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """Bars over time, before bands of what happened meanwhile. `top`: what the highest bar stands for."""

    bars: list[Bar]
    bands: list[Bar]
    top: float
    left_label: str
    right_label: str


def draw_rate(timeline: Timeline, spans: Sequence[Span]) -> Picture:
    """Files a minute over time."""
    scale = 60 / timeline.width_s
    return _draw(timeline, [bucket.files * scale for bucket in timeline.buckets], spans, "files a minute")


def draw_jobs(timeline: Timeline, spans: Sequence[Span]) -> Picture:
    """Jobs in flight over time: the most in each bucket."""
    return _draw(timeline, [bucket.in_flight_max or 0 for bucket in timeline.buckets], spans, "jobs in flight")


def draw_bins(bins: Sequence[int], top: int, width: float = 160.0, height: float = 24.0) -> list[Bar]:
    """Files by confidence, a bar for each step from 0 to 1."""
    step = width / len(bins)
    return [
        Bar(
            number * step,
            height - (size := max(1.0, height * files / top)),
            step - 1,
            size,
            f"{number / len(bins):.2f} to {(number + 1) / len(bins):.2f}: {files:,} files",
        )
        for number, files in enumerate(bins)
        if files
    ]


def _draw(timeline: Timeline, values: Sequence[float], spans: Sequence[Span], unit: str) -> Picture:
    if timeline.start_s is None:
        return Picture([], [], 0.0, "", "")
    top = max(values, default=0.0)
    step = WIDTH / max(1, len(values))
    bars = [
        Bar(
            round(number * step, 2),
            round(HEIGHT - (size := max(0.5, HEIGHT * value / top)), 2),
            round(max(0.5, step - (0.5 if step > 2 else 0)), 2),
            round(size, 2),
            f"{_moment(timeline.start_s + number * timeline.width_s)}: {value:,.0f} {unit}",
        )
        for number, value in enumerate(values)
        if value
    ]
    return Picture(bars, _bands(timeline, spans, step), top, _moment(timeline.start_s), _moment(timeline.end_s))


def _bands(timeline: Timeline, spans: Sequence[Span], step: float) -> list[Bar]:
    """Times without a process, of 429s and of outages."""
    start_s = timeline.start_s or 0.0
    per_s = step / timeline.width_s
    found = []
    for process, after in zip(timeline.processes, timeline.processes[1:], strict=False):
        ended = "stopped" if process.stopped_s is not None else "killed"
        from_s = process.last_s if process.stopped_s is None else process.stopped_s
        found.append(_band("stop", ended, from_s, after.started_s, start_s, per_s))
    words = {"rate_limited": "429", "outage": "no answer"}
    found += [_band(each.kind, words[each.kind], each.from_s, each.to_s, start_s, per_s) for each in spans]
    return [band for band in found if band is not None]


def _band(kind: str, words: str, from_s: float, to_s: float, start_s: float, per_s: float) -> Bar | None:
    left = min(WIDTH, max(0.0, (from_s - start_s) * per_s))
    right = min(WIDTH, max(left, (to_s - start_s) * per_s))
    if left >= WIDTH:
        return None
    seconds = max(0.0, to_s - from_s)
    said = f"{words}: {_moment(from_s)} to {_moment(to_s)} ({seconds:,.0f} s)"
    return Bar(round(left, 2), 0.0, round(max(1.5, right - left), 2), HEIGHT, said, kind)


def _moment(at_s: float) -> str:
    return to_iso(at_s)[:19].replace("T", " ") + " UTC"
