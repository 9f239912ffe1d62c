"""The one door through which time comes.

Wall time is for what people and the server read (`at`, `created_at`); everything that waits or measures uses
`anyio.current_time()` and `anyio.sleep()`, which trio's autojump clock turns into virtual time in the tests.
"""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from functools import lru_cache

from classify_batch.errors import WorldError

WALL_S_MAX = 253_370_764_800.0
"""The beginning of the year 9999, which is the last that can be written down: spans are added to a time, too."""


class SystemClock:
    """The machine's wall clock."""

    def wall_s(self) -> float:
        """Seconds since the Unix epoch. Raises as `machine_wall_s`."""
        return machine_wall_s()


def machine_wall_s() -> float:
    """Seconds since the Unix epoch, by the machine's wall clock.

    Raises:
        WorldError: the clock is off by so much that its time can't be written down.
    """
    now_s = time.time()
    if not 0 <= now_s < WALL_S_MAX:
        raise WorldError(
            f"the clock of this machine can't be right: it says {now_s:.0f} seconds since 1970, which is "
            f"{'before that' if now_s < 0 else 'after the year 9998'}",
            hint="set the clock (the battery that keeps it may be empty), then the same command goes on",
        )
    return now_s


def boot_s() -> float:
    """Seconds since the machine started, those in which it was suspended among them: the event loop's clock stands
    still then, and a process would take an old promise for a fresh one."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def to_iso(wall_s: float) -> str:
    """RFC 3339 in UTC with milliseconds: the one spelling of time in our files."""
    fraction, second = math.modf(wall_s)
    microseconds = round(fraction * 1e6)  # as datetime.fromtimestamp does, which then cuts
    if not 0 <= microseconds < 1_000_000:
        return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"{_second_to_iso(second)}.{microseconds // 1000:03}Z"


@lru_cache(4)
def _second_to_iso(second: float) -> str:
    """Each job writes several times, and most within the same second."""
    return datetime.fromtimestamp(second, UTC).replace(tzinfo=None).isoformat()


def from_iso(text: str) -> float | None:
    """Seconds since the epoch, or None for what is not a time. A time without offset is read as UTC."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
