"""The one who writes the journal: ports.Journal over any RunStore."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any
from zlib import crc32

from classify_batch.journal.entry import decode, encode_about_run, encode_facts
from classify_batch.journal.replay import Standing
from classify_batch.ports import Clock, Log, RunStore
from classify_batch.records import AttemptKey, Part, Segment
from classify_batch.states import Adopted, Ended, Fact, Kind, Submitted


class JournalWriter:
    """Appends facts and applies them to the run's standing in the same breath."""

    def __init__(
        self,
        store: RunStore,
        standing: Standing,
        clock: Clock,
        requests: Callable[[], int] = lambda: 0,
        on_ended: Callable[[tuple[Part, ...]], None] = lambda _again: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._requests = requests
        self._on_ended = on_ended
        self._numbered: dict[int, int] = {}
        self._durable_seq = standing.seq
        self.standing = standing

    def next_attempt(self, chunk: int) -> int:
        """Numbers are given out before they are written: two parts of a chunk may be on their way at once."""
        number = max(self.standing.next_attempt(chunk), self._numbered.get(chunk, 0) + 1)
        self._numbered[chunk] = number
        return number

    def record(self, fact: Fact) -> None:
        standing = self.standing
        standing.seq += 1
        requests = self._requests() if isinstance(fact, Ended) else None
        line = encode_facts(standing.seq, self._clock.wall_s(), self._durable_seq, (fact,), requests)
        standing.apply(fact, self._store.append(Log.JOURNAL, line))
        if isinstance(fact, Ended):
            if standing.is_done(fact.key.chunk):
                self._numbered.pop(fact.key.chunk, None)
            self._on_ended(fact.again)

    def record_about_run(self, kind: Kind, values: Mapping[str, Any]) -> None:
        """Appends a fact about the run as a whole."""
        standing = self.standing
        standing.seq += 1
        line = encode_about_run(standing.seq, self._clock.wall_s(), self._durable_seq, kind, values)
        self._store.append(Log.JOURNAL, line)

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
        offsets = [self.standing.open[key].offset for key in since if key in self.standing.open]
        rest = b""
        async for block in self._store.stream(Log.JOURNAL, min(offsets, default=0)):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                if b'"job_id"' in line:
                    known |= {fact.job_id for fact in decode(line).facts if isinstance(fact, Submitted | Adopted)}
        return frozenset(job_ids) & known
