"""`events.jsonl`: what happened in a run, a line each, for people and for the report. Nothing depends on it.

    {"at": "2026-11-22T02:04:16.123Z", "event": "limit_discovered", "name": "requests_per_s", "value": 18.0}

Single jobs don't stand there, since a big run has a million of them: what became of them is added up in `progress`
lines. A span (`outage`, `rate_limited`) is written when it begins, without its end, so that a kill doesn't hide it, and
once more when it is over: of lines with the same `event` and `from` the last counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from classify_batch.clock import to_iso

EVENTS_BYTES_MAX = 8 << 20
"""Where `events.jsonl` reaches this, it becomes `events.1.jsonl`, and a new one is begun."""


def encode_event(at_s: float, event: str, values: Mapping[str, object]) -> bytes:
    """A line. Half a surrogate pair, which a server's words may hold, becomes its JSON escape."""
    text = json.dumps({"at": to_iso(at_s), "event": event, **values}, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"
