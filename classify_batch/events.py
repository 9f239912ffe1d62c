"""What happens in a run, as frozen values for whoever watches it.

Observers get them in the order in which they happened, from a task of their own: a slow observer keeps nobody waiting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JobSubmitted:
    """The API accepted a job. `found`: its create was not answered, and the job list showed it."""

    job_id: str
    chunk: int
    attempt: int
    found: bool = False


@dataclass(frozen=True, slots=True)
class JobFinished:
    """A job was seen to have ended. `duration_s`: seconds since it was made; None: unknown."""

    chunk: int
    attempt: int
    status: str
    duration_s: float | None


@dataclass(frozen=True, slots=True)
class FilesCommitted:
    """An attempt has ended. `outcomes`: files by outcome; files that go out again have none yet."""

    chunk: int
    attempt: int
    outcomes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class CreateAmbiguous:
    """It is unknown whether a create was accepted: its job is looked for before its files are sent again."""

    chunk: int
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class LimitsChanged:
    """`classify-batch tune` set other limits. `limits`: the new ones, by the name of the setting."""

    limits: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class LimitDiscovered:
    """The API was found to allow less than the settings do. `name`: of the setting."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class RateLimited:
    """What 429s come of has changed, as an experiment showed.

    Attributes:
        per_s: the API allows so many requests, or creates, a second (the lower of both), which is less than was set.
            None: it allows what was set.
        noise_share: of the requests, those that are answered 429 whatever our rate. None: none.
    """

    per_s: float | None
    noise_share: float | None


@dataclass(frozen=True, slots=True)
class ThrottlingBegan:
    """The API began to answer 429."""


@dataclass(frozen=True, slots=True)
class ThrottlingEnded:
    """The API answers 429 no longer. `seconds`: for how long it did; `answers`: how often."""

    seconds: float
    answers: int


@dataclass(frozen=True, slots=True)
class OutageBegan:
    """The API answers nothing, or only that it is in trouble. `seconds`: for how long already."""

    seconds: float


@dataclass(frozen=True, slots=True)
class OutageEnded:
    """The API answers again. `seconds`: for how long it did not."""

    seconds: float


@dataclass(frozen=True, slots=True)
class WaitBegan:
    """Something that could be sent waits. `reason`: of `vocabulary.WaitReason`."""

    reason: str


@dataclass(frozen=True, slots=True)
class WaitEnded:
    """It waits no longer. `seconds`: for how long it did."""

    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class FilesFailed:
    """Files of one attempt failed for the same reason. `message`: without the IDs of file and job."""

    chunk: int
    attempt: int
    code: str
    message: str
    files: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """The run was asked to stop before it was complete."""

    reason: str
    exit_status: int


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that a person should know of. The run goes on."""

    message: str


Event = (
    JobSubmitted
    | JobFinished
    | FilesCommitted
    | CreateAmbiguous
    | LimitsChanged
    | LimitDiscovered
    | RateLimited
    | ThrottlingBegan
    | ThrottlingEnded
    | OutageBegan
    | OutageEnded
    | WaitBegan
    | WaitEnded
    | FilesFailed
    | Stopped
    | Warned
)
