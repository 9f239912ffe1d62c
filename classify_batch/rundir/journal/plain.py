"""The lines of attempts that go the fast path: whole chunks, as planned, sent once, accepted, finished and collected.

Nearly all lines of a big journal are like that, and on v2 a journal has four facts for each file. So they are read in
bulk: msgspec refuses a line that says anything else of one of its attempts, and what is known of the attempts stands in
few objects until they have ended, or until a line comes that isn't plain. Then they become what all others are (see
`RunSnapshot`), and the general rules go on with them. A line that can't follow what came before is never applied here:
the general rules say what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import repeat
from typing import Literal

import msgspec

from classify_batch.model import AttemptKey
from classify_batch.rundir.journal.entry import Entry, decode_entry
from classify_batch.rundir.journal.line import refuse_unsound
from classify_batch.rundir.journal.open_attempts import OpenAttempt
from classify_batch.vocabulary import State

_Segment = tuple[int, int, int]


class _Intent(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    chunk: int
    attempt: Literal[1]
    credits: float = 0
    project_id: str | None = None


class _Accepted(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    chunk: int
    attempt: Literal[1]
    job_id: str
    project_id: str | None = None


class _Finished(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    chunk: int
    attempt: Literal[1]
    status: str
    duration_s: float | None = None
    message: str | None = None


class PlainEnd(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The end of an attempt none of whose files is sent again."""

    chunk: int
    attempt: Literal[1]
    results: _Segment | None = None
    failures: _Segment | None = None
    provisional: _Segment | None = None
    counts: dict[str, int] | None = None
    types: dict[str, int] | None = None
    failure_codes: dict[str, int] | None = None
    sums: dict[str, float] | None = None


class _Line(msgspec.Struct, gc=False, tag_field="kind"):
    """What each line says beside its attempts: see `Entry`."""

    seq: int
    at: datetime
    durable: int
    requests: int | None = None
    found: dict[str, float] | None = None
    server_s: float | None = None
    clocks_disagree: bool = msgspec.field(name="times_apart", default=False)

    @property
    def at_s(self) -> float:
        at = self.at
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


class PlainIntents(_Line, gc=False, tag="submitting", kw_only=True):
    """Whole chunks that go out for the first time."""

    items: tuple[_Intent, ...]


class PlainAccepted(_Line, gc=False, tag="submitted", kw_only=True):
    """Their jobs."""

    items: tuple[_Accepted, ...]


class PlainFinished(_Line, gc=False, tag="finished", kw_only=True):
    """Their jobs' ends."""

    items: tuple[_Finished, ...]


class PlainEnds(_Line, gc=False, tag="collected", kw_only=True):
    """Their own ends."""

    items: tuple[PlainEnd, ...]


PlainLine = PlainIntents | PlainAccepted | PlainFinished | PlainEnds

_decode_plain = msgspec.json.Decoder(PlainLine).decode


def decode_plain(line: bytes) -> PlainLine | Entry:
    """Reads a line without its newline. Raises BadLineError."""
    refuse_unsound(line)
    try:
        plain = _decode_plain(line)
    except (msgspec.MsgspecError, ValueError):
        return decode_entry(line)
    return plain if plain.items else decode_entry(line)


def as_entry(line: PlainLine) -> Entry:
    """The same line, as the general rules read it."""
    return msgspec.convert(msgspec.to_builtins(line, builtin_types=(datetime,)), Entry)


@dataclass(slots=True)
class PlainAttempts:
    """The attempts on the fast path that have not ended, by their chunks. Each method takes a whole line or nothing:
    it returns False where the line doesn't follow from what it knows."""

    _intents: dict[int, tuple[_Intent, tuple[float, float | None, int]]] = field(default_factory=dict)
    _jobs: dict[int, tuple[str, float]] = field(default_factory=dict)
    _finished: set[int] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self._intents)

    def begin_attempts(self, line: PlainIntents, chunks: Sequence[int], offset: int) -> None:
        """Of chunks that never went out, each of them once."""
        known = line.at_s, line.server_s, offset
        self._intents.update(zip(chunks, zip(line.items, repeat(known)), strict=False))

    def accept_jobs(self, line: PlainAccepted) -> bool:
        jobs = {item.chunk: item.job_id for item in line.items}
        fit = (
            len(jobs) == len(line.items) and self._intents.keys() >= jobs.keys() and self._jobs.keys().isdisjoint(jobs)
        )
        if fit:
            self._jobs.update(zip(jobs, zip(jobs.values(), repeat(line.at_s)), strict=False))
        return fit

    def finish_jobs(self, line: PlainFinished) -> bool:
        chunks = {item.chunk for item in line.items}
        fit = self._jobs.keys() >= chunks
        if fit:
            self._finished |= chunks
        return fit

    def end_attempts(self, chunks: Sequence[int]) -> bool:
        """Of those that have a job."""
        fit = self._jobs.keys() >= (ended := set(chunks)) and len(ended) == len(chunks)
        if fit:
            for chunk in chunks:
                del self._intents[chunk], self._jobs[chunk]
            self._finished -= ended
        return fit

    def take_all(self) -> Iterator[OpenAttempt]:
        """All of them, in the order of their intents; none is left here."""
        intents, self._intents = self._intents, {}
        for chunk, (item, (since_s, server_s, offset)) in intents.items():
            attempt = OpenAttempt(AttemptKey(chunk, 1), None, since_s, offset, State.SUBMITTING)
            attempt.credits, attempt.server_s, attempt.project_id = item.credits, server_s, item.project_id
            if (job := self._jobs.get(chunk)) is not None:
                attempt.job_id, attempt.waits_since_s = job
                attempt.state = State.FINISHED if chunk in self._finished else State.SUBMITTED
            yield attempt
        self._jobs.clear()
        self._finished.clear()
