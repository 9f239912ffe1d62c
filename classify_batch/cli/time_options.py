"""`--deadline 06:00` and `--max-runtime 4h` as times of the wall clock."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import click

from classify_batch.clock import SystemClock

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")


def parse_deadline(text: str, now: datetime) -> float:
    """Seconds since the epoch of the next time that a clock shows `06:00`, or a date with a time.

    Without an offset it is this machine's local time, with the offset that it has then (summer time may begin in
    between). Raises ValueError, also for a time in the past.
    """
    if "T" in text or " " in text:
        times = [datetime.fromisoformat(text)]
    else:
        clock = datetime.fromisoformat(f"2000-01-01T{text}").timetz()
        today = now.astimezone(clock.tzinfo).date()
        times = [datetime.combine(today + timedelta(days=days), clock) for days in (0, 1)]
    now_s = now.timestamp()
    later_s = [each_s for time in times for each_s in _seconds_of(time) if each_s > now_s]
    if not later_s:
        raise ValueError(f"{text!r} is in the past")
    return min(later_s)


def _seconds_of(time: datetime) -> Iterator[float]:
    """When the clocks show a time: in the hour by which they are put back, twice. Where they are put forward, and skip
    it, the offset before counts: 02:30 becomes 03:30."""
    # Not by astimezone(), which takes a skipped time for an earlier one, and knows no year before 1 and after 9999.
    first_s, second_s = (time.replace(fold=fold).timestamp() for fold in (0, 1))
    yield first_s
    if second_s > first_s:  # it is lower where the time is skipped
        yield second_s


def parse_duration(text: str) -> float:
    """Seconds in `4h`, `1h30m`, `90m` or `45s`. Raises ValueError, also for a number without a unit."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not text.strip():
        raise ValueError(f"{text!r} is no duration")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def parse_deadline_option(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """The callback of `--deadline`. Raises WorldError where the clock can't be right."""
    if value is None:
        return None
    now = datetime.fromtimestamp(SystemClock().wall_s(), UTC).astimezone()
    try:
        return parse_deadline(value, now)
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is no time in the future like 06:00, 06:00+02:00 or 2030-11-22T06:00"
        ) from None


def parse_duration_option(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """The callback of `--max-runtime`."""
    try:
        return None if value is None else parse_duration(value)
    except ValueError:
        number = value.strip() if value else ""
        if re.fullmatch(r"\d+(?:\.\d+)?", number):
            raise click.BadParameter(f"{number}: of what? {number}h, {number}m or {number}s") from None
        raise click.BadParameter(f"{value!r} is no duration like 4h, 1h30m or 45s") from None
