"""What a run's snapshot holds of the chunks that are begun and not done."""

from __future__ import annotations

from dataclasses import dataclass, field

from classify_batch.model import Part
from classify_batch.vocabulary import State


@dataclass(slots=True)
class OpenAttempt:
    """An attempt that was begun and has not ended.

    Attributes:
        since_s: when the intent was first written.
        offset: where in the journal that was.
        reopened: whether its job was given up in an earlier generation and is only looked at again.
        credits: the most that it can cost, as it was counted when it went out.
        server_s: the server's own time before the intent; None: unknown.
        project_id: the project that the key spoke for when it was intended; None: unknown.
        cancelled: whether it was open when the run was cancelled: that its job ends as cancelled says nothing of its
            files then.
    """

    part: Part
    since_s: float
    offset: int
    state: State = State.PLANNED
    job_id: str | None = None
    submitted_at_s: float | None = None
    reopened: bool = False
    credits: float = 0.0
    server_s: float | None = None
    project_id: str | None = None
    cancelled: bool = False


@dataclass(slots=True)
class ChunkInHand:
    """A chunk that is begun and not done. `guilty`: whether one of its files failed that had shared bad jobs."""

    attempts: int = 0
    open_attempts: int = 0
    waiting: list[Part] = field(default_factory=list)
    guilty: bool = False
