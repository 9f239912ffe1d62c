"""How a run went over time, added up from its journals: pure, and bounded however long the run is.

A run with shards has a journal for each of them. Their lines are added in the order of their times, and everything is
that of the run as a whole: jobs in flight are those of all shards, and a process is at work while any is.

Time is cut into equal buckets. When there would be more than `BUCKETS_MAX`, two and two become one, so that a minute
and a month take the same memory. A journal's times come from the clocks of several processes and may step back; a line
counts as no earlier than the one before it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from classify_batch.lifecycle import Closed
from classify_batch.operations.report.spans import Span, SpanTotals
from classify_batch.rundir.journal.entry import Entry
from classify_batch.vocabulary import Kind, RunState

BUCKETS_MAX = 240
PROCESSES_MAX = 200
"""Of how many processes the times are kept; the others are counted."""

BETWEEN_SHARDS_S = 60.0
"""A process that carries out one shard after the other takes no longer from the one to the next."""
KILLED, STOPPED = "killed", "stopped"
"""How a process ended."""

ProcessName = tuple[str | None, int | None]
"""Host and pid."""

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
    """A process that worked on the run, or on a shard of it. `stopped_s` None: it is at work, or was killed; `last_s`:
    its last line."""

    started_s: float
    last_s: float
    stopped_s: float | None = None
    reason: str | None = None
    exit_status: int | None = None
    shard: int | None = None
    name: ProcessName = (None, None)

    def as_span(self) -> Span:
        """When it was at work."""
        if self.stopped_s is None:
            return Span(KILLED, self.started_s, self.last_s)
        return Span(STOPPED, self.started_s, self.stopped_s)


@dataclass(slots=True)
class Timeline:
    """What the lines of journals add up to, read in their order.

    Attributes:
        start_s, end_s: the times of the first and the last line, seconds since the epoch.
        width_s: of a bucket.
        processes: the first `PROCESSES_MAX` that worked on the run; starts: how many there were; stops: how many
            of them said how they ended.
        adopted: jobs that were found in the list, because their create call had no answer.
        durations: finished jobs by the logarithm of their seconds.
    """

    start_s: float | None = None
    end_s: float = 0.0
    width_s: float = 0.25
    buckets: list[Bucket] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    starts: int = 0
    stops: int = 0
    adopted: int = 0
    durations: Counter[int] = field(default_factory=Counter)
    _in_flight: dict[int | None, set[tuple[int, int]]] = field(default_factory=dict)
    _in_flight_count: int = 0
    _current: dict[int | None, Process] = field(default_factory=dict)
    _worked: SpanTotals = field(default_factory=SpanTotals)
    _went_on: dict[ProcessName, float] = field(default_factory=dict)

    def add_entry(self, entry: Entry, shard: int | None = None) -> None:
        """Adds a line of a journal: of this shard's, if the run has shards."""
        self._advance_to(entry.at_s)
        if entry.opened is not None:
            self._begin_process(shard, (entry.opened.get("host"), entry.opened.get("pid")))
        elif (process := self._current.get(shard)) is not None:
            process.last_s = self.end_s
            if entry.closed is not None:
                self._end_process(process, entry.closed)
        for item in entry.items:
            self._add_item(entry.kind, (item.chunk, item.attempt), item.counts, item.duration_s, shard)
        bucket = self.buckets[-1]
        bucket.in_flight = self._in_flight_count
        bucket.in_flight_max = max(bucket.in_flight_max or 0, bucket.in_flight)

    def _begin_process(self, shard: int | None, name: ProcessName) -> None:
        self.starts += 1
        if (before := self._current.pop(shard, None)) is not None:
            self._worked.add_span(before.as_span())
        process = self._current[shard] = Process(self.end_s, self.end_s, shard=shard, name=name)
        if len(self.processes) < PROCESSES_MAX:
            self.processes.append(process)
        ended_s = self._went_on.pop(name, None)
        if ended_s is not None and self.end_s - ended_s <= BETWEEN_SHARDS_S:
            self._worked.add_span(Span(STOPPED, ended_s, self.end_s))

    def _end_process(self, process: Process, closed: Closed) -> None:
        process.stopped_s, process.reason = self.end_s, closed.get("reason")
        process.exit_status = closed.get("exit_status")
        self._worked.add_span(process.as_span())
        self.stops += 1
        del self._current[process.shard]
        if closed.get("state") == RunState.COMPLETE:
            self._in_flight_count -= len(self._in_flight.pop(process.shard, ()))
            if process.shard is not None:
                self._went_on[process.name] = self.end_s

    def _add_item(
        self,
        kind: Kind,
        key: tuple[int, int],
        counts: Mapping[str, int] | None,
        duration_s: float | None,
        shard: int | None,
    ) -> None:
        if kind in _ACCEPTED:
            self._count_in_flight(shard, key, accepted=True)
            self.adopted += kind is Kind.ADOPTED
        elif kind is Kind.FINISHED:
            self._count_in_flight(shard, key, accepted=False)
            if duration_s is not None and 0 < duration_s < math.inf:
                self.durations[math.floor(_STEPS_A_DOUBLING * math.log2(duration_s))] += 1
        elif kind in _ENDINGS:
            self._count_in_flight(shard, key, accepted=False)
        self.buckets[-1].files += sum((counts or {}).values())

    def _count_in_flight(self, shard: int | None, key: tuple[int, int], *, accepted: bool) -> None:
        jobs = self._in_flight.setdefault(shard, set())
        if accepted != (key in jobs):
            (jobs.add if accepted else jobs.discard)(key)
            self._in_flight_count += 1 if accepted else -1

    def _advance_to(self, at_s: float) -> None:
        """Makes the bucket of this time the last one."""
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

    def spans_at_work(self) -> SpanTotals:
        """When any process was at work, as far as their lines say. The kind of each span says how it ended."""
        found = self._worked.copy_totals()
        for process in self._current.values():
            found.add_span(process.as_span())
        return found

    def working_s(self) -> float:
        """For how long any process was at work, as far as their lines say."""
        return self.spans_at_work().seconds

    def count_killed(self, running: int) -> int:
        """How many processes ended without a stop. `running`: how many are at work now."""
        return max(0, self.starts - self.stops - running)
