"""What a run's snapshot holds of its chunks: objects for those that are begun and not done, a byte for the others.

A start makes and drops these for every attempt that a run has had, of which v2 has one a file: so they are structs, and
a part that is just the whole chunk is made when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import msgspec

from classify_batch.clock import from_iso
from classify_batch.lifecycle import Recheck
from classify_batch.model import AttemptKey, Part
from classify_batch.rundir.journal.chunk_bytes import bytes_of_chunks
from classify_batch.vocabulary import State


class OpenAttempt(msgspec.Struct, gc=False):
    """An attempt that was begun and has not ended.

    Attributes:
        part_sent: what it sends; None: the whole chunk, as it was planned.
        since_s: when the intent was first written.
        offset: where in the journal that was.
        waits_since_s: when its job was accepted, or its recheck was journalled; None: neither happened.
        is_recheck: whether its job was given up in an earlier generation, and is only read again.
        credits: the most that it can cost, as it was counted when it went out.
        server_s: the server's own time before the intent; None: unknown.
        project_id: the project that the key spoke for when it was intended; None: unknown.
        cancelled: whether it was open when the run was cancelled: that its job ends as cancelled says nothing of its
            files then.
        sent_ids: see model.Attempt.
        account: whose key sent it, or may have; None: the run's own, which has no name.
    """

    key: AttemptKey
    part_sent: Part | None
    since_s: float
    offset: int
    state: State = State.PLANNED
    job_id: str | None = None
    waits_since_s: float | None = None
    is_recheck: bool = False
    credits: float = 0.0
    server_s: float | None = None
    project_id: str | None = None
    cancelled: bool = False
    sent_ids: tuple[str, ...] = ()
    account: str | None = None

    @property
    def part(self) -> Part:
        """What it sends."""
        return Part(self.key.chunk) if self.part_sent is None else self.part_sent

    @classmethod
    def of_recheck(cls, key: AttemptKey, part: Part, item: Recheck, at_s: float) -> Self:
        """An attempt whose old job is read again; `at_s`: when that was journalled."""
        since_s, job_id = from_iso(item["since"]), item.get("job_id")
        return cls(
            key,
            unless_planned(part),
            at_s if since_s is None else since_s,
            0,
            State.SUBMITTING if job_id is None else State.SUBMITTED,
            job_id,
            at_s,
            is_recheck=True,
            credits=item.get("credits", 0.0),
            server_s=item.get("server_s"),
            project_id=item.get("project_id"),
            sent_ids=tuple(item.get("sent_ids", ())),
            account=item.get("account"),
        )


def unless_planned(part: Part) -> Part | None:
    """None for the whole chunk, as it was planned."""
    return None if part.is_planned else part


class ActiveChunk(msgspec.Struct, gc=False):
    """A chunk that is begun and not done. `guilty`: whether one of its files failed that had shared bad jobs."""

    attempts: int = 0
    open_count: int = 0
    waiting: list[Part] = msgspec.field(default_factory=list)
    guilty: bool = False


class AttemptCounts:
    """How many attempts each chunk had when it was last done: no number is given out twice."""

    def __init__(self, chunks: int, first_chunk: int = 0) -> None:
        self._counts = bytes_of_chunks(chunks, first_chunk)
        self._many: dict[int, int] = {}

    def count_of_chunk(self, chunk: int) -> int:
        return self._many.get(chunk, self._counts[chunk])

    def set_count(self, chunk: int, attempts: int) -> None:
        self._counts[chunk] = min(attempts, 255)  # a byte a chunk: more attempts are rare, and kept apart
        if attempts > 255:
            self._many[chunk] = attempts

    def set_to_one(self, chunks: Iterable[int]) -> None:
        """For chunks that went out for the first time."""
        for chunk in chunks:
            self._counts[chunk] = 1


@dataclass(slots=True)
class PendingRetries:
    """What of a `retry.N.jsonl` the run has not taken up yet: from byte `taken` to its `end`."""

    taken: int
    end: int
