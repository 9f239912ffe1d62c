"""The one file that speaks to Ray: a cluster that is joined or started, its actors, and what its errors mean."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio

from classify_batch.engine.shutdown import Stop
from classify_batch.errors import UsageError, WorldError, missing_extra
from classify_batch.limits import Gate, Priority, RequestGate
from classify_batch.limits.leased_gate import LeasedGate
from classify_batch.limits.rate_budget import BudgetGoneError, BudgetState, Report, Turn
from classify_batch.scale.ray_actors import BudgetActor, ShardActor, ShardNews, ShardSaid, ShardWork

if TYPE_CHECKING:
    from types import ModuleType

NAMESPACE = "classify_batch"

AUTO = "auto"
LOCAL = "local"
"""Without it, Ray would join whatever cluster was on this machine last, dead or alive."""

REACHES_WITHIN_S = 10.0
JOINS_WITHIN_S = 60.0
LEAVES_WITHIN_S = 5.0

_QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
"""Nobody is told that this was run."""

_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Else Ray takes the machine's own address in the place of the loopback address."""


class WorkerLostError(Exception):
    """A worker's process died, or can't be reached any more."""


def import_ray(*, starts_here: bool) -> ModuleType:
    """Ray. Raises UsageError where it isn't installed. `starts_here`: to start a cluster that only this machine
    reaches."""
    for name, value in {**_QUIET, **(_LOOPBACK if starts_here else {})}.items():
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
    ray = import_ray(starts_here=address is None)
    if ray.is_initialized():
        yield Cluster(ray)
        return
    how: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "namespace": NAMESPACE}
    if address is None:
        how |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    elif address != AUTO:
        await _reach(address)
    membership = _Membership(ray, how | {"address": address or LOCAL})
    try:
        await _wait_until_joined(membership, address)
        yield Cluster(ray)
    finally:
        with anyio.move_on_after(LEAVES_WITHIN_S, shield=True):
            await membership.leave()


async def _wait_until_joined(membership: _Membership, address: str | None) -> None:
    try:
        with anyio.fail_after(JOINS_WITHIN_S):
            await membership.joined()
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _no_cluster(address, str(error).strip() or type(error).__name__) from error
    except TimeoutError:
        words = (
            f"no answer within {JOINS_WITHIN_S:g} s; does it want a token (RAY_AUTH_TOKEN) that this process hasn't?"
        )
        raise _no_cluster(address, words) from None


async def _reach(address: str) -> None:
    """Raises WorldError where nobody listens at an address: Ray itself would try for minutes, and print much."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()):
        raise UsageError(f"{address!r} is no address of a Ray cluster", hint="such as 10.0.0.5:6379, or auto")
    try:
        with anyio.fail_after(REACHES_WITHIN_S):
            stream = await anyio.connect_tcp(host.strip("[]"), int(port))
    except (OSError, TimeoutError) as error:
        raise _no_cluster(address, str(error) or "no answer") from error
    await stream.aclose()


def _no_cluster(address: str | None, why: str) -> WorldError:
    where = "a cluster of Ray could not be started here" if address is None else f"no cluster of Ray at {address}"
    return WorldError(
        f"{where}: {why}", hint="`ray status` shows what is there; without an address, one is started on this machine"
    )


class _Membership:
    """Of a cluster, in a thread of its own. Joining may take for ever, and must keep no process from ending; in the
    main thread Ray would take the handler of SIGTERM for itself; and a cluster that was started ends with the thread
    that started it."""

    def __init__(self, ray: ModuleType, how: dict[str, Any]) -> None:
        self._ray, self._how = ray, how
        self._loop = asyncio.get_running_loop()
        self._joined: asyncio.Future[Exception | None] = self._loop.create_future()
        self._left: asyncio.Future[Exception | None] = self._loop.create_future()
        self._leaves = threading.Event()
        threading.Thread(target=self._work, daemon=True).start()

    async def joined(self) -> None:
        """Returns when it has joined; raises whatever Ray does."""
        if (error := await asyncio.shield(self._joined)) is not None:
            raise error

    async def leave(self) -> None:
        """Returns when it has left."""
        self._leaves.set()
        await asyncio.shield(self._left)

    def _work(self) -> None:
        error: Exception | None = None
        try:
            self._ray.init(**self._how)
        except Exception as failed:  # noqa: BLE001 - whoever waits for it raises it
            error = failed
        self._tell(self._joined, error)
        if error is None:
            self._leaves.wait()
            with suppress(Exception):  # whatever is left of the cluster must not hide how the run ended
                self._ray.shutdown()
        self._tell(self._left, None)

    def _tell(self, waits: asyncio.Future[Exception | None], error: Exception | None) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(waits.set_result, error)


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
