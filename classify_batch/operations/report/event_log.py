"""What `events.jsonl` adds to a report: when the API answered 429 or nothing, waits, limits that changed, warnings.

The log is for people and never needed: it may be missing, torn, or of another version. What isn't understood is passed
over. Its times and words are kept in bounded number.

A span is written when it begins, and again when it is over. One that never ended ended with its process: where that
stopped, or where the log has its last line before the next process.

A run with shards has a log for each of them. What held several shards up at the same time counts once.
"""

from __future__ import annotations

import json
from bisect import insort
from collections import Counter
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from classify_batch.clock import from_iso
from classify_batch.operations.report.spans import Span, SpanTotals
from classify_batch.ports import RunStore
from classify_batch.protocol.sanitize import printable_line
from classify_batch.streams.closing import closing
from classify_batch.vocabulary import EARLIER_EVENTS_JSONL, EVENTS_JSONL, WaitReason

EVENT_LOGS = (EARLIER_EVENTS_JSONL, EVENTS_JSONL)
"""The older one first."""

MARKS_MAX = 100
RATE_LIMITED, OUTAGE = "rate_limited", "outage"
KINDS = (RATE_LIMITED, OUTAGE, *(reason.value for reason in WaitReason))
_LINE_BYTES_MAX = 1 << 16
_MESSAGES_MAX = 20


@dataclass(frozen=True, slots=True)
class Mark:
    """A point in time at which something changed, in words."""

    at_s: float
    words: str


@dataclass(slots=True)
class EventTotals:
    """What the events add up to. `begin_log` belongs before the first line of a shard's log, `end_open_spans` after the
    last.

    Attributes:
        found: whether there is any event.
        kinds: of each kind its spans; marks: limits that were found or changed, the earliest `MARKS_MAX`.
        answers_429: how many there were; ambiguous: creates of which it was unknown whether they were accepted.
        warnings: messages, and how often each came.
    """

    found: bool = False
    kinds: dict[str, SpanTotals] = field(default_factory=lambda: {kind: SpanTotals() for kind in KINDS})
    marks: list[Mark] = field(default_factory=list)
    answers_429: int = 0
    ambiguous: int = 0
    warnings: Counter[str] = field(default_factory=Counter)
    _open: dict[str, float] = field(default_factory=dict)
    _last_s: float = 0.0
    _of_shard: str = ""

    def begin_log(self, shard: int | None) -> None:
        """What is added from now on comes from the log of this shard; None: of a run without shards."""
        self._last_s, self._of_shard = 0.0, "" if shard is None else f"shard {shard}: "

    @property
    def spans(self) -> list[Span]:
        return [span for totals in self.kinds.values() for span in totals.spans]

    def add_line(self, line: bytes) -> None:
        """Adds a line of the log, if it is an event that is known."""
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            return
        if not isinstance(event, dict):
            return
        self.found = True
        at_s = from_iso(str(event.get("at")))
        if event.get("event") == "started":
            self.end_open_spans()
        self._last_s = self._last_s if at_s is None else at_s
        self._add_event(event)

    def end_open_spans(self) -> None:
        """What hasn't ended by now ended with its process."""
        for kind, from_s in self._open.items():
            self.kinds[kind].add_span(Span(kind, from_s, max(from_s, self._last_s)))
        self._open.clear()

    def _add_event(self, event: dict[str, Any]) -> None:
        match event.get("event"):
            case "rate_limited" | "outage" as kind:
                self._add_span(kind, event)
            case "waiting" if str(event.get("reason")) in set(WaitReason):
                self._add_span(str(event["reason"]), event)
            case "limit_discovered" | "limits_changed":
                self._add_mark(event)
            case "create_ambiguous":
                self.ambiguous += 1
            case "warning":
                message = printable_line(str(event.get("message") or ""))
                if message in self.warnings or len(self.warnings) < _MESSAGES_MAX:
                    self.warnings[message] += 1
            case "stopped":
                self.end_open_spans()

    def _add_span(self, kind: str, event: dict[str, Any]) -> None:
        from_s, to_s = from_iso(str(event.get("from"))), from_iso(str(event.get("to")))
        if from_s is None:
            return
        if event.get("to") is None:
            self._open[kind] = from_s
        elif to_s is not None and to_s >= from_s:
            self._open.pop(kind, None)
            self.kinds[kind].add_span(Span(kind, from_s, to_s))
            answers = event.get("answers")
            self.answers_429 += answers if isinstance(answers, int) else 0

    def _add_mark(self, event: dict[str, Any]) -> None:
        limits, found = event.get("limits"), event.get("event") == "limit_discovered"
        changes = (
            limits
            if isinstance(limits, dict)
            else {event["name"]: event.get("value")}
            if found and "name" in event
            else {}
        )
        words = ", ".join(f"{name} = {value}" for name, value in changes.items())
        if words:
            how = "the API allows" if found else "set by tune:"
            insort(
                self.marks, Mark(self._last_s, printable_line(f"{self._of_shard}{how} {words}")), key=attrgetter("at_s")
            )
            del self.marks[MARKS_MAX:]


async def read_event_log(store: RunStore, totals: EventTotals, shard: int | None = None) -> None:
    """Adds the event log of a run, or of one shard of a run; nothing where there is none."""
    totals.begin_log(shard)
    for name in EVENT_LOGS:
        rest = b""
        try:
            async with closing(store.stream(name)) as blocks:
                async for block in blocks:
                    *lines, rest = (rest + block).split(b"\n")
                    for line in lines:
                        totals.add_line(line)
                    rest = rest if len(rest) <= _LINE_BYTES_MAX else b""
        except FileNotFoundError:
            continue
    totals.end_open_spans()
