"""How a run went over time, added up from its journal: pure, and bounded however long the run is.

Time is cut into equal buckets. When there would be more than `BUCKETS_MAX`, two and two become one, so that a minute
and a month take the same memory. A journal's times come from the clocks of several processes and may step back; a line
counts as no earlier than the one before it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from classify_batch.rundir.journal.entry import Entry
from classify_batch.vocabulary import Kind, RunState

BUCKETS_MAX = 240
PROCESSES_MAX = 200
"""Of how many processes the times are kept; the others are counted."""

_STEPS_A_DOUBLING = 8
"""Durations are counted by their logarithm: a percentile is right to 5 %."""

_ENDINGS = frozenset({Kind.COLLECTED, Kind.SPLIT, Kind.REJECTED})
_ACCEPTED = frozenset({Kind.SUBMITTED, Kind.ADOPTED})


@dataclass(slots=True)
class Bucket:
    """A piece of time.

    Attributes:
        files: outcomes that were committed in it.
        in_flight_max: the most jobs in flight; None: no line of the journal speaks of it.
        in_flight: jobs in flight at its end.
    """

    files: int = 0
    in_flight_max: int | None = None
    in_flight: int = 0


@dataclass(slots=True)
class Process:
    """A process that worked on the run. `stopped_s` None: it is at work, or was killed; `last_s`: its last line."""

    started_s: float
    last_s: float
    stopped_s: float | None = None
    reason: str | None = None
    exit_status: int | None = None


@dataclass(slots=True)
class Timeline:
    """What the lines of a journal add up to, read in their order.

    Attributes:
        start_s, end_s: the times of the first and the last line, seconds since the epoch.
        width_s: of a bucket.
        processes: the first `PROCESSES_MAX` that worked on the run; starts: how many there were.
        adopted: jobs that were found in the list, because their create call had no answer.
        durations: finished jobs by the logarithm of their seconds.
    """

    start_s: float | None = None
    end_s: float = 0.0
    width_s: float = 0.25
    buckets: list[Bucket] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    starts: int = 0
    adopted: int = 0
    durations: Counter[int] = field(default_factory=Counter)
    _in_flight: set[tuple[int, int]] = field(default_factory=set)

    def add(self, entry: Entry) -> None:
        """Adds a line."""
        self._move_to(entry.at_s)
        if entry.opened is not None:
            self.starts += 1
            if len(self.processes) < PROCESSES_MAX:
                self.processes.append(Process(self.end_s, self.end_s))
        elif self.processes and self.starts == len(self.processes):
            self._add_to_process(entry)
        for item in entry.items:
            self._add_item(entry.kind, (item.chunk, item.attempt), item.counts, item.duration_s)
        bucket = self.buckets[-1]
        bucket.in_flight = len(self._in_flight)
        bucket.in_flight_max = max(bucket.in_flight_max or 0, bucket.in_flight)

    def _add_to_process(self, entry: Entry) -> None:
        process = self.processes[-1]
        process.last_s = self.end_s
        if (closed := entry.closed) is not None:
            process.stopped_s, process.reason = self.end_s, closed.get("reason")
            process.exit_status = closed.get("exit_status")
            if closed.get("state") == RunState.COMPLETE:
                self._in_flight.clear()

    def _add_item(
        self, kind: Kind, key: tuple[int, int], counts: Mapping[str, int] | None, duration_s: float | None
    ) -> None:
        if kind in _ACCEPTED:
            self._in_flight.add(key)
            self.adopted += kind is Kind.ADOPTED
        elif kind is Kind.FINISHED:
            self._in_flight.discard(key)
            if duration_s is not None and 0 < duration_s < math.inf:
                self.durations[math.floor(_STEPS_A_DOUBLING * math.log2(duration_s))] += 1
        elif kind in _ENDINGS:
            self._in_flight.discard(key)
        self.buckets[-1].files += sum((counts or {}).values())

    def _move_to(self, at_s: float) -> None:
        """Makes the bucket of this moment the last one."""
        if self.start_s is None:
            self.start_s = self.end_s = at_s
        self.end_s = max(self.end_s, at_s)
        while (number := int((self.end_s - self.start_s) / self.width_s)) >= BUCKETS_MAX:
            self._double_width()
        while len(self.buckets) <= number:
            now = self.buckets[-1].in_flight if self.buckets else 0
            self.buckets.append(Bucket(0, now if self.buckets else None, now))

    def _double_width(self) -> None:
        self.width_s *= 2
        pairs = [self.buckets[at : at + 2] for at in range(0, len(self.buckets), 2)]
        self.buckets = [
            Bucket(sum(each.files for each in pair), max(each.in_flight_max or 0 for each in pair), pair[-1].in_flight)
            for pair in pairs
        ]

    def duration_s(self, share: float) -> float | None:
        """The duration that this share of the finished jobs did not exceed, to 5 %; None where no job finished."""
        left = share * self.durations.total()
        for step in sorted(self.durations):
            left -= self.durations[step]
            if left <= 0:
                return float(2 ** ((step + 0.5) / _STEPS_A_DOUBLING))
        return None

    def working_s(self) -> float:
        """For how long processes were at work, as far as their lines say."""
        return sum((each.stopped_s or each.last_s) - each.started_s for each in self.processes)
