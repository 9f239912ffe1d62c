"""What `events.jsonl` adds to a report: when the API answered 429 or nothing, limits that changed, warnings.

The log is for people and never needed: it may be missing, torn, or of another version. What isn't understood is passed
over. Its times and words are kept in bounded number.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from classify_batch.clock import from_iso
from classify_batch.ports import RunStore
from classify_batch.protocol.sanitize import clean
from classify_batch.streams.closing import closing
from classify_batch.vocabulary import EARLIER_EVENTS_JSONL, EVENTS_JSONL

EVENT_LOGS = (EARLIER_EVENTS_JSONL, EVENTS_JSONL)
"""The older one first."""

SPANS_MAX = 500
_LINE_BYTES_MAX = 1 << 16
_MESSAGES_MAX = 20


@dataclass(frozen=True, slots=True)
class Span:
    """A time of trouble. `kind`: rate_limited or outage."""

    kind: str
    from_s: float
    to_s: float


@dataclass(slots=True)
class EventTotals:
    """What the events add up to.

    Attributes:
        found: whether there is any event.
        spans: the first `SPANS_MAX`; rate_limited_s, outage_s: seconds in all of them.
        answers_429: how many there were; ambiguous: creates of which it was unknown whether they were accepted.
        warnings: messages, and how often each came.
    """

    found: bool = False
    spans: list[Span] = field(default_factory=list)
    rate_limited_s: float = 0.0
    outage_s: float = 0.0
    answers_429: int = 0
    ambiguous: int = 0
    warnings: Counter[str] = field(default_factory=Counter)

    def add(self, line: bytes) -> None:
        """Adds a line of the log, if it is an event that is known."""
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            return
        if not isinstance(event, dict):
            return
        self.found = True
        match event.get("event"):
            case "rate_limited":
                self.rate_limited_s += self._add_span("rate_limited", event)
                answers = event.get("answers")
                self.answers_429 += answers if isinstance(answers, int) else 0
            case "outage":
                self.outage_s += self._add_span("outage", event)
            case "create_ambiguous":
                self.ambiguous += 1
            case "warning":
                message = clean(str(event.get("message") or ""))
                if message in self.warnings or len(self.warnings) < _MESSAGES_MAX:
                    self.warnings[message] += 1

    def _add_span(self, kind: str, event: dict[str, Any]) -> float:
        from_s = from_iso(str(event.get("from")))
        to_s = from_iso(str(event.get("to") or event.get("at")))
        if from_s is None or to_s is None or to_s < from_s:
            return 0.0
        if len(self.spans) < SPANS_MAX:
            self.spans.append(Span(kind, from_s, to_s))
        return to_s - from_s


async def read_event_log(store: RunStore) -> EventTotals:
    """All that the event log of a run adds up to; nothing where there is none."""
    totals = EventTotals()
    for name in EVENT_LOGS:
        rest = b""
        try:
            async with closing(store.stream(name)) as blocks:
                async for block in blocks:
                    *lines, rest = (rest + block).split(b"\n")
                    for line in lines:
                        totals.add(line)
                    rest = rest if len(rest) <= _LINE_BYTES_MAX else b""
        except FileNotFoundError:
            continue
    return totals
