"""`--deadline`: when a clock shows a time, also in the nights in which clocks are put forward or back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from classify_batch.cli.time_options import parse_deadline


@pytest.fixture(autouse=True)
def _new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose clocks are put forward on 2026-03-08 at 02:00, and back on 2026-11-01 at 02:00."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "EST5EDT,M3.2.0,M11.1.0")  # as POSIX spells it, so that no time zone has to be installed
        time.tzset()
        yield
    time.tzset()


def deadline(text: str, now: str) -> str:
    """The time in UTC at which a deadline ends that is given at `now`, in UTC, too."""
    found_s = parse_deadline(text, datetime.fromisoformat(now).replace(tzinfo=UTC).astimezone())
    return datetime.fromtimestamp(found_s, UTC).isoformat()[:16]


@pytest.mark.parametrize(
    ("text", "now", "wanted"),
    [
        ("06:00", "2026-06-01T09:59", "2026-06-01T10:00"),
        ("06:00", "2026-06-01T10:00", "2026-06-02T10:00"),
        ("00:00", "2026-06-02T03:59", "2026-06-02T04:00"),
        ("06:00", "2026-03-08T04:30", "2026-03-08T10:00"),  # summer time begins in between
        ("06:00", "2026-11-01T03:30", "2026-11-01T11:00"),  # or ends
        ("06:00+02:00", "2026-06-01T22:30", "2026-06-02T04:00"),
        ("01:30", "2026-11-01T05:15", "2026-11-01T05:30"),
        ("01:30", "2026-11-01T05:45", "2026-11-01T06:30"),  # they show it once more
        ("01:30", "2026-11-01T06:15", "2026-11-01T06:30"),
        ("2026-11-01T01:30", "2026-11-01T05:45", "2026-11-01T06:30"),
        ("02:30", "2026-03-08T05:30", "2026-03-08T07:30"),  # no clock shows it that night: half an hour past the change
        ("02:30", "2026-03-08T06:45", "2026-03-08T07:30"),
        ("2026-03-08 02:30", "2026-03-08T06:45", "2026-03-08T07:30"),
    ],
)
def test_a_deadline_is_the_next_time_that_a_clock_shows(text: str, now: str, wanted: str) -> None:
    """When clocks were put back it was a day late, and when they were put forward an hour early, or a day late."""
    assert deadline(text, now) == wanted


@pytest.mark.parametrize("text", ["9999-12-30T23:59", "9999-12-31T23:59-12:00", "9999-12-31T23:59:59.999999-23:59"])
def test_a_deadline_may_be_as_far_away_as_a_date_can_say(text: str) -> None:
    """Such a year with an offset ended with 70."""
    assert parse_deadline(text, datetime.now().astimezone()) > 253_402_000_000


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00", "0001-01-01T00:00+12:00", "2026-11-01T00:30", "25:00", "6:00", "06:00+25:00", ""]
)
def test_what_is_past_or_no_time_is_refused(text: str) -> None:
    """By a ValueError, of which the option makes a message."""
    with pytest.raises(ValueError, match=r".") as caught:
        deadline(text, "2026-11-01T05:45")
    assert type(caught.value) is ValueError
