"""The one file that speaks to Ray: a cluster that is joined or started, its actors, and what its errors mean."""

from __future__ import annotations

import logging
import os
import socket
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
from anyio import to_thread

from classify_batch.engine.shutdown import Stop
from classify_batch.errors import WorldError, missing_extra
from classify_batch.limits import Gate, Priority, RequestGate
from classify_batch.limits.leased_gate import LeasedGate
from classify_batch.limits.rate_budget import BudgetGoneError, BudgetState, Report, Turn
from classify_batch.scale.ray_actors import BudgetActor, ShardActor, ShardNews, ShardSaid, ShardWork

if TYPE_CHECKING:
    from types import ModuleType

NAMESPACE = "classify_batch"

JOINS_WITHIN_S = 60.0

_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0"}
"""Nobody is told that this was run."""


class WorkerLostError(Exception):
    """A worker's process died, or can't be reached any more."""


def import_ray() -> ModuleType:
    """Ray. Raises UsageError where it isn't installed."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray  # noqa: PLC0415 - an extra, which takes a second to load
    except ImportError:
        raise missing_extra("the executor ray needs Ray", "ray") from None
    module: ModuleType = ray
    return module


@asynccontextmanager
async def joined(address: str | None) -> AsyncIterator[Cluster]:
    """Joins the cluster at an address, or starts one on this machine, whose processes end with the block. A cluster
    that the program has joined already is used, and left as it is.

    Raises:
        UsageError: Ray is not installed.
        WorldError: there is no cluster at the address.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield Cluster(ray)
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "namespace": NAMESPACE}
    if address is None:
        quiet |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        # In a thread: it takes seconds, and in the main thread it would take the handler of SIGTERM for itself.
        with anyio.fail_after(JOINS_WITHIN_S):
            await to_thread.run_sync(lambda: ray.init(address=address, **quiet), abandon_on_cancel=True)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        where = "a cluster could not be started here" if address is None else f"no cluster of Ray at {address}"
        raise WorldError(
            f"{where}: {str(error).strip() or type(error).__name__}",
            hint="`ray status` shows what is there; without an address, one is started on this machine",
        ) from error
    try:
        yield Cluster(ray)
    finally:
        with (
            anyio.CancelScope(shield=True),
            suppress(Exception),
        ):  # whatever is left of it must not hide how the run ended
            await to_thread.run_sync(ray.shutdown)


class Cluster:
    """A cluster that this process has joined."""

    def __init__(self, ray: ModuleType) -> None:
        self._ray = ray

    def room_for(self, cpus: float) -> int:
        """How many actors fit into it that take so many CPUs each; one at least, that waits for its place."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 0) / cpus + 1e-6))

    def start_budget(
        self, name: str, *, requests_per_s: float, requests_in_flight: int, creates_per_s: float | None
    ) -> Any:
        """The actor that hands out turns, on this machine if it can be; begun again where its process dies."""
        here = self._ray.get_runtime_context().get_node_id()
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=True)
        actor = self._ray.remote(BudgetActor).options(
            name=name,
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
            max_concurrency=10_000,
            scheduling_strategy=strategy,
        )
        return actor.remote(requests_per_s, requests_in_flight, creates_per_s)

    def start_shard(self, cpus: float, limits: LeasedLimits) -> Worker:
        """An actor for a shard, wherever there is a place for it."""
        actor = self._ray.remote(ShardActor).options(num_cpus=cpus, max_restarts=0)
        return Worker(self._ray, actor.remote(limits))


class Worker:
    """A shard's actor, as its owner sees it. Every call raises WorkerLostError where its process is gone."""

    def __init__(self, ray: ModuleType, actor: Any) -> None:
        self._ray, self._actor = ray, actor

    async def started(self) -> int:
        """Returns when there was a place for it; gives its process ID."""
        process_id: int = await self._ask(self._actor.process_id.remote())
        return process_id

    async def carry_out(self, work: ShardWork) -> ShardSaid:
        """See `ShardActor`."""
        said: ShardSaid = await self._ask(self._actor.carry_out.remote(work))
        return said

    async def news(self) -> ShardNews:
        """See `ShardActor`."""
        news: ShardNews = await self._ask(self._actor.news.remote())
        return news

    async def stop(self, stop: Stop) -> None:
        """See `ShardActor`."""
        await self._ask(self._actor.stop.remote(stop))

    def give_up(self) -> None:
        """Ends the process, if it is still there and can be reached."""
        with suppress(Exception):
            self._ray.kill(self._actor)

    async def _ask(self, answer: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return await answer
        except errors.RayTaskError as error:
            raise (error.cause or error) from None  # a fault of ours in the worker
        except errors.RayError as error:
            raise WorkerLostError(str(error).partition("\n")[0]) from error


class RayBudget:
    """`Budget`, behind an actor of this cluster."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def take_turn(self, holder: str, turn_id: int, priority: Priority) -> Turn | None:
        turn: Turn | None = await _answered(self._actor.take_turn.remote(holder, turn_id, priority))
        return turn

    async def report(self, holder: str, reports: Sequence[Report]) -> BudgetState:
        state: BudgetState = await _answered(self._actor.report.remote(holder, reports))
        return state


async def _answered(answer: Any) -> Any:
    from ray.exceptions import RayError  # noqa: PLC0415 - an extra

    try:
        return await answer
    except RayError as error:
        raise BudgetGoneError(str(error)) from error


class LeasedLimits:
    """A `GateSource` that travels to a worker: each gate takes its turns from the budget's actor.

    Args:
        own_per_s, own_creates_per_s: what a shard may send where there is no budget.
    """

    def __init__(
        self, actor: Any, *, requests_in_flight: int, own_per_s: float, own_creates_per_s: float | None
    ) -> None:
        self._actor = actor
        self._requests_in_flight = requests_in_flight
        self._own_per_s, self._own_creates_per_s = own_per_s, own_creates_per_s

    def gate_of_one_run(self) -> Gate:
        own_share = RequestGate(
            requests_in_flight=self._requests_in_flight,
            requests_per_s=self._own_per_s,
            creates_per_s=self._own_creates_per_s,
        )
        holder = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4()}"
        return LeasedGate(RayBudget(self._actor), holder, own_share)
