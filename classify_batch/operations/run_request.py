"""What a caller asks of a run, in one frozen object."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from classify_batch.arguments import refuse_no_flag, refuse_no_function, refuse_no_number, refuse_without_method
from classify_batch.engine.deadline import Deadline
from classify_batch.engine.progress import Progress
from classify_batch.engine.shutdown import Shutdown
from classify_batch.inputs.folder import FolderScan
from classify_batch.inputs.open import SourceSpec
from classify_batch.inputs.reading import Reading
from classify_batch.limits import GateSource
from classify_batch.limits.reader_pace import ReaderPace
from classify_batch.operations.reuse.earlier_runs import Reuse, refuse_no_runs
from classify_batch.operations.shards.ending import ShardEnding
from classify_batch.operations.shards.whole import ShardedRun
from classify_batch.ports import Observer, RunPlace
from classify_batch.rundir.shards import ShardSlice
from classify_batch.settings import Account, Settings

OnProgress = Callable[[Progress], object]
"""Is given the progress of a run; what it returns is awaited where that can be."""


class Executor(Protocol):
    """Carries out shards, wherever it likes: what came of them stands in their directories."""

    async def run(self, whole: ShardedRun, request: RunRequest, shutdown: Shutdown) -> Sequence[ShardEnding]:
        """Returns when every shard has ended for now, or `shutdown` was asked to stop; says how those ended that it
        began. Each goes to `run_shard`, in this process or in another."""


@dataclass(frozen=True, slots=True, eq=False)
class RunRequest:
    """See `run` for the meaning of each.

    Attributes:
        source: where the file IDs come from; None: the directory holds the run already.
        reading: what the caller says of how the source is read.
        until_s: when creating jobs ends, in seconds since the epoch: a time of day, that follows the wall clock.
        max_runtime_s: after how many seconds creating jobs ends, whatever becomes of the wall clock.
        cancel: cancels the run that is in the place.
        place: where the run is, or will be.
        observers: each is given every event (see events.py).
        config: where the settings were read from; manifest.json repeats it where a resume needs it.
        include, exclude: which files of a folder are documents.
        pace: of who reads the outcomes while the run is on.
        shared_limits: those that several runs share.
        on_scan: is called with what a folder was found to hold, whenever it was read.
        shards: into how many the run is divided when it is planned; None: it isn't, or it goes on as it was planned.
        shard: the one that is carried out; None: all of them.
        account: whose key is used, and whose limits hold; None: the run's own.
        slice: which shard of another run the run in the place is, and where that run is; None: it is none, or it is
            there already.
        executor: carries out the shards; None: this process, one after the other.
    """

    settings: Settings
    source: SourceSpec | None
    place: RunPlace
    reading: Reading = field(default_factory=Reading)
    reuse: Reuse = ()
    retry_failed: bool = False
    until_s: float | None = None
    max_runtime_s: float | None = None
    submit_only: bool = False
    cancel: bool = False
    on_progress: OnProgress | None = None
    observers: Sequence[Observer] = ()
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    pace: ReaderPace | None = None
    shared_limits: GateSource | None = None
    config: Path | None = None
    on_scan: Callable[[FolderScan], None] = lambda _scan: None
    shards: int | None = None
    shard: int | None = None
    slice: ShardSlice | None = None
    executor: Executor | None = None
    account: Account | None = None

    def __post_init__(self) -> None:
        """Raises UsageError for what was given in the place of something else, before anything is done."""
        refuse_no_flag("retry_failed", self.retry_failed)
        refuse_no_flag("submit_only", self.submit_only)
        if self.until_s is not None:
            refuse_no_number("until_s", self.until_s, "seconds since the epoch: `datetime(…).timestamp()`")
        if self.max_runtime_s is not None:
            refuse_no_number("max_runtime_s", self.max_runtime_s, "seconds: `4 * 3600`, `timedelta(…).total_seconds()`")
        if self.on_progress is not None:
            refuse_no_function("on_progress", self.on_progress, "a function that is given a Progress")
        if self.shared_limits is not None:
            hint = "SharedLimits(requests_per_s=…), inside of `async with`"
            refuse_without_method("shared_limits", self.shared_limits, "gate_of_one_run", hint)
        if self.executor is not None:
            refuse_without_method("executor", self.executor, "run", "such as RayExecutor(…)")
        refuse_no_runs(self.reuse)

    @property
    def own_settings(self) -> Settings:
        """The settings by which the API is called. (`settings` say which run is meant.)"""
        if self.account is None:
            return self.settings
        api, limits = self.account.settings.api, self.account.settings.limits
        limits = limits.model_copy(update={"max_credits": self.settings.limits.max_credits})
        return self.settings.model_copy(update={"api": api, "limits": limits})

    def deadline_from(self, began_s: float) -> Deadline:
        """`began_s`: when the request began, by the event loop's clock."""
        return Deadline(
            math.inf if self.until_s is None else self.until_s,
            math.inf if self.max_runtime_s is None else began_s + self.max_runtime_s,
        )
