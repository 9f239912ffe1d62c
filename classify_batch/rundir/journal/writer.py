"""The one who writes the journal: ports.Journal over any RunStore."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from enum import IntEnum
from itertools import groupby
from typing import cast
from zlib import crc32

import anyio

from classify_batch.file_keys import file_key
from classify_batch.lifecycle import (
    AboutRun,
    Adopted,
    Ended,
    Fact,
    Finished,
    Opened,
    Reopened,
    Retried,
    Submitted,
    Submitting,
    kind_of,
)
from classify_batch.model import AttemptKey, Segment
from classify_batch.ports import Clock, NamedFor, RunStore
from classify_batch.rundir.journal.entry import encode_about_run, encode_facts
from classify_batch.rundir.journal.named_jobs import (
    SiblingJournal,
    add_jobs_named_from,
    find_line_before,
    read_latest_jobs,
)
from classify_batch.rundir.journal.replay import RunSnapshot
from classify_batch.rundir.journal.totals import TOTALS_EVERY_BYTES, WrittenTotals
from classify_batch.vocabulary import NOISE_SHARE, Kind, Log

NEWS_SHARE = 0.1
NEWS_SHARES = {NOISE_SHARE: 0.5}
"""A found limit that changed by less is not written again; nor the share of 429s, which is known less well."""

TOGETHER_S = 0.05
TOGETHER_MAX = 1000
"""Chunks whose facts may wait for each other."""


class _Rank(IntEnum):
    """The order in which facts that waited together are written: that in which an attempt lives through them."""

    INTENDED = 0
    ACCEPTED = 1
    FINISHED = 2
    ENDED = 3


def rank_of_fact(fact: Fact) -> _Rank:
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
        snapshot: RunSnapshot,
        clock: Clock,
        requests: Callable[[], int] = lambda: 0,
        on_fact: Callable[[Fact], None] = lambda _fact: None,
        found: Callable[[], dict[str, float]] = dict,
        totals_every_bytes: int = TOTALS_EVERY_BYTES,
        siblings: Sequence[RunStore] = (),
    ) -> None:
        """`siblings`: the other shards of the run, where it is a shard."""
        self._siblings = [SiblingJournal(store) for store in siblings]
        self._store = store
        self._clock = clock
        self._requests = requests
        self._on_fact = on_fact
        self._found = found
        self._numbered: dict[int, int] = {}
        self._durable_seq = snapshot.seq
        self._totals_every_bytes = totals_every_bytes
        self._bytes_since_totals = (
            totals_every_bytes if snapshot.seq else 0
        )  # whoever wrote before may have written none
        self._waiting: list[list[Fact]] = [[] for _ in _Rank]
        self._ranks: dict[int, _Rank] = {}
        self._totals: tuple[int, WrittenTotals] | None = None
        self._any = anyio.Event()
        self.snapshot = snapshot

    def allot_attempt(self, chunk: int) -> int:
        """Numbers are given out before they are written: two parts of a chunk may be on their way at once."""
        number = max(self.snapshot.next_attempt(chunk), self._numbered.get(chunk, 0) + 1)
        self._numbered[chunk] = number
        return number

    async def write_until_cancelled(self) -> None:
        """Writes what nobody waits for, until it is cancelled."""
        while True:
            await self._any.wait()
            await anyio.sleep(TOGETHER_S)
            self.write()

    def record(self, fact: Fact) -> None:
        snapshot, rank, chunk = self.snapshot, rank_of_fact(fact), fact.key.chunk
        # A chunk's next intent may follow the end of its last attempt: lines are written by rank, so what waits goes
        # first.
        if rank < self._ranks.get(chunk, rank) or len(self._ranks) >= TOGETHER_MAX:
            self.write()
        if not self._ranks:
            self._begin_lines()
        if isinstance(fact, Submitting | Submitted | Adopted) and fact.project_id == snapshot.project_id:
            fact = replace(fact, project_id=None)  # it is known
        snapshot.apply_fact(fact, 0)  # no offset yet: `_write_line` sets it
        self._waiting[rank].append(fact)
        self._ranks[chunk] = rank
        if isinstance(fact, Ended) and snapshot.is_done(chunk):
            self._numbered.pop(chunk, None)
        self._on_fact(fact)

    def _begin_lines(self) -> None:
        """The next lines begin here: what a line says of all before it has to be taken down now."""
        if self._bytes_since_totals >= self._totals_every_bytes:
            requests = self._requests()
            # A copy: the facts that follow are counted before the line is written.
            self._totals = requests, copy.deepcopy(self.snapshot.sums_for_line(requests))
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
        snapshot, ends = self.snapshot, isinstance(facts[0], Ended)
        requests, totals = self._totals or (self._requests() if ends else None, None)
        found = self._limits_to_report() if ends else None
        snapshot.seq += 1
        line = encode_facts(
            snapshot.seq,
            self._clock.wall_s(),
            self._durable_seq,
            facts,
            requests,
            totals,
            found,
            server_s=snapshot.server_s,
            clocks_disagree=snapshot.clocks_disagree,
        )
        self._bytes_since_totals = len(line) + (0 if totals is not None else self._bytes_since_totals)
        self._totals = None
        offset = self._store.append(Log.JOURNAL, line)
        for fact in facts:
            if (
                isinstance(fact, Submitting)
                and (attempt := snapshot.open_attempts.get(fact.key)) is not None
                and not attempt.offset
            ):
                attempt.offset = offset

    def _limits_to_report(self) -> dict[str, float] | None:
        """The limits that were found, where a later process should know better than by what was written last."""
        known, found = self.snapshot.found, self._found()
        if found.keys() == known.keys() and all(
            abs(value - known[name]) <= NEWS_SHARES.get(name, NEWS_SHARE) * known[name] for name, value in found.items()
        ):
            return None
        self.snapshot.found = found
        return found

    def record_about_run(self, kind: Kind, values: AboutRun) -> None:
        """Appends a fact about the run as a whole."""
        self.write()
        snapshot = self.snapshot
        snapshot.seq += 1
        at_s = self._clock.wall_s()
        line = encode_about_run(snapshot.seq, at_s, self._durable_seq, kind, values)
        self._bytes_since_totals += len(line)
        self._store.append(Log.JOURNAL, line)
        if kind is Kind.REOPENED:
            snapshot.reopen_failed(cast(Reopened, values), at_s)
        elif kind is Kind.RETRIED:
            snapshot.take_retried(cast(Retried, values), at_s)
        else:
            if kind is Kind.OPENED:
                snapshot.begin_session(cast(Opened, values).get("account"))
            snapshot.starts.apply_line(kind, values, at_s, snapshot.outcomes.total())
            snapshot.follow_cancel(kind, values)

    def append(self, log: Log, lines: bytes) -> Segment | None:
        if not lines:
            return None
        start = self._store.append(log, lines)
        return Segment(start, start + len(lines), crc32(lines))

    @property
    def server_s(self) -> float | None:
        return None if self.snapshot.clocks_disagree else self.snapshot.server_s

    @property
    def clocks_disagree(self) -> bool:
        return self.snapshot.clocks_disagree

    def learn_listed_s(self, created_at_s: float) -> None:
        if self.snapshot.server_s is None:
            self.snapshot.server_s, self.snapshot.server_s_is_listed = created_at_s, True

    def record_clocks_disagree(self) -> None:
        self.snapshot.clocks_disagree = True

    @property
    def jobs_made(self) -> int:
        return self.snapshot.jobs

    @property
    def jobs_in_flight(self) -> int:
        return self.snapshot.jobs_in_flight

    def other_file_suspected(self, key: AttemptKey) -> bool:
        return self.snapshot.other_file_suspected(key)

    def was_cancelled(self, key: AttemptKey) -> bool:
        return (attempt := self.snapshot.open_attempts.get(key)) is not None and attempt.cancelled

    def attempt_of_job(self, job_id: str) -> AttemptKey | None:
        return self.snapshot.attempt_of_job(job_id)

    def is_in_flight(self, job_id: str) -> bool:
        return self.snapshot.is_in_flight(job_id)

    async def wait_durable(self) -> None:
        self.write()
        seq = self.snapshot.seq  # before the wait: what is written meanwhile may not be durable after it
        await self._store.commit()
        self._durable_seq = max(self._durable_seq, seq)

    # --- Which jobs the journal names -------------------------------------------------------------------------------

    async def begin_search_from(self, server_s: float | None) -> int:
        """Where a line begins before which the journal names no job that was made at `server_s` or later, by the
        server's own clock; the journal's beginning, if need be, or where None is asked for.

        A line of intents has the latest time of a job that was read before it, so that no line above it names a
        younger one; except for lines without a time. No clock of ours is asked: processes on different machines wrote
        these lines.
        """
        await self.wait_durable()
        # Other accounts' servers have other clocks, and so may other shards' accounts: no time says where to begin.
        if self.snapshot.had_accounts:
            server_s = None
        for sibling in self._siblings:
            await sibling.search_again_from(server_s)
        return 0 if self.snapshot.names_jobs_without_time else await find_line_before(self._store, server_s)

    async def named_jobs(self, job_ids: Collection[str], start: int) -> tuple[dict[str, NamedFor], int]:
        """The keys of those of `job_ids` that the journal names from byte `start` on, with what each is named for, and
        where it ended then."""
        await self.wait_durable()
        wanted, named = frozenset(map(file_key, job_ids)), dict[str, NamedFor]()
        end = await add_jobs_named_from(self._store, start, wanted, named)
        for sibling in self._siblings:
            await sibling.add_named_jobs(wanted, named)
        return named, end

    async def latest_jobs(self) -> Mapping[str, float | None]:
        """The jobs that creates were answered with last, oldest first, each with the server's own time as it was known
        then."""
        await self.wait_durable()
        return await read_latest_jobs(self._store)
