"""What the executor for Ray does with its workers, which run in this process here: lost, silent, late, and stopped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from classify_batch import RayExecutor, UsageError, aplan, averify
from classify_batch.engine.progress import Progress
from classify_batch.engine.shutdown import Shutdown, Stop
from classify_batch.errors import ExitStatus
from classify_batch.events import Event, FilesCommitted
from classify_batch.limits import Priority
from classify_batch.limits.rate_budget import Done
from classify_batch.operations.run_request import RunRequest
from classify_batch.operations.shards.ending import ShardEnding
from classify_batch.operations.shards.whole import ShardedRun, read_whole
from classify_batch.scale import ray_cluster, ray_executor
from classify_batch.scale.ray_actors import BudgetActor, ShardActor, ShardNews, ShardReport, ShardWork
from classify_batch.scale.ray_cluster import Cluster, WorkerLostError
from classify_batch.scale.ray_executor import ClusterRun, share_of_jobs
from classify_batch.store import place_of
from tests.support.command_line import PATIENCE_S
from tests.support.sandbox_settings import sandbox_settings

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]

IDS = [f"file-{number}" for number in range(24)]

Strike = Callable[["LocalWorker"], Awaitable[ShardReport | None]]


class LocalWorker:
    """A worker in this process. `strike` happens before it begins; what it returns is what the worker says."""

    def __init__(self, strike: Strike | None, starts: bool = True) -> None:
        self.actor = ShardActor()
        self.strike = strike
        self.starts = starts
        self.silent = self.given_up = False

    async def wait_until_started(self) -> int:
        if not self.starts:
            raise WorkerLostError("its node died")
        return 1

    async def carry_out(self, work: ShardWork) -> ShardReport:
        if self.strike is not None and (said := await self.strike(self)) is not None:
            return said
        return await self.actor.carry_out(work)

    async def fetch_news(self) -> ShardNews:
        if self.silent:
            await anyio.sleep_forever()
        return await self.actor.fetch_news()

    async def stop(self, stop: Stop) -> None:
        await self.actor.stop(stop)

    def give_up(self) -> None:
        self.given_up = True


class LocalCluster:
    """A cluster in this process, with places for so many shards.

    `strikes`: for each worker in turn. `never_started`: the workers that are lost before they start.
    """

    def __init__(self, room: int = 3, strikes: Sequence[Strike | None] = (), never_started: Sequence[int] = ()) -> None:
        self.room, self.strikes, self.never_started = room, list(strikes), never_started
        self.workers: list[LocalWorker] = []

    async def count_places(self, cpus: float) -> int:
        assert cpus == 0.25
        return self.room

    def start_budget(self, name: str, **_limits: Any) -> None:
        assert name.startswith("rate ")

    def start_shard(self, _cpus: float, _limits: object) -> LocalWorker:
        assert sum(not worker.given_up for worker in self.workers) < self.room
        strike = self.strikes.pop(0) if self.strikes else None
        self.workers.append(LocalWorker(strike, len(self.workers) not in self.never_started))
        return self.workers[-1]


class Collecting:
    """An observer that keeps what it is given."""

    def __init__(self) -> None:
        self.files = 0

    async def observe(self, event: Event) -> None:
        if isinstance(event, FilesCommitted):
            self.files += sum(event.outcomes.values())


async def planned(folder: Path, **limits: float) -> tuple[ShardedRun, RunRequest]:
    """A run of three shards on the embedded sandbox."""
    settings = sandbox_settings(plan={"files_per_job": 2}, limits={"lease_s": 30.0, **limits})
    await aplan(settings, IDS, folder / "run", shards=3)
    whole = await read_whole(place_of(folder / "run"))
    assert whole is not None
    return whole, RunRequest(settings, None, whole.place)


async def carry_out(
    cluster: LocalCluster, whole: ShardedRun, request: RunRequest, shutdown: Shutdown | None = None
) -> list[ShardEnding]:
    run = ClusterRun.start(cast("Cluster", cluster), 0.25, whole, request, shutdown or Shutdown())
    endings = await run.carry_out(range(len(whole.ranges)))
    assert all(worker.given_up for worker in cluster.workers)
    return [endings[index] for index in sorted(endings)]


async def test_shards_find_their_places(tmp_path: Path) -> None:
    """Each shard has a worker of its own, never more at once than there are places; what it sees is seen here."""
    shown: list[Progress] = []
    observer = Collecting()
    whole, request = await planned(tmp_path)
    request = RunRequest(request.settings, None, request.place, on_progress=shown.append, observers=[observer])
    endings = await carry_out(LocalCluster(room=2), whole, request)
    assert [ending.exit_status for ending in endings] == [ExitStatus.COMPLETE] * 3
    assert (await averify(tmp_path / "run")).complete
    assert observer.files == len(IDS)
    assert sum(shown[-1].outcomes.values()) == len(IDS)


async def test_a_lost_workers_shard_is_taken_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A worker that died at once, and one that died when its shard was done: others carry these shards out."""

    async def dies(_worker: LocalWorker) -> None:
        raise WorkerLostError("killed")

    whole, request = await planned(tmp_path)
    cluster = LocalCluster(room=1, strikes=[dies, dies, None, dies])
    endings = await carry_out(cluster, whole, request)
    assert all(ending.complete for ending in endings)
    assert len(cluster.workers) == 6
    assert [
        record.getMessage().partition(":")[0] for record in caplog.records if "takes it over" in record.message
    ] == [
        "shard 0",
        "shard 0",
        "shard 1",
    ]
    assert (await averify(tmp_path / "run")).complete


async def test_a_worker_that_is_lost_before_it_starts_is_followed_by_another(tmp_path: Path) -> None:
    """A node may die with the workers that were just placed on it."""
    whole, request = await planned(tmp_path)
    cluster = LocalCluster(never_started=[0, 2, 3])
    endings = await carry_out(cluster, whole, request)
    assert all(ending.complete for ending in endings)
    assert len(cluster.workers) == 6
    assert (await averify(tmp_path / "run")).complete


async def test_a_silent_worker_is_given_up(tmp_path: Path) -> None:
    """One that says nothing for longer than its lease lasts is as good as dead."""

    async def stands_still(worker: LocalWorker) -> None:
        worker.silent = True
        await anyio.sleep_forever()

    whole, request = await planned(tmp_path, lease_s=1.0)
    began_s = anyio.current_time()
    endings = await carry_out(LocalCluster(strikes=[stands_still]), whole, request)
    assert all(ending.complete for ending in endings)
    assert anyio.current_time() - began_s >= 1.0


async def test_one_that_stood_still_and_woke_is_followed_by_another(tmp_path: Path) -> None:
    """A worker that wakes up after its lease says so by itself, before it was given up: its shard isn't left."""

    async def wakes_late(worker: LocalWorker) -> None:
        worker.actor._shutdown.request_stop(Stop("it is another process's, or may be", lease_lost=True))

    whole, request = await planned(tmp_path)
    cluster = LocalCluster(strikes=[wakes_late])
    endings = await carry_out(cluster, whole, request)
    assert all(ending.complete for ending in endings)
    assert len(cluster.workers) == 4


async def test_workers_that_die_for_ever_end_the_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard whose workers die again and again without one more file done ends incomplete, and the others end well."""
    monkeypatch.setattr(ray_executor, "LOSSES_MAX", 3)

    async def dies(_worker: LocalWorker) -> None:
        raise WorkerLostError("out of memory")

    whole, request = await planned(tmp_path)
    cluster = LocalCluster(room=1, strikes=[dies] * 3)
    endings = await carry_out(cluster, whole, request)
    assert [ending.exit_status for ending in endings] == [
        ExitStatus.INCOMPLETE,
        ExitStatus.COMPLETE,
        ExitStatus.COMPLETE,
    ]
    assert "out of memory" in endings[0].reason
    assert "3 times in a row" in endings[0].reason
    assert len(cluster.workers) == 5


async def test_a_locked_shard_is_tried_again(tmp_path: Path) -> None:
    """A worker of an earlier call may not be gone yet: its lock is waited for, for a while."""
    locked = ShardReport(ShardEnding(0, ExitStatus.INCOMPLETE, "process 5 works on it"), locked=True)

    async def is_locked(_worker: LocalWorker) -> ShardReport:
        return locked

    whole, request = await planned(tmp_path)
    endings = await carry_out(LocalCluster(strikes=[is_locked]), whole, request)
    assert all(ending.complete for ending in endings)


async def test_a_shard_that_stays_locked_is_left(tmp_path: Path) -> None:
    """What another process holds for longer than a lease is that one's; the shards besides it are carried out."""

    delays_s = [0.0, ray_executor.LOCK_GRACE_LEASES * 2.0]

    async def is_locked(_worker: LocalWorker) -> ShardReport:
        await anyio.sleep(delays_s.pop(0))
        return ShardReport(ShardEnding(0, ExitStatus.INCOMPLETE, "process 5 works on it"), locked=True)

    whole, request = await planned(tmp_path, lease_s=2.0)
    endings = await carry_out(LocalCluster(room=1, strikes=[is_locked] * 2), whole, request)
    assert [ending.reason for ending in endings] == ["process 5 works on it", "", ""]


async def test_what_a_worker_misses_is_a_usage_error(tmp_path: Path) -> None:
    """A worker without a key says so, and the call ends with its words."""

    async def has_no_key(_worker: LocalWorker) -> ShardReport:
        return ShardReport(ShardEnding(0, ExitStatus.USAGE, "no API key", "set LLAMA_CLOUD_API_KEY", called=False))

    whole, request = await planned(tmp_path)
    with pytest.raises(UsageError, match=r"^shard 0: no API key$") as raised:
        await carry_out(LocalCluster(strikes=[has_no_key]), whole, request)
    assert raised.value.hint == "set LLAMA_CLOUD_API_KEY"


async def test_a_stop_reaches_the_workers(tmp_path: Path) -> None:
    """A first signal stops every worker as it would stop a process; nothing further is begun."""
    whole, request = await planned(tmp_path)
    shutdown, cluster = Shutdown(), LocalCluster(room=1)

    async def stops(_worker: LocalWorker) -> None:
        shutdown.request_stop(Stop("interrupted by SIGTERM"))
        await anyio.sleep(0.1)

    cluster.strikes = [stops]
    endings = await carry_out(cluster, whole, request, shutdown)
    assert [(ending.shard, ending.exit_status) for ending in endings] == [(0, ExitStatus.INCOMPLETE)]
    assert "SIGTERM" in endings[0].reason


async def test_a_worker_that_does_not_stop_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command leaves in time, whatever a worker does."""
    monkeypatch.setattr(ray_executor, "STOP_TIMEOUT_S", 0.3)
    whole, request = await planned(tmp_path)
    shutdown = Shutdown()

    async def hangs(_worker: LocalWorker) -> None:
        shutdown.request_stop(Stop("interrupted by SIGTERM"))
        await anyio.sleep_forever()

    with anyio.fail_after(PATIENCE_S):
        endings = await carry_out(LocalCluster(room=1, strikes=[hangs]), whole, request, shutdown)
    assert endings[0].reason == "its worker did not stop in time"


async def test_what_a_person_must_mend_stops_all(tmp_path: Path) -> None:
    """A shard that ends since its key was refused stops the others: they would meet the same."""

    async def refused(_worker: LocalWorker) -> ShardReport:
        return ShardReport(ShardEnding(0, ExitStatus.PERSON, "the key was refused", "check it"))

    whole, request = await planned(tmp_path)
    shutdown = Shutdown()
    endings = await carry_out(LocalCluster(room=1, strikes=[refused]), whole, request, shutdown)
    assert [ending.exit_status for ending in endings] == [ExitStatus.PERSON]
    assert shutdown.stop is not None
    assert shutdown.stop.status is ExitStatus.PERSON


async def test_an_actor_says_what_fails(tmp_path: Path) -> None:
    """Errors for people travel as endings, with their words; a directory that it can't see is one of them."""
    settings = sandbox_settings()
    work = ShardWork(str(tmp_path / "nowhere"), 3, settings, False, False, None, None, None)
    said = await ShardActor().carry_out(work)
    assert (said.ending.shard, said.ending.exit_status, said.locked) == (3, ExitStatus.USAGE, False)
    assert "no run with shards" in said.ending.reason
    assert "same path" in said.ending.hint


async def test_an_actor_keeps_so_many_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody fetches is dropped and counted; what was fetched is not reported twice."""
    monkeypatch.setattr("classify_batch.scale.ray_actors.EVENTS_KEPT", 3)
    actor = ShardActor()
    for number in range(5):
        await actor.observe(FilesCommitted(number, 1, {}))
    news = await actor.fetch_news()
    assert (len(news.events), news.dropped) == (3, 2)
    assert await actor.fetch_news() == ShardNews(None, [], 0)


async def test_the_budgets_actor_hands_out_turns() -> None:
    """It begins with the first question, in the loop of its process."""
    actor = BudgetActor(50.0, 4, None)
    turn = await actor.take_turn("one", 1, Priority.CREATE)
    assert turn is not None
    assert not (await actor.report("one", [Done(1)])).broken
    assert actor._serving is not None
    actor._serving.cancel()


def test_jobs_in_flight_are_shared() -> None:
    """Each shard may have an equal share, rounded up; none stays none."""
    assert share_of_jobs(sandbox_settings(limits={"jobs_in_flight": 50}), 8).limits.jobs_in_flight == 7
    assert share_of_jobs(sandbox_settings(limits={"jobs_in_flight": 3}), 8).limits.jobs_in_flight == 1
    assert share_of_jobs(sandbox_settings(limits={"jobs_in_flight": 0}), 8).limits.jobs_in_flight == 0


@pytest.mark.parametrize(
    ("given", "words"), [({"address": " "}, "address"), ({"cpus_per_shard": 0.0}, "cpus_per_shard")]
)
def test_an_odd_executor_is_refused(given: dict[str, Any], words: str) -> None:
    """An empty address and a shard that asks for nothing are errors at once."""
    with pytest.raises(UsageError, match=words):
        RayExecutor(**given)


async def test_a_worker_without_a_place_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop gives a worker up that was not started yet, at once."""
    monkeypatch.setattr(ray_executor, "STOP_TIMEOUT_S", 2 * PATIENCE_S)
    whole, request = await planned(tmp_path)
    shutdown = Shutdown()

    class Pending(LocalWorker):
        async def wait_until_started(self) -> int:
            shutdown.request_stop(Stop("interrupted by SIGTERM"))
            await anyio.sleep_forever()
            raise AssertionError

    class Full(LocalCluster):
        def start_shard(self, _cpus: float, _limits: object) -> LocalWorker:
            self.workers.append(Pending(None))
            return self.workers[-1]

    with anyio.fail_after(PATIENCE_S):
        endings = await carry_out(Full(room=1), whole, request, shutdown)
    assert endings[0].reason == "interrupted by SIGTERM"


class FakeRay:
    """What `join_cluster` calls of Ray."""

    def __init__(self) -> None:
        self.inits = self.shutdowns = 0

    def is_initialized(self) -> bool:
        return self.inits > self.shutdowns

    def init(self, **_how: object) -> None:
        self.inits += 1

    def shutdown(self) -> None:
        self.shutdowns += 1


async def test_runs_of_one_process_share_its_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run joins, the last one leaves; one that wants another cluster meanwhile is refused."""
    ray = FakeRay()
    monkeypatch.setattr(ray_cluster, "prepare_and_import_ray", lambda **_how: ray)
    async with AsyncExitStack() as first:
        await first.enter_async_context(ray_cluster.join_cluster(None))
        async with ray_cluster.join_cluster(None):
            with pytest.raises(UsageError, match="another cluster"):
                async with ray_cluster.join_cluster("auto"):
                    pass
        assert (ray.inits, ray.shutdowns) == (1, 0)
    assert (ray.inits, ray.shutdowns) == (1, 1)
    async with ray_cluster.join_cluster(None):
        assert ray.inits == 2
    assert ray.shutdowns == 2


async def test_a_cluster_of_the_program_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who joined a cluster before stays in it."""
    ray = FakeRay()
    ray.init()
    monkeypatch.setattr(ray_cluster, "prepare_and_import_ray", lambda **_how: ray)
    async with ray_cluster.join_cluster(None):
        pass
    assert (ray.inits, ray.shutdowns) == (1, 0)
