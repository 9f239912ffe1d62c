"""How a job ends, and what is odd about it: decided when it is created, kept in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Literal, NamedTuple

from classify_batch.sandbox.faults.fault_options import Faults
from classify_batch.vocabulary import JobStatus

PARTIAL_SHARE = 0.1
"""How much of a job with the fault `partial` stays without an answer; at least one file."""

Oddity = Literal["unknown_status", "doubled", "unasked", "nameless", "endless_results"]
"""What is odd about a job while it is unfinished, or about its results; each is a field of `Faults` too."""

ODDITIES: tuple[Oddity, ...] = ("unknown_status", "doubled", "unasked", "nameless", "endless_results")


class JobEnding(NamedTuple):
    """What becomes of a job.

    Attributes:
        status: PENDING: it never ends.
        error_first_s: for so long after its end it shows ERROR before it shows `status`.
        null, absent: positions in the job's file IDs that are answered with `result: null`, or not at all.
    """

    status: JobStatus = JobStatus.SUCCESS
    error_message: str | None = None
    null: tuple[int, ...] = ()
    absent: tuple[int, ...] = ()
    oddities: tuple[Oddity, ...] = ()
    error_first_s: float = 0.0


def decide_ending(faults: Faults, file_ids: Sequence[str], random: Random) -> JobEnding:
    """Decides how a job ends.

    Every random number is drawn every time, so that a change of one probability leaves the other faults as they were.
    """
    error, cancelled, partial = random.random(), random.random(), random.random()
    nulls = {position for position in range(len(file_ids)) if random.random() < faults.null_result}
    gaps = random.sample(range(len(file_ids)), max(1, round(len(file_ids) * PARTIAL_SHARE)))
    stuck = random.random()
    oddities = tuple([each for each in ODDITIES if random.random() < getattr(faults, each)])
    error_first_s = faults.error_first_s if random.random() < faults.error_first else 0.0
    absent: set[int] = set()
    if partial < faults.partial:
        nulls.update(gaps[::2])
        absent.update(gaps[1::2])
    # From here on the order decides: a job that is stuck never fails, and a poison file fails any other.
    if stuck < faults.stuck:
        return JobEnding(JobStatus.PENDING, oddities=oddities)
    if any(True for _ in faults.indexes_with_fault("poison", file_ids)):
        return JobEnding(JobStatus.ERROR, "PDF_IS_BROKEN", oddities=oddities)
    if error < faults.error:
        return JobEnding(JobStatus.ERROR, "TIMEOUT", oddities=oddities)
    if cancelled < faults.cancelled:
        return JobEnding(JobStatus.CANCELLED, oddities=oddities)
    status = JobStatus.PARTIAL_SUCCESS if nulls or absent else JobStatus.SUCCESS
    return JobEnding(status, None, tuple(sorted(nulls - absent)), tuple(sorted(absent)), oddities, error_first_s)
