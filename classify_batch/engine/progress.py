"""What a run reports of itself: while it is on, and at its end."""

from __future__ import annotations

from dataclasses import dataclass

from classify_batch.errors import ExitStatus
from classify_batch.limits.credit_budget import Credits
from classify_batch.model import Uploads
from classify_batch.rundir.manifest_json import Manifest
from classify_batch.vocabulary import RunState

NO_CREDITS = Credits()


@dataclass(frozen=True, slots=True)
class Progress:
    """A run at one point in time.

    Attributes:
        outcomes: committed files by outcome; types: by type.
        in_flight: jobs that hold a slot; ambiguous: creates of which it is unknown whether they were accepted.
        jobs_left_s: seconds that all of these still take, by what the run learned; None where nobody knows.
        waiting_s: seconds for which nothing is sent; down: because the API answers nothing, and not because it asked
            for fewer requests; paused: because somebody asked for no new jobs.
        limited_per_s: the lower of the rates that the API was shown to allow, of requests or of creates, where that is
            less than was set; noise_share: of the requests, those that are answered 429 whatever the rate. Each None
            where no experiment showed any.
        uploads: where the input is a folder: how far its documents are.
        credits: what was spent or is reserved, the bound, and whether the next job waits for what others give back.
    """

    files: int
    outcomes: dict[str, int]
    types: dict[str, int]
    jobs: int
    in_flight: int
    slots: int
    ambiguous: int
    requests: int
    waiting_s: float
    down: bool
    paused: bool
    stopping: str | None
    jobs_left_s: float | None
    limited_per_s: float | None = None
    noise_share: float | None = None
    credits: Credits = NO_CREDITS
    uploads: Uploads | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended for now: the manifest's words."""

    state: RunState
    exit_status: ExitStatus
    reason: str | None
    hint: str
    manifest: Manifest
