"""Owning a shard: what is claimed is given back, whatever happens in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import pytest

from classify_batch.engine.shutdown import Shutdown
from classify_batch.errors import LockedError, StoreError
from classify_batch.operations import ownership
from classify_batch.operations.ownership import keeping_lease, own_shard
from classify_batch.operations.run_resources import open_locked
from classify_batch.ports import Lease, RunPlace, RunStore
from classify_batch.store import place_of
from classify_batch.store.disk import DiskStore
from classify_batch.store.lease import RENEWALS, claim_lease, lease_name, read_last_lease
from classify_batch.vocabulary import Log
from tests.support.command_line import until

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]


@dataclass
class StandingClock:
    """The clock of all leases: their time passes when a test says so, however long a busy machine takes for a step."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> StandingClock:
    """The clock of the leases that are claimed from now on."""
    clock = StandingClock()
    monkeypatch.setattr(ownership, "claim_lease", partial(claim_lease, clock_s=clock))
    return clock


async def stand_still(clock: StandingClock, lease_s: float) -> None:
    """Longer than a lease, also by the wall clock, which says whether a holder may stand still."""
    clock.now_s += lease_s * 1.2
    await anyio.sleep(lease_s * 1.2)


def has_grown(path: Path, size: int) -> bool:
    """Whether a file is larger than that."""
    return path.stat().st_size > size


@pytest.mark.parametrize("kept", [True, False])
async def test_a_lease_is_given_back_also_where_it_was_never_kept(tmp_path: Path, kept: bool) -> None:
    """A stop between claim and keeping leaves nobody to wait for: a next call of the same process begins at once."""
    place = place_of(tmp_path / "shard")
    async with AsyncExitStack() as stack:
        store, lease = await own_shard(place, 30.0, stack)
        await store.create("run.json", b"{}")
        if kept:
            await stack.enter_async_context(keeping_lease(lease, store, Shutdown()))
        last = await read_last_lease(store)
        assert last is not None
        assert not last.needs_no_wait
    last = await read_last_lease(place.open())
    assert last is not None
    assert last.needs_no_wait
    assert not lease.check_held()


async def test_a_process_that_wakes_overwrites_nothing(tmp_path: Path, clock: StandingClock) -> None:
    """It stood still from its very start: another one took the shard and completed it. What the first one then writes
    is refused, whether it has heard yet that its lease has ended or not."""
    place, lease_s = place_of(tmp_path / "shard"), 0.4
    async with AsyncExitStack() as stack:
        still, _ = await own_shard(place, lease_s, stack)
        await stand_still(clock, lease_s)
        async with AsyncExitStack() as later:
            other, _ = await own_shard(place, 30.0, later)
            await other.create("manifest.json", b"complete")
            with pytest.raises(StoreError, match=r"another process's.* limits.lease_s"):
                await still.replace("manifest.json", blocks(b"running"))
            still.append(Log.JOURNAL, b"of an earlier owner\n")
            with pytest.raises(StoreError, match="another process's"):
                await still.commit()
        assert await place.open().read("manifest.json") == b"complete"
        assert await place.open().size(Log.JOURNAL) is None
    last = await read_last_lease(place.open())
    assert last is not None
    assert (last.epoch, last.needs_no_wait) == (2, True)


async def test_a_claimer_that_stood_still_takes_nothing_from_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: StandingClock
) -> None:
    """It took a shard over from a process that stood still, and stood still itself, between its claim and the lock: a
    third one took it over meanwhile. The claimer leaves when it wakes, and the third goes on."""
    lock_directory, claimed, wakes = open_locked, anyio.Event(), anyio.Event()

    async def lock_late(place: RunPlace, stack: AsyncExitStack, *, seize: Lease | None = None) -> RunStore:
        if seize is not None and not claimed.is_set():
            claimed.set()
            await wakes.wait()
        return await lock_directory(place, stack, seize=seize)

    monkeypatch.setattr(ownership, "open_locked", lock_late)
    place, lease_s, refused = place_of(tmp_path / "shard"), 0.4, []

    async def claim_and_stand_still() -> None:
        async with AsyncExitStack() as stack:
            with pytest.raises(LockedError) as raised:
                await own_shard(place, lease_s, stack)
            refused.append(raised.value)

    async with AsyncExitStack() as first, AsyncExitStack() as last:
        await own_shard(place, lease_s, first)
        await stand_still(clock, lease_s)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(claim_and_stand_still)
            await claimed.wait()
            await stand_still(clock, lease_s)
            store, lease = await own_shard(place, 30.0, last)
            await store.create("run.json", b"{}")
            wakes.set()
        assert len(refused) == 1
        store.append(Log.JOURNAL, b"1\n")
        await store.commit()
        assert lease.check_held()
        assert lease.epoch == 3


async def test_the_lease_is_kept_while_large_logs_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: StandingClock
) -> None:
    """Whoever takes a shard over gives its logs new files, which may take longer than a lease lasts."""
    place, lease_s, shut_out = place_of(tmp_path / "shard"), 0.4, DiskStore._shut_out_others

    def copy_for_long(store: DiskStore) -> None:
        renewals = tmp_path / "shard" / lease_name(2)
        for _ in range(2 * RENEWALS):  # in a worker thread, as a slow disk would: for two leases
            clock.now_s += lease_s / RENEWALS
            renewed = partial(has_grown, renewals, renewals.stat().st_size)
            until(renewed)
        shut_out(store)

    monkeypatch.setattr(DiskStore, "_shut_out_others", copy_for_long)
    async with AsyncExitStack() as stack:
        still, _ = await own_shard(place, lease_s, stack)
        still.append(Log.JOURNAL, b"1\n")
        await still.commit()
        await stand_still(clock, lease_s)
        async with AsyncExitStack() as later:
            other, lease = await own_shard(place, lease_s, later)
            assert lease.check_held()
            assert await other.read(Log.JOURNAL) == b"1\n"


async def test_what_is_left_is_committed_before_the_lease_is_given_back(tmp_path: Path) -> None:
    """A lease that was given back lets nobody wait: by then all that this process had to write is on the disk."""
    place = place_of(tmp_path / "shard")
    async with AsyncExitStack() as stack:
        store, _ = await own_shard(place, 30.0, stack)
        await store.create("run.json", b"{}")
        store.append(Log.JOURNAL, b"1\n")
    assert await place.open().read(Log.JOURNAL) == b"1\n"


async def blocks(data: bytes) -> AsyncIterator[bytes]:
    yield data
