"""The one spelling of time in our files."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import example, given
from hypothesis import strategies as st

from classify_batch.clock import to_iso


@given(st.floats(-1e10, 1e11))
@example(1.9999995)
@example(1.9999999)
@example(0.0005)
@example(1764237785.9999998)
@example(-0.25)
def test_times_are_spelled_as_datetime_spells_them(wall_s: float) -> None:
    """To the millisecond, which is cut and not rounded, also where a second is nearly over, and before 1970."""
    spelled = datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert to_iso(wall_s) == spelled
