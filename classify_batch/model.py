"""The frozen nouns that flow, in the order in which they flow.

File IDs → chunks → parts → attempts → jobs → answers → outcomes.

A *chunk* is a line of the plan and never changes. A *part* is what of a chunk still has to be sent: the whole of it, or
index ranges into it after a split or a partial answer. An *attempt* is one intent to have a part classified: one
create call, repeated as often as the network needs, that becomes at most one job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from classify_batch.vocabulary import ANSWERED_STATUSES, FINISHED_STATUSES, FailureCode

# --- What is sent ---------------------------------------------------------------------------------------------------


class Range(NamedTuple):
    """A half-open range of positions in a chunk's `file_ids`."""

    start: int
    stop: int


def to_ranges(positions: Iterable[int]) -> tuple[Range, ...]:
    """The fewest ranges that cover `positions`, which must ascend.

    >>> to_ranges([0, 1, 2, 7])
    (Range(start=0, stop=3), Range(start=7, stop=8))
    """
    ranges: list[Range] = []
    for position in positions:
        if ranges and ranges[-1].stop == position:
            ranges[-1] = Range(ranges[-1].start, position + 1)
        else:
            ranges.append(Range(position, position + 1))
    return tuple(ranges)


class ProvisionalRange(NamedTuple):
    """Where in provisional.jsonl the first answers of a part stand that goes out for a second look: bytes `start` to
    `end`, in which there may be others' answers, too."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Part:
    """What of a chunk is sent together.

    Attributes:
        chunk: the planned chunk's number; it stays with every part of it.
        ranges: positions in the chunk's file IDs; None is the whole chunk.
        bad_jobs: accepted jobs that ended badly with each of these files inside, whoever else was in them.
        first: of a part that is sent for second answers: where the first answers are.
        shared_bad_jobs: accepted jobs of several files that ended badly with each of these inside: another file of
            theirs may have been the reason, so they count as attempts only where no other can have been.
        unnamed: how often jobs were found for a create whose answer was lost, none of which named these files.
        recheck: whether it goes to nobody yet: a retry first reads the results of the finished job that left these
            files unanswered once more.
    """

    chunk: int
    ranges: tuple[Range, ...] | None = None
    bad_jobs: int = 0
    first: ProvisionalRange | None = None
    shared_bad_jobs: int = 0
    unnamed: int = 0
    recheck: bool = False

    @property
    def is_planned(self) -> bool:
        """Whether it is a whole chunk that never went out."""
        return (
            self.ranges is None
            and self.first is None
            and not (self.bad_jobs or self.shared_bad_jobs or self.unnamed or self.recheck)
        )

    def positions(self, chunk_size: int) -> list[int]:
        ranges = self.ranges if self.ranges is not None else (Range(0, chunk_size),)
        return [position for start, stop in ranges for position in range(start, stop)]

    def pick_file_ids(self, chunk_file_ids: Sequence[str]) -> tuple[str, ...]:
        """The part's file IDs, given the whole chunk's."""
        if self.ranges is None:
            return tuple(chunk_file_ids)
        return tuple(file_id for start, stop in self.ranges for file_id in chunk_file_ids[start:stop])


class AttemptKey(NamedTuple):
    """Names an attempt within a run; attempts are numbered from 1 in each chunk."""

    chunk: int
    attempt: int


class Uploads(NamedTuple):
    """How far the documents of a folder are.

    Attributes:
        brought: contents that were brought to the project so far, by whatever process; total: those that are sent.
        sent: uploads of this process; bytes: of these.
    """

    brought: int
    total: int
    sent: int
    bytes: int


Carried = dict[str, object] | list[dict[str, object]]
"""What the input says of a file, by column; of a file that comes in it more than once, each time, in their order."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One intent to have a part classified.

    Attributes:
        key: chunk and number.
        part: what is sent.
        file_ids: the part's file IDs, in the order in which they are sent.
        positions: where in the chunk each of them stands.
        since_s: wall time of the intent, for people and for `limits.job_timeout_s`; 0.0 before it was written down.
        waits_since_s: wall time from which its job has `limits.job_timeout_s` to show itself, where that is later.
        server_s: the server's own time, as it was known before the intent was durable: the attempt's job is younger,
            but for `limits.clock_spread_s`. None: unknown.
        intended_s: the event loop's time of the intent; None where an earlier process wrote it.
        ambiguous: whether one of its calls may have been accepted, and nothing has proven that it was not.
        credits: the most that it can cost.
        first_answers: where second answers are asked for: the first one of each file.
        carried: by file ID, the columns of the input that are written beside its outcome.
        sent_ids: where the input is a folder: the project's file ID of each of `file_ids`, in their order. Every call
            of the attempt sends exactly these; empty before the documents were brought to the project.
    """

    key: AttemptKey
    part: Part
    file_ids: tuple[str, ...]
    positions: tuple[int, ...]
    since_s: float = 0.0
    waits_since_s: float = 0.0
    credits: float = 0.0
    first_answers: Mapping[str, FirstAnswer] = field(default_factory=dict)
    carried: Mapping[str, Carried] = field(default_factory=dict)
    server_s: float | None = None
    intended_s: float | None = None
    ambiguous: bool = False
    sent_ids: tuple[str, ...] = ()

    @property
    def api_ids(self) -> tuple[str, ...]:
        """The IDs by which the API knows the files, in the order of `file_ids`."""
        return self.sent_ids or self.file_ids


@dataclass(frozen=True, slots=True)
class AmbiguousCreate:
    """An attempt one of whose calls may have been accepted.

    Attributes:
        last_sent_s: the event loop's time after which none of its calls can have been sent.
        accept_s: for how long after that one may still be accepted.
        refusal: what a repeated call was refused with, where the API knows calls again; empty where it wasn't.
        upload_expired: whether it was refused since an upload that it names is not in the project any more.
        again_from_s: the event loop's time before which it is not to be sent again.
    """

    attempt: Attempt
    last_sent_s: float
    accept_s: float
    refusal: str = ""
    upload_expired: bool = False
    again_from_s: float = 0.0


# --- What comes back ------------------------------------------------------------------------------------------------


class JobView(NamedTuple):
    """What the API shows of a job. Fields that a server may leave out are None.

    Attributes:
        answer: what a v2 job says about its file, once it is answered; v1 keeps that apart from the job.
        credits: what was billed for a v2 job, where that was asked for and is known.
        transaction_id: by which a v2 job was created.
        file_id: the file of a v2 job, where the list shows it.
    """

    job_id: str
    status: str
    project_id: str | None = None
    created_at_s: float | None = None
    error_message: str | None = None
    rules: frozenset[tuple[str, str]] | None = None
    mode: str | None = None
    parsing_configuration: dict[str, object] | None = None
    answer: Answer | None = None
    credits: float | None = None
    transaction_id: str | None = None
    file_id: str | None = None

    @property
    def finished(self) -> bool:
        return self.status in FINISHED_STATUSES

    @property
    def answered(self) -> bool:
        return self.status in ANSWERED_STATUSES


@dataclass(frozen=True, slots=True)
class JobPage:
    """One page of the project's jobs. `from_cache`: whether a cache said that it gave it, in the API's place."""

    jobs: tuple[JobView, ...]
    next_page_token: str | None
    from_cache: bool = False


class Answer(NamedTuple):
    """What a job said about one file.

    Attributes:
        file_id: None where the server names none.
        answered: False where `result` is null: the file was not classified.
        type: None where no rule matched, which is an answer.
        odd_confidence: whether the server wrote as the confidence what is no number. It is None then.
    """

    file_id: str | None
    answered: bool
    type: str | None = None
    confidence: float | None = None
    reasoning: str | None = None
    odd_confidence: bool = False


class AnsweredFile(NamedTuple):
    """A file's answer and the job that gave it.

    Attributes:
        file_id: as it stands in the plan.
        mode: the mode that the job is known to have had; None where that can't be proven.
    """

    file_id: str
    answer: Answer
    job_id: str
    mode: str | None


class FirstAnswer(NamedTuple):
    """An answer that waits for a second one."""

    answer: Answer
    mode: str | None
    job_id: str
    attempt: int
    answered_at: str


@dataclass(frozen=True, slots=True)
class Answers:
    """What a job said.

    Attributes:
        withheld: why there may be more that the API doesn't hand out; empty where everything came. What is missing then
            was perhaps paid, and is not asked for again.
        may_come: whether what is withheld may come by waiting.
        of_another_job: whether results of another job came in the place of its own: they say nothing of its files.
        billed: credits that the API said were billed.
    """

    items: tuple[Answer, ...]
    withheld: str = ""
    billed: float | None = None
    may_come: bool = False
    of_another_job: bool = False

    @property
    def withheld_for_good(self) -> bool:
        """Whether waiting brings no more."""
        return bool(self.withheld) and not self.may_come


@dataclass(frozen=True, slots=True)
class Job:
    """An attempt that the API accepted.

    Attributes:
        submitted_at_s: wall time at which we learned of it.
        timed: whether its duration teaches anything: we saw it begin, and polled it since.
        is_recheck: whether it was given up before, and is read again: if the API forgot it meanwhile, it stays given
            up.
        finished: what the API showed when it was finished; None while it is in flight, and for ever if it is overdue.
        unknown_status: the status that it had then, where no version of the API is known to have it; else empty.
    """

    attempt: Attempt
    job_id: str
    submitted_at_s: float
    timed: bool = True
    is_recheck: bool = False
    finished: JobView | None = None
    unknown_status: str = ""


# --- What a run hands on --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Failure:
    """The final verdict on a file that was not classified. `job_id`: the job that held it, if not the attempt's."""

    position: int
    code: FailureCode
    message: str
    job_id: str | None = None


class Segment(NamedTuple):
    """A piece of an append-only file: bytes `start` to `end`, and the CRC-32 of them."""

    start: int
    end: int
    crc: int
