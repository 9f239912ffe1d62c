"""The one who writes the journal: ports.Journal over any RunStore."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any
from zlib import crc32

from classify_batch.journal.entry import decode, encode_about_run, encode_facts
from classify_batch.journal.replay import Standing
from classify_batch.journal.totals import TOTALS_EVERY_BYTES
from classify_batch.ports import Clock, Log, RunStore
from classify_batch.records import AttemptKey, Part, Segment
from classify_batch.states import Adopted, Ended, Fact, Kind, Submitted

KNOWN_BEFORE_S = 60.0
"""Jobs that were submitted so long before an intent are told to be known, too: by a clock that is a little off, they
may look as if they were made after it. The reconciler allows clocks far less."""

NEWS_SHARE = 0.1
"""A found limit that changed by less is not written again."""

_BACK_BYTES = 1 << 16


class JournalWriter:
    """Appends facts and applies them to the run's standing in the same breath."""

    def __init__(
        self,
        store: RunStore,
        standing: Standing,
        clock: Clock,
        requests: Callable[[], int] = lambda: 0,
        on_ended: Callable[[tuple[Part, ...]], None] = lambda _again: None,
        found: Callable[[], dict[str, float]] = dict,
        totals_every_bytes: int = TOTALS_EVERY_BYTES,
    ) -> None:
        self._store = store
        self._clock = clock
        self._requests = requests
        self._on_ended = on_ended
        self._found = found
        self._numbered: dict[int, int] = {}
        self._durable_seq = standing.seq
        self._totals_every_bytes = totals_every_bytes
        self._bytes_since_totals = totals_every_bytes if standing.seq else 0  # whoever wrote before may have told none
        self.standing = standing

    def next_attempt(self, chunk: int) -> int:
        """Numbers are given out before they are written: two parts of a chunk may be on their way at once."""
        number = max(self.standing.next_attempt(chunk), self._numbered.get(chunk, 0) + 1)
        self._numbered[chunk] = number
        return number

    def record(self, fact: Fact) -> None:
        standing = self.standing
        due = self._bytes_since_totals >= self._totals_every_bytes
        requests = self._requests() if due or isinstance(fact, Ended) else None
        totals = standing.totals(requests) if due and requests is not None else None
        found = self._newly_found() if isinstance(fact, Ended) else None
        standing.seq += 1
        line = encode_facts(standing.seq, self._clock.wall_s(), self._durable_seq, (fact,), requests, totals, found)
        self._bytes_since_totals = len(line) + (0 if due else self._bytes_since_totals)
        standing.apply(fact, self._store.append(Log.JOURNAL, line))
        if isinstance(fact, Ended):
            if standing.is_done(fact.key.chunk):
                self._numbered.pop(fact.key.chunk, None)
            self._on_ended(fact.again)

    def _newly_found(self) -> dict[str, float] | None:
        """The limits that were found, where a later process should know better than by what was written last."""
        known, found = self.standing.found, self._found()
        if found.keys() == known.keys() and all(
            abs(value - known[name]) <= NEWS_SHARE * known[name] for name, value in found.items()
        ):
            return None
        self.standing.found = found
        return found

    def record_about_run(self, kind: Kind, values: Mapping[str, Any]) -> None:
        """Appends a fact about the run as a whole."""
        standing = self.standing
        standing.seq += 1
        at_s = self._clock.wall_s()
        self._store.append(Log.JOURNAL, encode_about_run(standing.seq, at_s, self._durable_seq, kind, values))
        if kind is Kind.REOPENED:
            standing.reopen(values, at_s)

    def append_outcomes(self, results: bytes, failures: bytes) -> tuple[Segment | None, Segment | None]:
        return self._append(Log.RESULTS, results), self._append(Log.FAILURES, failures)

    def _append(self, log: Log, data: bytes) -> Segment | None:
        if not data:
            return None
        start = self._store.append(log, data)
        return Segment(start, start + len(data), crc32(data))

    async def durable(self) -> None:
        seq = self.standing.seq
        await self._store.commit()
        self._durable_seq = max(self._durable_seq, seq)

    async def known_jobs(self, job_ids: Collection[str], since: Collection[AttemptKey]) -> frozenset[str]:
        known = {attempt.job_id for attempt in self.standing.open.values()}
        await self.durable()
        intents = [self.standing.open[key] for key in since if key in self.standing.open]
        start = await self._line_before(
            min((intent.offset for intent in intents), default=0),
            min((intent.since_s for intent in intents), default=0.0) - KNOWN_BEFORE_S,
        )
        rest = b""
        async for block in self._store.stream(Log.JOURNAL, start):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                if b'"job_id"' in line:
                    known |= {fact.job_id for fact in decode(line).facts if isinstance(fact, Submitted | Adopted)}
        return frozenset(job_ids) & known

    async def _line_before(self, offset: int, at_s: float) -> int:
        """Where a line begins that was written before `at_s`; the journal's beginning, if need be."""
        step = _BACK_BYTES
        while offset > step:
            offset, step = offset - step, 2 * step
            lines = (await self._store.read(Log.JOURNAL, offset, offset + _BACK_BYTES)).split(b"\n")
            if len(lines) > 2 and decode(lines[1]).at_s < at_s:
                return offset + len(lines[0]) + 1
        return 0
