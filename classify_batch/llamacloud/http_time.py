"""Times in HTTP headers (RFC 9110, 5.6.7 and 10.2.3; RFC 9111, 5.1). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)
"""The RFC knows whole seconds only; servers also send decimals."""


def parse_retry_after_s(words: str, server_s: float) -> float | None:
    """Seconds from now, by `Retry-After` in seconds or as a date; None for what is neither.

    Args:
        server_s: the server's own time now, in seconds since the epoch: its date is compared with that.
    """
    words = words.strip()
    if _SECONDS.fullmatch(words):
        return float(words[:9])  # thirty years are enough, and no digits make it infinite
    moment_s = parse_http_date(words)
    return None if moment_s is None else max(0.0, moment_s - server_s)


def parse_http_date(words: str) -> float | None:
    """Seconds since the epoch, or None for what is no HTTP date. One without a zone is in UTC, as all of them are."""
    try:
        time = parsedate_to_datetime(words)
        return time.replace(tzinfo=time.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None


def has_age(headers: Mapping[str, str]) -> bool:
    """Whether a cache says that it kept the response for a while: `Age: 0` comes from one that asked the server.
    `headers`: by their names in lower case."""
    age = headers.get("age", "").strip()
    return _SECONDS.fullmatch(age) is not None and float(age[:9]) > 0
