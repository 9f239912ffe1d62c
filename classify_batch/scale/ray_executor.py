"""Carries out the shards of a run on a Ray cluster: `run(…, shards=8, executor=RayExecutor())`."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from inspect import isawaitable
from pathlib import Path

import anyio
from anyio.abc import TaskGroup

from classify_batch.engine.event_queue import EventQueue, LogObserver
from classify_batch.engine.shutdown import Shutdown, Stop
from classify_batch.errors import ExitStatus, UsageError
from classify_batch.operations.complete_run import claims_complete
from classify_batch.operations.reporting_progress import ProgressCallback
from classify_batch.operations.run import interruptible
from classify_batch.operations.run_request import RunRequest
from classify_batch.operations.shards.ending import ShardEnding
from classify_batch.operations.shards.run_shards import WholeProgress, run_shard
from classify_batch.operations.shards.whole import ShardedRun
from classify_batch.scale.ray_actors import ShardReport, ShardWork
from classify_batch.scale.ray_cluster import Cluster, LeasedLimits, Worker, WorkerLostError, join_cluster
from classify_batch.settings import Settings
from classify_batch.streams.background import background_tasks

FETCH_EVERY_S = 0.5

LOSSES_MAX = 20
"""So often in a row the workers of a shard may be lost without one more file done: then the shard is to blame."""

STOP_TIMEOUT_S = 3.5
"""So long after a stop the workers are waited for: the command has to exit within four seconds."""

LOCK_GRACE_LEASES = 1.5
"""For so many leases a shard may be found locked before it counts as another command's. A worker of an earlier call
that isn't gone yet keeps the lock until it is seen to have renewed nothing for one lease. That is looked for by the
next worker, which begins somewhere between two renewals: hence half a lease more."""

LOST_WORKER_GRACE_S = 5.0
"""So much longer where a worker of this call was lost: Ray may need seconds to notice, to end its process, and to place
the next one."""

log = logging.getLogger("classify_batch")


@dataclass(frozen=True, slots=True)
class RayExecutor:
    """Carries out shards as actors of a Ray cluster (the extra `ray`).

    All of them share `limits.requests_per_s`, `limits.creates_per_s` and `limits.requests_in_flight`, and each may have
    an equal share of `limits.jobs_in_flight`. Where a worker is lost, or falls silent for longer than `limits.lease_s`,
    another one takes its shard over.

    Attributes:
        address: of the cluster, such as "10.0.0.5:6379", or "auto"; None: one is started on this machine, and ended
            with the run.
        cpus_per_shard: how much of the cluster each shard asks for. A shard takes 5 ms of a CPU for a job.
    """

    address: str | None = None
    cpus_per_shard: float = 0.25

    def __post_init__(self) -> None:
        if self.address is not None and not self.address.strip():
            raise UsageError("the address of Ray's cluster is empty", hint="such as 10.0.0.5:6379, or leave it out")
        if not self.cpus_per_shard > 0:
            raise UsageError(f"cpus_per_shard={self.cpus_per_shard}", hint="a number above 0, such as 0.25")

    async def run(self, whole: ShardedRun, request: RunRequest, shutdown: Shutdown) -> Sequence[ShardEnding]:
        """See `Executor`.

        Raises:
            UsageError: Ray is not installed, limits are shared with runs of this process, or a worker says that
                something is missing (such as its key).
            WorldError: there is no cluster.
        """
        if request.shared_limits is not None:
            raise UsageError(
                "shared limits are those of one process, and an executor has many", hint="leave shared_limits out"
            )
        endings, unfinished = dict[int, ShardEnding](), list[int]()
        for index in range(len(whole.ranges)):
            if await claims_complete(whole.shard_place(index), retry_failed=request.retry_failed):
                result = await run_shard(whole, request, index, shutdown)  # which needs neither key nor call
                endings[index] = ShardEnding(index, result.exit_status, result.reason, result.hint, result.called)
            else:
                unfinished.append(index)
        if unfinished:
            async with AsyncExitStack() as stack:
                async with interruptible(shutdown):
                    cluster = await stack.enter_async_context(join_cluster(self.address))
                cluster_run = ClusterRun.start(cluster, self.cpus_per_shard, whole, request, shutdown)
                endings.update(await cluster_run.carry_out(unfinished))
        return [endings[index] for index in sorted(endings)]


class ClusterRun:
    """The shards that are carried out by a cluster, and what is known of them."""

    def __init__(
        self,
        cluster: Cluster,
        cpus: float,
        whole: ShardedRun,
        request: RunRequest,
        shutdown: Shutdown,
        limits: LeasedLimits,
    ) -> None:
        self._cluster, self._cpus = cluster, cpus
        self._limits = limits
        self._whole, self._request, self._shutdown = whole, request, shutdown
        self._began_s = anyio.current_time()
        self._events = EventQueue([LogObserver(), *request.observers])
        called = None if request.on_progress is None else ProgressCallback(request.on_progress)
        self._progress = None if called is None else WholeProgress(whole, called.call)
        self._done: dict[int, int] = {}
        self._endings: dict[int, ShardEnding] = {}
        self._at_work: dict[int, Worker] = {}
        self._ended = anyio.Event()

    @classmethod
    def start(
        cls, cluster: Cluster, cpus: float, whole: ShardedRun, request: RunRequest, shutdown: Shutdown
    ) -> ClusterRun:
        """Starts the actor of the rate that all shards share. Its workers begin with `carry_out`."""
        limits = request.settings.limits
        creates_per_s = limits.creates_per_s or request.settings.api.capabilities.creates_per_s
        budget = cluster.start_budget(
            f"rate {whole.run.run_id} {uuid.uuid4()}",  # one that an earlier call left may be about to end
            requests_per_s=limits.requests_per_s,
            requests_in_flight=limits.requests_in_flight,
            creates_per_s=creates_per_s,
        )
        leased = LeasedLimits(
            budget,
            requests_in_flight=limits.requests_in_flight,
            requests_per_s=limits.requests_per_s,
            creates_per_s=creates_per_s,
            share=1 / len(whole.ranges),
        )
        return cls(cluster, cpus, whole, request, shutdown, leased)

    async def carry_out(self, shards: Sequence[int]) -> dict[int, ShardEnding]:
        """How each shard ended that was begun.

        Raises:
            UsageError: a worker says that something is missing.
        """
        waiting = list(reversed(shards))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._events.deliver_until_cancelled)
            tasks.start_soon(self._forward_stops, tasks.cancel_scope)
            async with anyio.create_task_group() as workers:
                while waiting and self._shutdown.stop is None:
                    if len(self._at_work) < await self._cluster.count_places(self._cpus):
                        index = waiting.pop()
                        self._at_work[index] = self._cluster.start_shard(self._cpus, self._limits)
                        workers.start_soon(self._carry_out_shard, index)
                    else:
                        with anyio.move_on_after(1.0):  # the cluster may have grown
                            await self._ended.wait()
            tasks.cancel_scope.cancel()
        await self._events.deliver_remaining()
        for ending in self._endings.values():
            if ending.exit_status is ExitStatus.USAGE:
                raise UsageError(f"shard {ending.shard}: {ending.reason}", hint=ending.hint)
        return self._endings

    async def _carry_out_shard(self, index: int) -> None:
        try:
            self._endings[index] = await self._carry_out_by_workers(index)
        finally:
            self._at_work.pop(index).give_up()
            if self._progress is not None:
                self._progress.end_shard(index)
            self._ended.set()
            self._ended = anyio.Event()
        ending = self._endings[index]
        if not ending.complete and self._shutdown.stop is None and ending.exit_status is not ExitStatus.INCOMPLETE:
            self._shutdown.request_stop(Stop(ending.reason, ending.exit_status, ending.hint))

    async def _carry_out_by_workers(self, index: int) -> ShardEnding:
        """Carries out a shard, by one worker after the other where they are lost."""
        lease_s = self._request.settings.limits.lease_s
        losses, done, locked_until_s = 0, 0, anyio.current_time() + LOCK_GRACE_LEASES * lease_s
        while True:
            worker = self._at_work[index]
            try:
                report = await self._wait_for_report(index, worker)
            except WorkerLostError as lost:
                worker.give_up()
                if (stop := self._shutdown.stop) is not None:
                    return ShardEnding(index, ExitStatus.INCOMPLETE, stop.reason, stop.hint)
                losses, done = (losses + 1 if self._done.get(index, 0) == done else 1), self._done.get(index, 0)
                reason = f"its worker was lost ({lost})"
                if losses >= LOSSES_MAX:
                    return ShardEnding(index, ExitStatus.INCOMPLETE, f"{reason}, {losses} times in a row", _LOST_HINT)
                log.warning("shard %d: %s; another one takes it over", index, reason)
                locked_until_s = anyio.current_time() + LOCK_GRACE_LEASES * lease_s + LOST_WORKER_GRACE_S
            else:
                # A worker that was lost, or that an earlier call left, may not be gone yet.
                if not report.locked or anyio.current_time() > locked_until_s:
                    return report.ending
                worker.give_up()
                await anyio.sleep(1.0)
            if self._shutdown.stop is not None:
                return ShardEnding(index, ExitStatus.INCOMPLETE, self._shutdown.stop.reason, self._shutdown.stop.hint)
            self._at_work[index] = self._cluster.start_shard(self._cpus, self._limits)

    async def _wait_for_report(self, index: int, worker: Worker) -> ShardReport:
        """Waits until a worker has ended its shard; fetches its progress and events meanwhile.

        Raises:
            WorkerLostError: it died, or answered nothing for longer than its lease lasts.
        """
        await self._wait_until_started(worker)
        fetching = anyio.Lock()  # each fetch empties the worker's queue: two at once would come in any order
        reports: list[ShardReport] = []
        lost: list[WorkerLostError] = []
        async with anyio.create_task_group() as tasks:

            async def carry_out() -> None:
                try:
                    reports.append(await worker.carry_out(self._work_of_shard(index)))
                    async with fetching:
                        await self._fetch_news(index, worker)
                except WorkerLostError as error:
                    lost.append(error)
                tasks.cancel_scope.cancel()

            async def fetch_repeatedly() -> None:
                try:
                    while True:
                        await anyio.sleep(FETCH_EVERY_S)
                        async with fetching:
                            await self._fetch_news(index, worker)
                except WorkerLostError as error:
                    lost.append(error)
                tasks.cancel_scope.cancel()

            tasks.start_soon(carry_out)
            tasks.start_soon(fetch_repeatedly)
        if not reports:
            raise lost[0]
        if reports[0].stood_still:
            raise WorkerLostError("it stood still for longer than its lease")
        return reports[0]

    async def _wait_until_started(self, worker: Worker) -> None:
        """Waits for a place, unless the run stops: then a worker that hasn't one is given up."""
        started = False
        async with background_tasks() as tasks:

            async def give_up() -> None:
                await self._shutdown.creating_ended.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(give_up)
            await worker.wait_until_started()
            started = True
        if not started:
            raise WorkerLostError("the run was stopped before there was a place for it")

    async def _fetch_news(self, index: int, worker: Worker) -> None:
        silent_s = self._request.settings.limits.lease_s
        try:
            with anyio.fail_after(silent_s):
                news = await worker.fetch_news()
        except TimeoutError:
            raise WorkerLostError(f"it has said nothing for {silent_s:g} s") from None
        for event in news.events:
            self._events.notify(event)
        if news.dropped:
            log.warning("shard %d: %d events were dropped", index, news.dropped)
        if news.progress is None:
            return
        self._done[index] = sum(news.progress.outcomes.values())
        if self._progress is not None:
            shown = self._progress.progress_of_shard(index)(news.progress)
            if isawaitable(shown):
                await shown

    def _work_of_shard(self, index: int) -> ShardWork:
        request = self._request
        remaining_s = request.max_runtime_s
        if remaining_s is not None:
            remaining_s = max(0.0, remaining_s - (anyio.current_time() - self._began_s))
        return ShardWork(
            str(Path(request.place.where).absolute()),
            index,
            share_of_jobs(request.settings, len(self._whole.ranges)),
            request.place.trusted,
            request.retry_failed,
            request.until_s,
            remaining_s,
            request.config,
        )

    async def _forward_stops(self, scope: anyio.CancelScope) -> None:
        """Asks the workers to stop, and ends in time without those that don't answer."""
        async with anyio.create_task_group() as sending:
            await self._shutdown.creating_ended.wait()
            self._send_stop_to_workers(sending)
            await self._shutdown.leave_requested.wait()
            self._send_stop_to_workers(sending)
            await anyio.sleep(STOP_TIMEOUT_S)
            for index in self._at_work:
                self._endings[index] = ShardEnding(
                    index, ExitStatus.INCOMPLETE, "its worker did not stop in time", "the same command goes on"
                )
            scope.cancel()

    def _send_stop_to_workers(self, sending: TaskGroup) -> None:
        async def send_stop(worker: Worker, stop: Stop) -> None:
            with suppress(WorkerLostError):
                await worker.stop(stop)

        for worker in self._at_work.values():
            if self._shutdown.stop is not None:
                sending.start_soon(send_stop, worker, self._shutdown.stop)


def share_of_jobs(settings: Settings, shards: int) -> Settings:
    """The settings of one of so many shards: of the jobs in flight it may have an equal share, rounded up."""
    limits = settings.limits
    share = -(-limits.jobs_in_flight // shards)
    return settings.model_copy(update={"limits": limits.model_copy(update={"jobs_in_flight": share})})


_LOST_HINT = "look into the worker's log (of memory, most often); the same command goes on"
