"""What the model consists of: the journal, a process, and everything there is."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, fields
from typing import NamedTuple

from classify_batch.engine.reconciler.evidence import Evidence
from classify_batch.model import Answer, Attempt, AttemptKey, Part
from tests.explorer.canonical import copy_of, key_of
from tests.explorer.server_model import Call, Reading, Server

# --- What survives a process ------------------------------------------------------------------------------------------


class OpenAttempt(NamedTuple):
    """An attempt that was begun and has not ended; `again_s`: when its failed files got a new chance."""

    key: AttemptKey
    part: Part
    since_s: int
    server_s: int | None
    job_id: str | None = None
    again_s: int = 0


class Outcome(NamedTuple):
    """What became of a file: `answered`, or a failure's code, with the attempt that failed."""

    file_id: str
    kind: str
    attempt: OpenAttempt | None = None


class Written(NamedTuple):
    """What the journal says.

    Attributes:
        open: the attempts that have not ended.
        waiting: the parts that go out next.
        attempts: how many each chunk had.
        named: the jobs that it names, each with the chunk whose files were found in it, or None for one of our own.
        outcomes: of each file that has one.
        server_s: the server's time that the last intent tells.
    """

    open: tuple[OpenAttempt, ...]
    waiting: tuple[Part, ...]
    attempts: tuple[int, ...]
    named: frozenset[tuple[str, int | None]] = frozenset()
    outcomes: tuple[Outcome, ...] = ()
    server_s: int | None = None

    def __str__(self) -> str:
        open_ = [
            f"{each.key.chunk}.{each.key.attempt}" + f" as {each.job_id}" * bool(each.job_id) for each in self.open
        ]
        named = sorted(f"{job_id} for {'a create' if chunk is None else chunk}" for job_id, chunk in self.named)
        ended = [f"{each.file_id} {each.kind}" for each in self.outcomes]
        return f"open {open_}, waiting {len(self.waiting)}, named {named}, outcomes {ended}"


# --- A process --------------------------------------------------------------------------------------------------------


class Watched(NamedTuple):
    """A job of our own that is waited for.

    Attributes:
        due_s: when it is asked for next.
        failed: whether it was seen as failed before.
        final_s: when its results are read for the last time; None until it was seen to have ended.
    """

    attempt: Attempt
    job_id: str
    due_s: int
    failed: bool = False
    final_s: int | None = None


class Round(NamedTuple):
    """A round of the reconciler: what it does now, and to which jobs or attempts it has yet to do it."""

    stage: str
    todo: tuple[object, ...]
    reading: Reading


@dataclass(slots=True)
class Process:
    """What dies with a process.

    Attributes:
        written: the journal, as far as it was said; `State.disk` is what of it is durable.
        server_s: the latest time of a job of ours that was read.
        to_take_up: what an earlier process left open.
        to_send: attempts whose intent is written; in_flight: those whose call has left, with its job.
        undurable: whether somebody waits for the journal.
        answers: the results that were read in this round.
    """

    wall_offset_s: int
    taken_over_s: int
    written: Written
    server_s: int | None
    evidence: Evidence
    to_take_up: tuple[AttemptKey, ...]
    to_send: dict[AttemptKey, Attempt] = field(default_factory=dict)
    in_flight: dict[AttemptKey, tuple[Attempt, str]] = field(default_factory=dict)
    watched: dict[AttemptKey, Watched] = field(default_factory=dict)
    undurable: bool = False
    round: Round | None = None
    round_due_s: int = 0
    answers: dict[str, tuple[Answer, ...]] = field(default_factory=dict)

    def copy(self) -> Process:
        return Process(*(copy_of(getattr(self, name)) for name in _PROCESS_FIELDS))

    def key(self, now: int) -> Hashable:
        return tuple(key_of(getattr(self, name), now) for name in _PROCESS_KEYS)


_PROCESS_FIELDS = tuple(each.name for each in fields(Process))
_PROCESS_KEYS = tuple(name for name in _PROCESS_FIELDS if name != "written")
"""What the process says of the journal is the last of what is unwritten, or what is on the disk."""


@dataclass(slots=True)
class State:
    """Everything there is.

    Attributes:
        disk: the durable journal; unwritten: how it would stand after each of the facts that are not durable yet.
        calls: by the ID of the job that each made, if it did.
        down_since_s: when the process died.
        offsets: how wrong the clocks are: the first process's, the later ones', and that of the `Date` header.
        losses, refusals, kills, retries, outages, cut_readings, delays: how often that may still happen.
        list_failed: whether the list could not be read to its end some time.
        over: whether the run is complete, and its last process gone.
    """

    server: Server
    disk: Written
    unwritten: tuple[Written, ...]
    calls: dict[str, Call]
    process: Process | None
    down_since_s: int | None
    offsets: tuple[int, int, int] | None
    losses: int
    refusals: int
    kills: int
    retries: int
    outages: int
    cut_readings: int
    delays: int
    list_failed: bool = False
    over: bool = False

    @property
    def now(self) -> int:
        return self.server.now

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """As the present process knows them."""
        return self.disk.outcomes if self.process is None else self.process.written.outcomes

    def chunk(self, number: int) -> tuple[str, ...]:
        return self.server.scenario.chunks[number]

    def copy(self) -> State:
        copy = State(*(getattr(self, name) for name in _STATE_FIELDS))
        copy.server, copy.calls = self.server.copy(), dict(self.calls)
        copy.process = None if self.process is None else self.process.copy()
        return copy

    def key(self) -> Hashable:
        now = self.now
        process = self.process
        return (
            self.server.bad_ends,
            self.server.gets_404,
            key_of(self.disk, now),
            key_of(self.unwritten, now),
            tuple(sorted([call.key_from(now) for call in self.calls.values()])),
            None if process is None else process.key(now),
            None if self.down_since_s is None else self.down_since_s - now,
            *(getattr(self, name) for name in _PLAIN_FIELDS),
        )


_STATE_FIELDS = tuple(each.name for each in fields(State))
_PLAIN_FIELDS = (
    *("offsets", "losses", "refusals", "kills", "retries", "outages", "cut_readings", "delays", "list_failed", "over"),
)
