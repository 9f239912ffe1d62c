"""What a caller asks of a run, in one frozen object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from classify_batch.engine.progress import Progress
from classify_batch.inputs.open import SourceSpec
from classify_batch.inputs.reading import Reading
from classify_batch.operations.reuse.earlier_runs import Reuse
from classify_batch.ports import Observer
from classify_batch.settings import Settings

OnProgress = Callable[[Progress], object]
"""Is given the progress of a run; what it returns is awaited where that can be."""


@dataclass(frozen=True, slots=True, eq=False)
class RunRequest:
    """See `run` for the meaning of each.

    Attributes:
        source: where the file IDs come from; None: the directory holds the run already.
        reading: what the caller says of how the source is read.
        until_s: seconds since the epoch.
        observers: each is given every event (see events.py).
    """

    settings: Settings
    source: SourceSpec | None
    run_dir: Path
    reading: Reading = field(default_factory=Reading)
    reuse: Reuse = ()
    retry_failed: bool = False
    until_s: float | None = None
    submit_only: bool = False
    on_progress: OnProgress | None = None
    observers: Sequence[Observer] = ()
