"""What a caller asks of a run, in one frozen object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from classify_batch.engine.progress import Progress
from classify_batch.inputs.open import SourceSpec
from classify_batch.operations.reuse.earlier_runs import Reuse
from classify_batch.ports import Observer, RunPlace
from classify_batch.settings import Settings


@dataclass(frozen=True, slots=True, eq=False)
class RunRequest:
    """See `run` for the meaning of each.

    Attributes:
        source: where the file IDs come from; None: the directory holds the run already.
        place: where the run is, or will be.
        until_s: seconds since the epoch.
        observers: each is given every event (see events.py).
    """

    settings: Settings
    source: SourceSpec | None
    place: RunPlace
    column: str | None = None
    reuse: Reuse = ()
    retry_failed: bool = False
    until_s: float | None = None
    submit_only: bool = False
    on_progress: Callable[[Progress], None] | None = None
    observers: Sequence[Observer] = ()
