"""Reading a journal back: pure, fed with bytes.

`Reader` turns blocks of bytes into entries and judges what is not an entry; `Standing` is where the run stands after
the entries so far. The process that writes the journal applies each fact to the very same `Standing`, so that a
resumed run can't differ from one that was never interrupted.

Memory: one byte per chunk, and objects only for the chunks that are out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from classify_batch.clock import from_iso
from classify_batch.errors import DamagedError, InternalError
from classify_batch.journal.entry import BadLineError, Entry, decode, read_part
from classify_batch.records import AttemptKey, OutcomeKind, Part, Segment
from classify_batch.states import (
    ENDS,
    Adopted,
    Ended,
    Fact,
    Finished,
    Kind,
    State,
    Submitted,
    Submitting,
    kind_of,
    move,
)

PLANNED, OPEN, DONE = 0, 1, 2


@dataclass(slots=True)
class OpenAttempt:
    """An attempt that was begun and has not ended.

    Attributes:
        since_s: when the intent was first written.
        offset: where in the journal that was.
        reopened: whether its job was given up in an earlier generation and is only looked at again.
    """

    part: Part
    since_s: float
    offset: int
    state: State = State.PLANNED
    job_id: str | None = None
    submitted_at_s: float | None = None
    reopened: bool = False


@dataclass(slots=True)
class _ChunkInHand:
    attempts: int = 0
    open_attempts: int = 0
    waiting: list[Part] = field(default_factory=list)


class Standing:
    """Where a run stands.

    Attributes:
        open: the attempts that have not ended.
        outcomes, types, codes: what was committed so far.
        results_end, failures_end: bytes of the outcome files that are committed.
        generation: how often the failed files got a new chance; earlier_failures: lines and bytes of the failures
            that were put aside each time.
        jobs: accepted jobs; requests: sent by processes that are gone, as far as they could write it down.
    """

    def __init__(self, chunks: int) -> None:
        self.chunk_states = bytearray(chunks)
        self.done_chunks = 0
        self.open: dict[AttemptKey, OpenAttempt] = {}
        self._in_hand: dict[int, _ChunkInHand] = {}
        self.outcomes: Counter[str] = Counter()
        self.types: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.results_end = 0
        self.failures_end = 0
        self.generation = 0
        self.earlier_failures: list[tuple[int, int]] = []
        self.jobs = 0
        self.requests = 0
        self._session_requests = 0
        self.project_id: str | None = None
        self.durations = 0
        self.durations_sum_s = 0.0
        self.seq = 0
        self.opened: dict[str, Any] | None = None
        self.closed: dict[str, Any] | None = None

    @property
    def complete(self) -> bool:
        """Whether every chunk is done."""
        return self.done_chunks == len(self.chunk_states)

    @property
    def mean_duration_s(self) -> float | None:
        """Mean of the job durations learned so far."""
        return self.durations_sum_s / self.durations if self.durations else None

    def is_planned(self, chunk: int) -> bool:
        """Whether a chunk has never gone out."""
        return self.chunk_states[chunk] == PLANNED

    def is_done(self, chunk: int) -> bool:
        """Whether every file of a chunk has its outcome."""
        return self.chunk_states[chunk] == DONE

    def waiting_parts(self) -> list[Part]:
        """Parts of begun chunks that go out again, in the order of their chunks."""
        return [part for chunk in sorted(self._in_hand) for part in self._in_hand[chunk].waiting]

    def next_attempt(self, chunk: int) -> int:
        in_hand = self._in_hand.get(chunk)
        return 1 if in_hand is None else in_hand.attempts + 1

    def read(self, entry: Entry, offset: int) -> None:
        """Applies a line of the journal."""
        self.seq = entry.seq
        if entry.requests is not None:
            self._session_requests = entry.requests
        match entry.kind:
            case Kind.OPENED:
                self.requests += self._session_requests
                self._session_requests = 0
                self.opened, self.closed = dict(entry.about_run or {}), None
            case Kind.CLOSED:
                self.closed = dict(entry.about_run or {})
                self.requests += self.closed.get("requests", self._session_requests)
                self._session_requests = 0
            case Kind.REOPENED:
                self.reopen(entry.about_run or {}, entry.at_s)
            case _:
                for fact in entry.facts:
                    self.apply(fact, offset)

    def reopen(self, values: Mapping[str, Any], at_s: float) -> None:
        """Gives the failed files a new chance: from here the failures begin at 0 again.

        `again` are parts that go out; `looks` are attempts whose old jobs are looked at first, as if their create calls
        had just been made (with a `job_id`) or were still in doubt (without).
        """
        self.generation = values["generation"]
        self.earlier_failures.append((self.outcomes[OutcomeKind.FAILED], self.failures_end))
        self.failures_end = 0
        del self.outcomes[OutcomeKind.FAILED]
        self.codes.clear()
        for item in values["again"]:
            part = read_part(item["chunk"], item)
            self._reopen_chunk(part.chunk, item["attempts"]).waiting.append(part)
        for item in values["looks"]:
            key = AttemptKey(item["chunk"], item["attempt"])
            self._reopen_chunk(key.chunk, item.get("attempts", key.attempt)).open_attempts += 1
            since_s = from_iso(item["since"])
            job_id = item.get("job_id")
            state = State.SUBMITTING if job_id is None else State.SUBMITTED
            part = read_part(key.chunk, item)
            self.open[key] = OpenAttempt(part, at_s if since_s is None else since_s, 0, state, job_id, at_s, True)

    def _reopen_chunk(self, chunk: int, attempts: int) -> _ChunkInHand:
        in_hand = self._in_hand.setdefault(chunk, _ChunkInHand())
        in_hand.attempts = max(in_hand.attempts, attempts)
        if self.chunk_states[chunk] == DONE:
            self.chunk_states[chunk] = OPEN
            self.done_chunks -= 1
        return in_hand

    def end_reading(self) -> None:
        """Counts the requests of a process that was killed."""
        self.requests += self._session_requests
        self._session_requests = 0

    def apply(self, fact: Fact, offset: int) -> None:
        """Makes a fact true. `offset`: where its line begins in the journal."""
        if isinstance(fact, Submitting) and fact.key not in self.open:
            self._begin(fact, offset)
        try:
            attempt = self.open[fact.key]
        except KeyError:
            raise InternalError(f"chunk {fact.key.chunk} has no attempt {fact.key.attempt}") from None
        attempt.state = move(attempt.state, kind_of(fact))
        match fact:
            case Submitted() | Adopted():
                self._accepted(attempt, fact)
            case Finished(duration_s=duration_s) if duration_s is not None:
                self.durations += 1
                self.durations_sum_s += duration_s
            case Ended():
                self._end(fact)
            case _:
                pass
        if attempt.state in ENDS:
            del self.open[fact.key]

    def _begin(self, fact: Submitting, offset: int) -> None:
        chunk = fact.key.chunk
        if self.chunk_states[chunk] == PLANNED:
            self.chunk_states[chunk] = OPEN
            self._in_hand[chunk] = _ChunkInHand(waiting=[Part(chunk)])
        in_hand = self._in_hand[chunk]
        in_hand.waiting.remove(fact.part)
        in_hand.attempts = max(in_hand.attempts, fact.key.attempt)
        in_hand.open_attempts += 1
        self.open[fact.key] = OpenAttempt(fact.part, fact.since_s, offset)

    def _accepted(self, attempt: OpenAttempt, fact: Submitted | Adopted) -> None:
        self.jobs += 1
        attempt.job_id, attempt.submitted_at_s = fact.job_id, fact.at_s
        attempt.reopened = False  # a new job, or one that the list showed: it is there
        self.project_id = self.project_id or fact.project_id

    def _end(self, fact: Ended) -> None:
        self.outcomes.update(fact.tally.outcomes)
        self.types.update(fact.tally.types)
        self.codes.update(fact.tally.codes)
        self.results_end = _next_end(self.results_end, fact.results)
        self.failures_end = _next_end(self.failures_end, fact.failures)
        in_hand = self._in_hand[fact.key.chunk]
        in_hand.open_attempts -= 1
        in_hand.waiting.extend(fact.again)
        if not in_hand.open_attempts and not in_hand.waiting:
            del self._in_hand[fact.key.chunk]
            self.chunk_states[fact.key.chunk] = DONE
            self.done_chunks += 1


def _next_end(end: int, segment: Segment | None) -> int:
    if segment is None:
        return end
    if segment.start != end:
        raise InternalError(f"a segment begins at byte {segment.start}, and the one before it ends at {end}")
    return segment.end


class Reader:
    """Turns a journal's bytes into entries.

    From the first bad line after the last seq known durable, the rest is a torn tail: a power loss can drop one page of
    a group and keep the next. A bad line before it is damage.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._rest = b""
        self._offset = 0
        self.seq = 0
        self.durable = 0
        self.good_end = 0
        self._bad: tuple[int, int, str] | None = None

    def feed(self, block: bytes) -> Iterator[tuple[Entry, int]]:
        """Entries, each with the byte at which its line begins."""
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            entry = self._take(line)
            if entry is not None:
                yield entry, self._offset
            self._offset += len(line) + 1
            if entry is not None:
                self.good_end = self._offset

    def _take(self, line: bytes) -> Entry | None:
        try:
            entry = decode(line)
        except BadLineError as error:
            self._note_bad(str(error))
            return None
        self.durable = max(self.durable, entry.durable)
        if self._bad is not None:
            return None
        if entry.seq != self.seq + 1:
            self._note_bad(f"seq {entry.seq} follows seq {self.seq}")
            return None
        self.seq = entry.seq
        return entry

    def _note_bad(self, why: str) -> None:
        if self._bad is None:
            self._bad = (self.seq + 1, self._offset, why)

    def finish(self, known_durable: int = 0) -> int:
        """The bytes of torn tail behind `good_end`. Raises DamagedError.

        `known_durable`: a seq that is known from elsewhere (the manifest) to have been on the disk.
        """
        if self._rest:
            self._note_bad("the line has no end")
        durable = max(self.durable, known_durable)
        if self._bad is not None and self._bad[0] <= durable:
            line, byte, why = self._bad
            raise DamagedError(f"{self.name}, line {line}, byte {byte}: {why}", hint=DAMAGED_HINT)
        if self.seq < durable:
            raise DamagedError(
                f"{self.name}, line {self.seq + 1}, byte {self.good_end}: cut off; "
                f"{durable} lines were known to be on the disk",
                hint=DAMAGED_HINT,
            )
        return self._offset + len(self._rest) - self.good_end


DAMAGED_HINT = (
    "nothing was overwritten; put the file back from a copy, or begin a new run directory with the IDs that are missing"
)
