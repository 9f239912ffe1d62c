"""Where things stand in the pictures of a report, in units of their view boxes. Pure; the template draws them.

A picture of a run has three parts that share their axis of time: files a minute, jobs in flight, and a lane for each
thing that held it up. Lanes have names, so that they can be distinguished without colours. Labels are HTML, since the
boxes are stretched to the width of the page, and text in them would be, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from classify_batch.clock import to_iso
from classify_batch.operations.report.event_log import EventTotals
from classify_batch.operations.report.spans import Span
from classify_batch.operations.report.timeline import Process, Timeline

WIDTH, HEIGHT = 720.0, 160.0
LANE_HEIGHT = 10.0
BAND_WIDTH_MIN = 1.5

TICKS_MAX = 7
_TICK_STEPS_S = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 3 * 3600, 6 * 3600, 12 * 3600)
_DAY_S = 86_400

NO_PROCESS = "stop"
LANES = {
    NO_PROCESS: "no process at work",
    "outage": "the API gave no answer",
    "rate_limited": "429s",
    "cool_down": "sending nothing, as the API asked",
    "credits": "waiting for credits that come back",
    "paused": "paused by tune",
}
"""What held a run up: how it is called, in the order of the lanes."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle. `words`: what it says when it is pointed at, or read aloud."""

    x: float
    y: float
    width: float
    height: float
    words: str


@dataclass(frozen=True, slots=True)
class Picture:
    """Bars over time. `most`: what the highest stands for; `top`: the end of the scale, a round number above it."""

    bars: list[Bar]
    most: float
    top: float


@dataclass(frozen=True, slots=True)
class Lane:
    """When one thing held the run up. `seconds`: in all."""

    kind: str
    name: str
    seconds: float
    bars: list[Bar]


@dataclass(frozen=True, slots=True)
class Tick:
    """A label at the axis of time. `left`: in percent of the width."""

    left: float
    words: str


@dataclass(frozen=True, slots=True)
class TimePictures:
    """A run over time. `lanes`: of what held it up, only those where something did."""

    rate: Picture
    jobs: Picture
    lanes: list[Lane]
    marks: list[Bar]
    ticks: list[Tick]
    first: str
    last: str


def draw_run_over_time(timeline: Timeline, events: EventTotals) -> TimePictures | None:
    """Everything over time; None of a run in which nothing has happened yet."""
    if timeline.start_s is None:
        return None
    scale = _Scale(timeline.start_s, timeline.width_s * max(1, len(timeline.buckets)))
    per_minute = 60 / timeline.width_s
    marks = [Bar(scale.x(mark.at_s), 0.0, BAND_WIDTH_MIN, HEIGHT, mark.words) for mark in events.marks]
    return TimePictures(
        _draw_bars(timeline, [bucket.files * per_minute for bucket in timeline.buckets], "files a minute"),
        _draw_bars(timeline, [bucket.in_flight_max or 0 for bucket in timeline.buckets], "jobs in flight"),
        _make_lanes(timeline, events, scale),
        marks,
        list(_make_ticks(scale)),
        _format_time(timeline.start_s),
        _format_time(timeline.end_s),
    )


def draw_bins(bins: Sequence[int], width: float = 160.0, height: float = 24.0) -> list[Bar]:
    """Files by confidence, a bar for each step from 0 to 1; the highest fills the height."""
    step, top = width / len(bins), max(1, *bins)
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


def round_up_for_axis(value: float) -> float:
    """The next 1, 2, 3, 4, 5, 6 or 8 with zeros behind: its half is as easy to read."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    return next(round(step * unit, 9) for step in (1, 2, 3, 4, 5, 6, 8, 10) if step * unit >= value * (1 - 1e-9))


@dataclass(frozen=True, slots=True)
class _Scale:
    """Seconds since the epoch on the width of a picture."""

    start_s: float
    span_s: float

    def x(self, at_s: float) -> float:
        return round(min(WIDTH, max(0.0, (at_s - self.start_s) * WIDTH / self.span_s)), 2)


def _draw_bars(timeline: Timeline, values: Sequence[float], unit: str) -> Picture:
    most = max(values, default=0.0)
    top, start_s = round_up_for_axis(most), timeline.start_s or 0.0
    step = WIDTH / max(1, len(values))
    bars = [
        Bar(
            round(number * step, 2),
            round(HEIGHT - (size := max(0.5, HEIGHT * value / top)), 2),
            round(max(0.5, step - (0.5 if step > 2 else 0)), 2),
            round(size, 2),
            f"{_format_time(start_s + number * timeline.width_s)}: {value:,.0f} {unit}",
        )
        for number, value in enumerate(values)
        if value
    ]
    return Picture(bars, most, top)


def _make_lanes(timeline: Timeline, events: EventTotals, scale: _Scale) -> list[Lane]:
    worked = timeline.spans_at_work()
    stops = [
        (Span(NO_PROCESS, before.to_s, after.from_s), before.kind)
        for before, after in pairwise(worked.spans)
        if before.to_s < after.from_s
    ]
    found = [(NO_PROCESS, worked.gaps_s(), stops)]
    found += [
        (kind, totals.seconds, [(span, LANES[kind]) for span in totals.spans]) for kind, totals in events.kinds.items()
    ]
    lanes = [Lane(kind, LANES[kind], seconds, _make_bands(spans, scale)) for kind, seconds, spans in found if spans]
    return sorted(lanes, key=lambda lane: list(LANES).index(lane.kind))


def draw_processes(timeline: Timeline, shard: int) -> list[Bar]:
    """When processes worked on a shard, on the axis of the whole run."""
    if timeline.start_s is None:
        return []
    scale = _Scale(timeline.start_s, timeline.width_s * max(1, len(timeline.buckets)))
    return _make_bands(
        [(each.as_span(), _how_it_ended(each)) for each in timeline.processes if each.shard == shard], scale
    )


def _how_it_ended(process: Process) -> str:
    if process.stopped_s is None:
        return "at work, or killed"
    return "stopped" if process.exit_status is None else f"exit status {process.exit_status}"


def _make_bands(spans: Sequence[tuple[Span, str]], scale: _Scale) -> list[Bar]:
    bars = []
    for span, words in spans:
        left, right = scale.x(span.from_s), scale.x(span.to_s)
        left = min(left, WIDTH - BAND_WIDTH_MIN)  # what came after the journal's last line stands at the end
        width = round(max(BAND_WIDTH_MIN, right - left), 2)
        said = f"{words}: {_format_time(span.from_s)} to {_format_time(span.to_s)} ({span.to_s - span.from_s:,.0f} s)"
        bars.append(Bar(left, 0.0, width, LANE_HEIGHT, said))
    return bars


def _make_ticks(scale: _Scale) -> Iterator[Tick]:
    """Round times of the day, and the date in the place of midnight."""
    days = math.ceil(scale.span_s / (TICKS_MAX * _DAY_S)) * _DAY_S
    step_s = next((step for step in _TICK_STEPS_S if scale.span_s / step <= TICKS_MAX), days)
    first = math.ceil(scale.start_s / step_s) * step_s
    count = math.ceil((scale.start_s + scale.span_s - first) / step_s)
    for at_s in (first + number * step_s for number in range(count)):
        date, time = to_iso(at_s)[5:10], to_iso(at_s)[11 : 16 if step_s >= 60 else 19]
        yield Tick(round(100 * scale.x(at_s) / WIDTH, 2), time if at_s % _DAY_S else date)


def _format_time(at_s: float) -> str:
    return to_iso(at_s)[:19].replace("T", " ") + " UTC"
