"""What can follow for an attempt that may have been accepted."""

from __future__ import annotations

from dataclasses import dataclass

from classify_batch.model import JobView


@dataclass(frozen=True, slots=True)
class Adopt:
    """The job is the attempt's for certain: it is watched like any other."""

    view: JobView


@dataclass(frozen=True, slots=True)
class Take:
    """The answers of these jobs are taken; what none of them answers goes out again."""

    jobs: tuple[JobView, ...]


@dataclass(frozen=True, slots=True)
class SendAgain:
    """No call of the attempt was accepted, or its repetition gives the same job."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The answers of these jobs are taken, and the rest of the files is unresolved."""

    jobs: tuple[JobView, ...]
    why: str


Decision = Adopt | Take | SendAgain | GiveUp
