"""The one file that speaks to Ray: a cluster that is joined or started, its actors, and what its errors mean."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import uuid
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
from anyio import to_thread

from classify_batch.engine.shutdown import Stop
from classify_batch.errors import UsageError, WorldError, missing_extra
from classify_batch.limits import Gate, Priority, RequestGate
from classify_batch.limits.leased_gate import LeasedGate
from classify_batch.limits.rate_budget import BudgetGoneError, BudgetState, Report, Turn
from classify_batch.scale.ray_actors import BudgetActor, ShardActor, ShardNews, ShardReport, ShardWork

if TYPE_CHECKING:
    from types import ModuleType

NAMESPACE = "classify_batch"

AUTO = "auto"
LOCAL = "local"
"""As address it starts a new cluster; None would join one that was left on this machine, dead or alive."""

CONNECT_TIMEOUT_S = 10.0
JOIN_TIMEOUT_S = 60.0
SHUTDOWN_TIMEOUT_S = 5.0

_QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
"""Sends no usage statistics to Ray's makers."""

_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Else Ray takes the machine's own address in the place of the loopback address."""


class WorkerLostError(Exception):
    """A worker's process died, or can't be reached any more."""


def prepare_and_import_ray(*, starts_here: bool) -> ModuleType:
    """Sets the environment variables that Ray reads when it is imported, where they aren't set, and imports it.

    Args:
        starts_here: whether it is to start a cluster that only this machine reaches.

    Raises:
        UsageError: it isn't installed.
    """
    for name, value in {**_QUIET, **(_LOOPBACK if starts_here else {})}.items():
        os.environ.setdefault(name, value)
    try:
        import ray  # noqa: PLC0415 - an extra, which takes a second to load
    except ImportError:
        raise missing_extra("the executor ray needs Ray", "ray") from None
    module: ModuleType = ray
    return module


@asynccontextmanager
async def join_cluster(address: str | None) -> AsyncIterator[Cluster]:
    """Joins the cluster at an address, or starts one on this machine, whose processes end with the block. A cluster
    that the program has joined already is used, and left as it is.

    Raises:
        UsageError: Ray is not installed.
        WorldError: there is no cluster at the address.
    """
    ray = prepare_and_import_ray(starts_here=address is None)
    if _own_memberships or not ray.is_initialized():
        async with _sharing_membership(ray, address):
            yield Cluster(ray)
    else:  # the program itself has joined one
        yield Cluster(ray)


@asynccontextmanager
async def _sharing_membership(ray: ModuleType, address: str | None) -> AsyncIterator[None]:
    """A process belongs to one cluster at a time. The first run joins it, and the last one leaves it."""
    how: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "namespace": NAMESPACE}
    if address is None:
        how |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    elif address != AUTO and not _own_memberships:
        await _check_reachable(address)
    with _membership_lock:
        membership = _own_memberships[-1] if _own_memberships else _Membership(ray, address, how)
        if membership.address != address:
            raise UsageError(
                "another run of this process is on another cluster of Ray", hint="wait for its end, or use one cluster"
            )
        _own_memberships.append(membership)
    try:
        await _wait_until_joined(membership, address)
        yield
    finally:
        with _membership_lock:
            _own_memberships.remove(membership)
            leaves = not _own_memberships
        if leaves:
            with anyio.move_on_after(SHUTDOWN_TIMEOUT_S, shield=True):
                await membership.leave_cluster()


async def _wait_until_joined(membership: _Membership, address: str | None) -> None:
    try:
        with anyio.fail_after(JOIN_TIMEOUT_S):
            await membership.wait_until_joined()
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _no_cluster_error(address, str(error).strip() or type(error).__name__) from error
    except TimeoutError:
        words = (
            f"no answer within {JOIN_TIMEOUT_S:g} s; does it want a token (RAY_AUTH_TOKEN) that this process hasn't?"
        )
        raise _no_cluster_error(address, words) from None


async def _check_reachable(address: str) -> None:
    """Raises WorldError where nobody listens at an address: Ray itself would try for minutes, and print much."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()):
        raise UsageError(f"{address!r} is no address of a Ray cluster", hint="such as 10.0.0.5:6379, or auto")
    try:
        with anyio.fail_after(CONNECT_TIMEOUT_S):
            stream = await anyio.connect_tcp(host.strip("[]"), int(port))
    except (OSError, TimeoutError) as error:
        raise _no_cluster_error(address, str(error) or "no answer") from error
    await stream.aclose()


def _no_cluster_error(address: str | None, why: str) -> WorldError:
    where = "a cluster of Ray could not be started here" if address is None else f"no cluster of Ray at {address}"
    return WorldError(
        f"{where}: {why}", hint="`ray status` shows what is there; without an address, one is started on this machine"
    )


class _Membership:
    """Of a cluster, in a thread of its own. Joining may take for ever, and must keep no process from ending; in the
    main thread Ray would take the handler of SIGTERM for itself; and a cluster that was started ends with the thread
    that started it."""

    def __init__(self, ray: ModuleType, address: str | None, how: dict[str, Any]) -> None:
        self.address = address
        self._ray, self._how = ray, how | {"address": address or LOCAL}
        self._joined = Future[Exception | None]()
        self._left = Future[None]()
        self._leaves = threading.Event()
        threading.Thread(target=self._join_and_leave, daemon=True).start()

    async def wait_until_joined(self) -> None:
        """Returns when it has joined; raises whatever Ray does."""
        if (error := await asyncio.shield(asyncio.wrap_future(self._joined))) is not None:
            raise error

    async def leave_cluster(self) -> None:
        """Returns when it has left."""
        self._leaves.set()
        await asyncio.shield(asyncio.wrap_future(self._left))

    def _join_and_leave(self) -> None:
        error: Exception | None = None
        try:
            self._ray.init(**self._how)
        except Exception as failed:  # noqa: BLE001 - whoever waits for it raises it
            error = failed
        self._joined.set_result(error)
        if error is None:
            self._leaves.wait()
            with suppress(Exception):  # whatever is left of the cluster must not hide how the run ended
                self._ray.shutdown()
        self._left.set_result(None)


_own_memberships: list[_Membership] = []
"""One and the same, once for each run that uses it."""
_membership_lock = threading.Lock()


class Cluster:
    """A cluster that this process has joined."""

    def __init__(self, ray: ModuleType) -> None:
        self._ray = ray

    async def count_places(self, cpus: float) -> int:
        """How many actors fit into it that take so many CPUs each; one at least, that waits for its place."""
        resources = await to_thread.run_sync(self._ray.cluster_resources, abandon_on_cancel=True)
        return max(1, int(resources.get("CPU", 0) / cpus + 1e-6))

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

    async def wait_until_started(self) -> int:
        """Returns when there was a place for it; gives its process ID."""
        process_id: int = await self._call_worker(self._actor.process_id.remote())
        return process_id

    async def carry_out(self, work: ShardWork) -> ShardReport:
        """See `ShardActor`."""
        report: ShardReport = await self._call_worker(self._actor.carry_out.remote(work))
        return report

    async def fetch_news(self) -> ShardNews:
        """See `ShardActor`."""
        news: ShardNews = await self._call_worker(self._actor.fetch_news.remote())
        return news

    async def stop(self, stop: Stop) -> None:
        """See `ShardActor`."""
        await self._call_worker(self._actor.stop.remote(stop))

    def give_up(self) -> None:
        """Ends the process, if it is still there and can be reached."""
        with suppress(Exception):
            self._ray.kill(self._actor)

    async def _call_worker(self, answer: Any) -> Any:
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
        turn: Turn | None = await _call_budget(self._actor.take_turn.remote(holder, turn_id, priority))
        return turn

    async def report(self, holder: str, reports: Sequence[Report]) -> BudgetState:
        state: BudgetState = await _call_budget(self._actor.report.remote(holder, reports))
        return state


async def _call_budget(answer: Any) -> Any:
    from ray.exceptions import RayError, RayTaskError  # noqa: PLC0415 - an extra

    try:
        return await answer
    except RayTaskError as error:
        raise (error.cause or error) from None  # a fault of ours in the actor
    except RayError as error:
        raise BudgetGoneError(str(error)) from error


class LeasedLimits:
    """A `GateSource` that travels to a worker: each gate takes its turns from the budget's actor.

    Args:
        requests_per_s, creates_per_s: of all shards together.
        share: how much of that one shard may send where there is no budget.
    """

    def __init__(
        self, actor: Any, *, requests_in_flight: int, requests_per_s: float, creates_per_s: float | None, share: float
    ) -> None:
        self._actor = actor
        self._requests_in_flight = requests_in_flight
        self._requests_per_s, self._creates_per_s, self._share = requests_per_s, creates_per_s, share

    def gate_of_one_run(self) -> Gate:
        own_share = RequestGate(
            requests_in_flight=self._requests_in_flight,
            requests_per_s=self._requests_per_s * self._share,
            creates_per_s=None if self._creates_per_s is None else self._creates_per_s * self._share,
        )
        holder = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4()}"
        return LeasedGate(RayBudget(self._actor), holder, own_share, self._share)
