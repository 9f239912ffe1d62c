"""A chunk's life as one table.

A planned chunk is sent as an attempt. Exactly one fact ends each attempt and disposes of all its files: `collected`
(each file has its outcome or is sent again), `split` (the job failed; its files are sent again in other parts) or
`rejected` (the API refused them; likewise). Files that are sent again are named in the very fact that ends the attempt:
so no file is ever without an attempt or a place in the queue, and replaying the journal never has to decide anything
anew.

`submitting` may be written again under the same attempt: it is the same intent, sent once more after it was proven that
the first call left no job behind.

A move that is not in the table can't be made: `next_state` raises InternalError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NotRequired, Required, TypedDict, Unpack

from classify_batch.errors import InternalError
from classify_batch.model import AttemptKey, Part, Segment, to_ranges
from classify_batch.vocabulary import Kind, State

ENDS = frozenset({State.COLLECTED, State.SPLIT, State.REJECTED})

MOVES: dict[tuple[State, Kind], State] = {
    (State.PLANNED, Kind.SUBMITTING): State.SUBMITTING,
    (State.SUBMITTING, Kind.SUBMITTING): State.SUBMITTING,  # sent once more: the first call left no job behind
    (State.SUBMITTING, Kind.SUBMITTED): State.SUBMITTED,
    (State.SUBMITTING, Kind.ADOPTED): State.SUBMITTED,  # found by its transaction ID
    (State.SUBMITTING, Kind.REJECTED): State.REJECTED,
    (State.SUBMITTING, Kind.COLLECTED): State.COLLECTED,  # given up as unresolved
    (State.SUBMITTED, Kind.FINISHED): State.FINISHED,
    (State.SUBMITTED, Kind.COLLECTED): State.COLLECTED,  # given up as overdue
    (State.FINISHED, Kind.FINISHED): State.FINISHED,  # seen again after a restart
    (State.FINISHED, Kind.COLLECTED): State.COLLECTED,
    (State.FINISHED, Kind.SPLIT): State.SPLIT,
}


def next_state(state: State, kind: Kind) -> State:
    """The state after a fact. Raises InternalError for a move that the table doesn't have."""
    try:
        return MOVES[state, kind]
    except KeyError:
        raise InternalError(f"an attempt that is {state} can't be {kind}") from None


# --- The facts, each with what it has to say -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tally:
    """What a segment of outcomes adds to the counts, so that nobody reads the results to know them.

    `sums`: what else is added up, by name (see vocabulary.py).
    """

    outcomes: dict[str, int] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Submitting:
    """The intent, durable before the POST leaves.

    Attributes:
        credits: the most that it can cost.
        server_s: the server's own time, as it was known then; None: unknown.
        project_id: the project that the key was seen to speak for; None: unknown.
        sent_ids: see model.Attempt. Where the input is a folder, an intent without any was never sent: it only names
            documents that could not be brought to the project, and ends in the same breath.
    """

    key: AttemptKey
    part: Part
    since_s: float
    credits: float = 0.0
    server_s: float | None = None
    project_id: str | None = None
    sent_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Submitted:
    """The API accepted and named the job. `created_at_s`: by the server's own clock, where it said so."""

    key: AttemptKey
    job_id: str
    at_s: float
    project_id: str | None = None
    created_at_s: float | None = None


@dataclass(frozen=True, slots=True)
class Adopted:
    """A job found in the project's list is proven to be this attempt's: by its transaction ID."""

    key: AttemptKey
    job_id: str
    at_s: float
    project_id: str | None = None
    created_at_s: float | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The job reached an end. `duration_s`: seconds; later polls are timed by it."""

    key: AttemptKey
    status: str
    duration_s: float | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt's end: outcomes that were appended, and the parts that are sent again.

    Attributes:
        kind: collected, split or rejected.
        found: of an attempt whose create was not answered: the jobs in whose results its files were found, and which
            have no more to tell. No later attempt of the chunk takes them for its own.
        created_at_s: the latest time at which one of these was made, by the server's own clock.
    """

    key: AttemptKey
    kind: Kind
    results: Segment | None = None
    failures: Segment | None = None
    provisional: Segment | None = None
    tally: Tally = field(default_factory=Tally)
    requeued: tuple[Part, ...] = ()
    found: tuple[str, ...] = ()
    created_at_s: float | None = None


Fact = Submitting | Submitted | Adopted | Finished | Ended


class AccountKeys(TypedDict, total=False):
    """Whose key a process has, and where it leads: what must be the same for whoever goes on with its attempts."""

    name: Required[str]
    base_url: Required[str]
    project_id: str
    organization_id: str


class Opened(TypedDict, total=False):
    """A process takes the run over. Before 0.3 there was no `accept_s`: for how long its creates may be accepted; and
    no `host`, `pid` and `version`: which process it is. `account`: whose attempts those are whose intents it writes;
    without one they are nobody's in particular."""

    run_sha256: str
    accept_s: float
    limits: Mapping[str, object]
    host: str
    pid: int
    version: str
    account: AccountKeys


def account_of(opened: Opened) -> str | None:
    """The account whose key a process has; None: the run's own, which has no name."""
    account = opened.get("account")
    return None if account is None else account["name"]


class Closed(TypedDict, total=False):
    """A process ended in an orderly way. `requests`: that it sent; `cancelled`: whether it had cancelled the run."""

    state: str
    reason: str | None
    exit_status: int
    requests: int
    cancelled: bool


class Tuned(TypedDict):
    """Limits changed while a process was running. `cancel`: the run was cancelled; versions that don't know it find no
    limit changed, and go on with the run as this one does after a cancel."""

    limits: Mapping[str, object]
    cancel: NotRequired[bool]


class WrittenPart(TypedDict, total=False):
    """What a line says of a part beside its chunk: nothing of a whole chunk that was in no bad job."""

    ranges: Sequence[tuple[int, int]]
    bad_jobs: int
    first: tuple[int, int]
    shared: int
    unnamed: int


class RequeuedPart(WrittenPart, total=False):
    """A part of a chunk whose files failed, and get a new chance. `attempts`: that the chunk had so far."""

    chunk: int
    attempts: int


class Recheck(RequeuedPart, total=False):
    """An attempt whose job is read again before its files are sent: they were perhaps paid. What its credits and bill
    came to is set aside again. `account`: whose attempt it was."""

    attempt: int
    job_id: str
    since: str
    server_s: float
    project_id: str
    credits: float
    billed: float
    unbilled: float
    sent_ids: Sequence[str]
    account: str


class Reopened(TypedDict, total=False):
    """The failed files get a new chance. What that means for each of them stands in `retry.<generation>.jsonl`, which
    has `retry_bytes`; up to 0.2 it stood here: `looks` are the attempts whose jobs are read first."""

    generation: Required[int]
    retry_bytes: int
    again: list[RequeuedPart]
    looks: list[Recheck]


class Retried(TypedDict):
    """The run goes on with some of them: what stands in `retry.<generation>.jsonl` up to byte `taken`."""

    generation: int
    taken: int
    again: list[RequeuedPart]
    looks: list[Recheck]


AboutRun = Opened | Closed | Tuned | Reopened | Retried
"""Facts about a run as a whole, as they stand in the journal."""


def kind_of(fact: Fact) -> Kind:
    match fact:
        case Submitting():
            return Kind.SUBMITTING
        case Submitted():
            return Kind.SUBMITTED
        case Adopted():
            return Kind.ADOPTED
        case Finished():
            return Kind.FINISHED
        case Ended():
            return fact.kind


# --- What follows a job that ended badly (pure decisions) ------------------------------------------------------------


class Counts(TypedDict, total=False):
    """What a part counts: see model.Part."""

    bad_jobs: int
    shared_bad_jobs: int
    unnamed: int


def remainder(part: Part, positions: Iterable[int], **counts: Unpack[Counts]) -> tuple[Part, ...]:
    """What is left of a part, as one part; nothing where nothing is left. `counts`: where they aren't the part's."""
    ranges = to_ranges(positions)
    return (replace(part, ranges=ranges, recheck=False, **counts),) if ranges else ()


def split_in_halves(part: Part, positions: Sequence[int], **counts: Unpack[Counts]) -> tuple[Part, ...]:
    """The two parts of a split; a single file stays one part."""
    middle = (len(positions) + 1) // 2
    return remainder(part, positions[:middle], **counts) + remainder(part, positions[middle:], **counts)


def after_bad_job(
    part: Part, positions: Sequence[int], attempts: int, *, other_file_suspected: bool
) -> tuple[Part, ...]:
    """The parts that are sent again after a job that ended with ERROR or CANCELLED; none: the file has failed.

    A planned chunk is sent once more as it is; after that it is halved, and so are the halves, down to the file at
    fault: at most `2 * ceil(log2(n)) + 1` further jobs for one bad file among n, whose neighbours have ended by then,
    and `attempts` more where they have not.

    A job of several files that ends badly says of none of them that it was the reason. So a file alone fails when it
    was in at least `attempts` bad jobs, and those that it shared are counted only where all files that shared them have
    ended well.

    Args:
        other_file_suspected: whether another file of the chunk may have been the reason of the shared ones.
    """
    if len(positions) > 1:
        shared = part.shared_bad_jobs + 1
        # Once more as it is: the job may have failed for no reason of its files. What was split is split further.
        if part.ranges is None and shared == 1 and not part.bad_jobs and not part.recheck:
            return (replace(part, shared_bad_jobs=shared),)
        return split_in_halves(part, positions, shared_bad_jobs=shared)
    bad_jobs = part.bad_jobs + (0 if part.recheck else 1)  # a retry counts anew: the old job was before it
    counted = bad_jobs if other_file_suspected else bad_jobs + part.shared_bad_jobs
    return () if counted >= attempts else remainder(part, positions, bad_jobs=bad_jobs)


def after_missing(part: Part, asked: int, missing: Sequence[int], attempts: int) -> tuple[Part, ...]:
    """The parts that are sent again after a job that left `missing` positions unanswered; none: they have failed. A job
    that ended well clears its files of the bad ones before it."""
    counts: Counts = {"bad_jobs": part.bad_jobs + 1, "shared_bad_jobs": 0, "unnamed": 0}
    if not missing or counts["bad_jobs"] >= attempts:
        return ()
    # Where none was answered, it may be one file that spoils all the others: so they are sent apart.
    if len(missing) < asked:
        return remainder(part, missing, **counts)
    return split_in_halves(part, missing, **counts)
