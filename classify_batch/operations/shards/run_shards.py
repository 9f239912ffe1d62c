"""Carries out a run's shards: one of them, or all, one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

import anyio

from classify_batch.engine.progress import Progress
from classify_batch.engine.shutdown import Shutdown
from classify_batch.errors import LockedError, UsageError
from classify_batch.operations.complete_run import claims_complete
from classify_batch.operations.folder_request import take_folder
from classify_batch.operations.result import RunResult
from classify_batch.operations.run import carry_out_request, interruptible
from classify_batch.operations.run_request import OnProgress, RunRequest
from classify_batch.operations.run_resources import lock_run_directory
from classify_batch.operations.shards.ending import ShardEnding
from classify_batch.operations.shards.plan_shards import plan_sharded
from classify_batch.operations.shards.results import result_of_shards
from classify_batch.operations.shards.whole import ShardedRun
from classify_batch.operations.status import read_shards
from classify_batch.rundir.manifest_json import Manifest
from classify_batch.rundir.shards import ShardSlice
from classify_batch.settings.sections import LimitSettings
from classify_batch.vocabulary import RunState

TUNED = ("jobs_in_flight", "requests_per_s", "creates_per_s")
"""Limits that `tune` may change for all shards of a process: to the same for each."""
MAX_CREDITS = "max_credits"
"""Of this one each shard has its share."""


async def run_sharded(request: RunRequest, shutdown: Shutdown) -> RunResult:
    """Plans a run with shards, if it is new, and carries out the shard that the request names, or all of them.

    Raises:
        UsageError: the run in the place is another one, or what is asked is not possible with all shards together.
    """
    request = take_folder(request)
    if request.submit_only and request.shard is None:
        raise UsageError(
            "submit_only is for one shard: all shards would be begun, and none collected",
            hint="name a shard, too: `--submit-only --shard 0/8`",
        )
    async with interruptible(shutdown):
        whole = await plan_sharded(request, needs_key=request.executor is None or bool(request.settings.accounts))
    if request.shard is not None:
        return await run_shard(whole, request, request.shard, shutdown)
    async with AsyncExitStack() as stack:
        if not await are_complete(whole, retry_failed=request.retry_failed):
            # One process for all shards together: whoever looks finds it also between two of them.
            await lock_run_directory(whole.place, stack)
        executor = request.executor or SequentialExecutor()
        endings = await executor.run(whole, request, shutdown)
    return result_of_shards(whole, request.settings, endings, stop=shutdown.stop)


async def are_complete(whole: ShardedRun, *, retry_failed: bool) -> bool:
    """Whether all shards claim to be complete: see `claims_complete`."""
    for index in range(len(whole.ranges)):
        if not await claims_complete(whole.shard_place(index), retry_failed=retry_failed):
            return False
    return True


async def run_shard(whole: ShardedRun, request: RunRequest, index: int, shutdown: Shutdown) -> RunResult:
    """Carries out one shard. `request`: what was asked of the whole run."""
    place = whole.shard_place(index)
    if not await claims_complete(place, retry_failed=request.retry_failed):
        await whole.refuse_untrusted()
    shard = whole.slice_of_shard(index)
    limits = request.settings.limits
    if limits.max_credits is not None:
        limits = limits.model_copy(update={"max_credits": shard.share_of_credits(limits.max_credits)})
    return await carry_out_request(
        replace(
            request,
            settings=request.settings.model_copy(update={"limits": limits}),
            source=None,
            place=place,
            reuse=(),
            include=(),
            exclude=(),
            shards=None,
            shard=None,
            slice=shard,
            executor=None,
            pace=None if request.pace is None else request.pace.of_shard(index),
        ),
        shutdown,
    )


class SequentialExecutor:
    """Carries the shards out one after the other, in this process. A shard that another process holds is passed
    over."""

    async def run(self, whole: ShardedRun, request: RunRequest, shutdown: Shutdown) -> Sequence[ShardEnding]:
        began_s, endings = anyio.current_time(), list[ShardEnding]()
        progress = None if request.on_progress is None else WholeProgress(whole, request.on_progress)
        for index in range(len(whole.ranges)):
            if shutdown.stop is not None:
                break
            asked = request if progress is None else replace(request, on_progress=progress.progress_of_shard(index))
            if request.max_runtime_s is not None:
                remaining_s = request.max_runtime_s - (anyio.current_time() - began_s)
                asked = replace(asked, max_runtime_s=max(0.0, remaining_s))
            try:
                result = await run_shard(whole, asked, index, shutdown)
            except LockedError as error:
                endings.append(ShardEnding(index, error.exit_status, str(error), error.hint))
                continue
            if progress is not None:
                progress.end_shard(index)
            endings.append(ShardEnding(index, result.exit_status, result.reason, result.hint, result.called))
            if result.state is not RunState.COMPLETE and not shutdown.creating:
                break  # what stopped it would stop the next one, too
            if result.called:
                request = keep_tuned_limits(request, result.manifest.get("limits", {}), whole.slice_of_shard(index))
        return endings


def keep_tuned_limits(request: RunRequest, limits: Mapping[str, object], shard: ShardSlice) -> RunRequest:
    """The request with the limits that `tune` gave the last shard: they are for the whole process."""
    given = request.settings.limits
    tuned = tuned_limits(given, limits)
    bound = limits.get(MAX_CREDITS)
    share = None if given.max_credits is None else shard.share_of_credits(given.max_credits)
    if isinstance(bound, int | float) and bound != share:
        tuned[MAX_CREDITS] = shard.credits_of_all(bound)
    if not tuned:
        return request
    settings = request.settings.model_copy(update={"limits": given.model_copy(update=tuned)})
    return replace(request, settings=settings)


def tuned_limits(given: LimitSettings, limits: Mapping[str, object]) -> dict[str, object]:
    """Those limits that `tune` changed. `limits`: in force at a shard's end."""
    return {name: limits[name] for name in TUNED if name in limits and limits[name] != getattr(given, name)}


class WholeProgress:
    """Shows the progress of shards, one after the other or several at once, as that of the whole run."""

    def __init__(self, whole: ShardedRun, on_progress: OnProgress) -> None:
        self._files = whole.run.files
        self._reused = {} if whole.run.reused is None else whole.run.reused.counts
        self._reused_types = {} if whole.run.reused is None else whole.run.reused.types
        self._on_progress = on_progress
        self._at_work: dict[int, Progress] = {}
        self._shards: dict[int, Progress | Manifest] = {
            index: status for index, status in enumerate(read_shards(whole.place, whole.run)) if status is not None
        }

    def progress_of_shard(self, index: int) -> OnProgress:
        """What is called with the progress of that shard."""

        def show(progress: Progress) -> object:
            self._shards[index] = self._at_work[index] = progress
            return self._on_progress(self._add_others(progress))

        return show

    def end_shard(self, index: int) -> None:
        """A shard has ended for now: none of its jobs is in flight for this process any more."""
        self._at_work.pop(index, None)

    def _add_others(self, progress: Progress) -> Progress:
        outcomes, types, jobs = Counter(self._reused), Counter(self._reused_types), 0
        for each in self._shards.values():
            if isinstance(each, Progress):
                outcomes.update(each.outcomes)
                types.update(each.types)
                jobs += each.jobs
            else:
                outcomes.update(each["counts"])
                types.update(each["types"])
                jobs += each["jobs"]
        at_work = self._at_work.values()
        return replace(
            progress,
            files=self._files,
            outcomes=dict(outcomes),
            types=dict(types),
            jobs=jobs,
            in_flight=sum(each.in_flight for each in at_work),
            slots=sum(each.slots for each in at_work),
            ambiguous=sum(each.ambiguous for each in at_work),
        )
