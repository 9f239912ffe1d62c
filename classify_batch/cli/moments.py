"""`--deadline 06:00` and `--max-runtime 4h` as moments of the wall clock."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import click

_SPAN = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")


def parse_deadline(text: str, now: datetime) -> float:
    """Seconds since the epoch of the next time that a clock shows `06:00`, or of a date with a time.

    `now` has a time zone: times without an offset are read in it. Raises ValueError.
    """
    if "T" in text or " " in text:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo)).timestamp()
    clock = datetime.strptime(text.split("+", maxsplit=1)[0].split("-", maxsplit=1)[0].rstrip("Z"), "%H:%M").time()  # noqa: DTZ007 - a time of day
    offset = datetime.fromisoformat(f"2000-01-01T{text}").tzinfo or now.tzinfo
    moment = datetime.combine(now.astimezone(offset).date(), clock, offset)
    return (moment if moment > now else moment + timedelta(days=1)).timestamp()


def parse_span(text: str) -> float:
    """Seconds in `4h`, `1h30m`, `90m`, `45s` or `45`. Raises ValueError."""
    match = _SPAN.fullmatch(text.strip())
    if match is None or not text.strip():
        raise ValueError(f"{text!r} is no span of time")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


class Deadline(click.ParamType[float]):
    """A time of day, or a date with a time."""

    name = "TIME"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse_deadline(str(value), datetime.now().astimezone())
        except ValueError:
            self.fail(f"{value!r} is no time like 06:00, 06:00+02:00 or 2026-11-22T06:00", param, ctx)


class Span(click.ParamType[float]):
    """A span of time."""

    name = "SPAN"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse_span(str(value))
        except ValueError:
            self.fail(f"{value!r} is no span of time like 4h, 1h30m or 45s", param, ctx)
