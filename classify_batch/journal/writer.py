"""The one who writes the journal: ports.Journal over any RunStore."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from enum import IntEnum
from itertools import groupby
from typing import Any
from zlib import crc32

import anyio

from classify_batch.journal.entry import decode, encode_about_run, encode_facts
from classify_batch.journal.replay import Standing
from classify_batch.journal.totals import TOTALS_EVERY_BYTES
from classify_batch.ports import Clock, Log, RunStore
from classify_batch.records import AttemptKey, Segment
from classify_batch.states import Adopted, Ended, Fact, Finished, Kind, Submitted, Submitting, kind_of

KNOWN_BEFORE_S = 60.0
"""Jobs that were submitted so long before an intent are told to be known, too: by a clock that is a little off, they
may look as if they were made after it. The reconciler allows clocks far less."""

NEWS_SHARE = 0.1
"""A found limit that changed by less is not written again."""

TOGETHER_S = 0.05
TOGETHER_MAX = 1000
"""Chunks whose facts may wait for each other."""

_BACK_BYTES = 1 << 16


class _Rank(IntEnum):
    """The order in which facts that waited together are written: that in which an attempt lives through them."""

    INTENDED = 0
    ACCEPTED = 1
    FINISHED = 2
    ENDED = 3


def _rank_of(fact: Fact) -> _Rank:
    match fact:
        case Submitting():
            return _Rank.INTENDED
        case Submitted() | Adopted():
            return _Rank.ACCEPTED
        case Finished():
            return _Rank.FINISHED
        case Ended():
            return _Rank.ENDED


class JournalWriter:
    """Makes facts true for this process at once, and writes them down a little later: many of a kind on one line.

    They wait for `durable()`, or for `work()`, which writes them every 50 ms. Facts of different attempts may be
    written in another order than they came; those of a chunk never are, and neither are the ends of attempts, whose
    segments follow each other.
    """

    def __init__(
        self,
        store: RunStore,
        standing: Standing,
        clock: Clock,
        requests: Callable[[], int] = lambda: 0,
        on_ended: Callable[[Ended], None] = lambda _fact: None,
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
        self._waiting: list[list[Fact]] = [[] for _ in _Rank]
        self._ranks: dict[int, _Rank] = {}
        self._totals: tuple[int, dict[str, Any]] | None = None
        self._any = anyio.Event()
        self.standing = standing

    def next_attempt(self, chunk: int) -> int:
        """Numbers are given out before they are written: two parts of a chunk may be on their way at once."""
        number = max(self.standing.next_attempt(chunk), self._numbered.get(chunk, 0) + 1)
        self._numbered[chunk] = number
        return number

    async def work(self) -> None:
        """Writes what nobody waits for, until it is cancelled."""
        while True:
            await self._any.wait()
            await anyio.sleep(TOGETHER_S)
            self.write()

    def record(self, fact: Fact) -> None:
        standing, rank, chunk = self.standing, _rank_of(fact), fact.key.chunk
        if rank < self._ranks.get(chunk, rank) or len(self._ranks) >= TOGETHER_MAX:
            self.write()
        if not self._ranks:
            self._begin()
        if isinstance(fact, Submitted | Adopted) and fact.project_id == standing.project_id:
            fact = replace(fact, project_id=None)  # it is known
        standing.apply(fact, 0)
        self._waiting[rank].append(fact)
        self._ranks[chunk] = rank
        if isinstance(fact, Ended):
            if standing.is_done(chunk):
                self._numbered.pop(chunk, None)
            self._on_ended(fact)

    def _begin(self) -> None:
        """The next lines begin here: what a line says of all before it has to be taken down now."""
        if self._bytes_since_totals >= self._totals_every_bytes:
            requests = self._requests()
            self._totals = requests, copy.deepcopy(self.standing.totals(requests))
        self._any.set()

    def write(self) -> None:
        """Writes what waits, a line for each kind."""
        if not self._ranks:
            return
        waiting, self._waiting = self._waiting, [[] for _ in _Rank]
        self._ranks.clear()
        self._any = anyio.Event()
        for facts in waiting:
            for _, of_a_kind in groupby(facts, kind_of):
                self._write_line(list(of_a_kind))

    def _write_line(self, facts: list[Fact]) -> None:
        standing, ends = self.standing, isinstance(facts[0], Ended)
        requests, totals = self._totals or (self._requests() if ends else None, None)
        found = self._newly_found() if ends else None
        standing.seq += 1
        line = encode_facts(standing.seq, self._clock.wall_s(), self._durable_seq, facts, requests, totals, found)
        self._bytes_since_totals = len(line) + (0 if totals is not None else self._bytes_since_totals)
        self._totals = None
        offset = self._store.append(Log.JOURNAL, line)
        for fact in facts:
            if isinstance(fact, Submitting) and (left := standing.open.get(fact.key)) is not None and not left.offset:
                left.offset = offset

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
        self.write()
        standing = self.standing
        standing.seq += 1
        at_s = self._clock.wall_s()
        self._store.append(Log.JOURNAL, encode_about_run(standing.seq, at_s, self._durable_seq, kind, values))
        if kind is Kind.REOPENED:
            standing.reopen(values, at_s)

    def append(self, log: Log, lines: bytes) -> Segment | None:
        if not lines:
            return None
        start = self._store.append(log, lines)
        return Segment(start, start + len(lines), crc32(lines))

    async def durable(self) -> None:
        self.write()
        seq = self.standing.seq
        await self._store.commit()
        self._durable_seq = max(self._durable_seq, seq)

    async def known_jobs(self, job_ids: Collection[str], since: Collection[AttemptKey]) -> frozenset[str]:
        known = {attempt.job_id for attempt in self.standing.open.values()}
        await self.durable()
        intents = [self.standing.open[key] for key in since if key in self.standing.open]
        start = 0
        if all(intent.part.first is None for intent in intents):  # what a first look's job answers, a second's does
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
