"""Leases of a shard: who has it, until when, and who waits for whom. In virtual time."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest

from classify_batch.clock import SystemClock
from classify_batch.errors import DamagedError, LockedError, StoreError
from classify_batch.store import lease as leases
from classify_batch.store.lease import FileLease, claim_lease, lease_name, read_last_lease, stands_still
from classify_batch.store.memory import MemoryStore

pytestmark = pytest.mark.anyio

LEASE_S = 30.0


@pytest.fixture(autouse=True)
def wall_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock is the loop's, too."""
    monkeypatch.setattr("classify_batch.clock.SystemClock.wall_s", lambda _self: anyio.current_time())


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows of another process whether it lives."""
    monkeypatch.setattr(leases, "_machine", lambda: None)


def is_over(lease: FileLease) -> bool:
    return not lease.check_held()


class InterruptingStore(MemoryStore):
    """Cancels its caller behind one of the steps that change something, or look."""

    _steps: Iterator[int] = iter(())
    _scope: anyio.CancelScope

    def interrupt_after(self, steps: int, scope: anyio.CancelScope) -> None:
        self._steps, self._scope = iter(range(steps - 1, -1, -1)), scope

    def _count(self) -> None:
        if next(self._steps, None) == 0:
            self._scope.cancel()

    async def names(self) -> frozenset[str]:
        found = await super().names()
        self._count()
        return found

    async def create(self, name: str, data: bytes) -> None:
        await super().create(name, data)
        self._count()

    async def remove(self, name: str) -> None:
        await super().remove(name)
        self._count()

    async def append_undurable(self, name: str, data: bytes) -> int:
        size = await super().append_undurable(name, data)
        self._count()
        return size


async def claim(store: MemoryStore) -> FileLease:
    return await claim_lease(store, LEASE_S, anyio.current_time)


async def test_a_lease_is_held_for_as_long_as_it_is_renewed() -> None:
    """It is renewed for hours; once nobody does, it ends after its time, and is lost for good."""
    lease = await claim(MemoryStore())
    assert lease.epoch == 1
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lease.keep)
        for _ in range(100):
            await anyio.sleep(100.0)
            assert lease.check_held()
        tasks.cancel_scope.cancel()
    await anyio.sleep(LEASE_S - LEASE_S / leases.RENEWALS)
    assert lease.check_held()
    await anyio.sleep(LEASE_S / leases.RENEWALS)
    assert is_over(lease)
    await lease.keep()
    assert lease.lost.is_set()


@pytest.mark.usefixtures("elsewhere")
async def test_who_takes_over_waits_until_nothing_can_be_sent() -> None:
    """The last owner was never heard of again: from the claim on it renews nothing, and it is waited for."""
    store = MemoryStore()
    first, held_together = await claim(store), 0
    owners: list[FileLease] = []
    async with anyio.create_task_group() as tasks:

        async def take_over() -> None:
            owners.append(await claim(store))
            tasks.cancel_scope.cancel()

        tasks.start_soon(first.keep)
        await anyio.sleep(100.0)
        began_s = anyio.current_time()
        tasks.start_soon(take_over)
        while True:
            await anyio.sleep(0.5)
            held_together += first.check_held() and any(owner.check_held() for owner in owners)
    assert (held_together, owners[0].epoch, owners[0].check_held(), first.lost.is_set()) == (0, 2, True, True)
    assert anyio.current_time() - began_s >= LEASE_S
    assert await store.names() == {lease_name(2)}


async def test_nobody_waits_for_who_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that was given back, and one of a process of this machine that is dead, are not waited for; one of a
    process that lives is."""
    store, began_s = MemoryStore(), anyio.current_time()
    await (await claim(store)).release()
    with monkeypatch.context() as patched:
        patched.setattr(leases, "start_of", lambda _pid: "long ago")
        await claim(store)
    assert (await claim(store)).epoch == 3
    assert anyio.current_time() == began_s
    assert (await claim(store)).epoch == 4
    assert anyio.current_time() - began_s >= LEASE_S


@pytest.mark.usefixtures("elsewhere")
async def test_a_claim_that_was_not_waited_out_is_waited_out_by_the_next() -> None:
    """Who took over died while it waited for an owner with a long lease: the next one waits for as long, though its own
    lease, and that of the dead one, are short."""
    store = MemoryStore()
    first = await claim(store)
    with anyio.move_on_after(1.0):
        await claim_lease(store, 1.0, anyio.current_time)
    began_s = anyio.current_time()
    assert first.check_held()
    assert (await claim_lease(store, 1.0, anyio.current_time)).epoch == 3
    assert anyio.current_time() - began_s >= LEASE_S
    assert is_over(first)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("earlier", ["none", "given back", "lives"])
async def test_a_claim_that_is_interrupted_leaves_nobody_to_wait_for(earlier: str) -> None:
    """At whichever step who claims is cancelled: the next one waits for an earlier owner that may live, if it was not
    waited for yet, and never for who was cancelled."""
    for steps in range(1, 100):
        store = InterruptingStore()
        if earlier != "none":
            first = await claim(store)
            if earlier == "given back":
                await first.release()
        with anyio.CancelScope() as scope:
            store.interrupt_after(steps, scope)
            await claim(store)
        if not scope.cancelled_caught:
            assert steps > 3
            return
        last = await read_last_lease(store)
        lives = earlier == "lives" and (last is None or not last.owned or last.epoch == 1)
        began_s = anyio.current_time()
        assert (await claim(store)).check_held()
        assert (anyio.current_time() - began_s >= LEASE_S) == lives, steps
    raise AssertionError("a claim has no end")


@pytest.mark.usefixtures("elsewhere")
async def test_of_two_that_claim_one_gets_it() -> None:
    """However their steps fall: one has the shard, and the other gets the error that it is in use."""
    store = MemoryStore()
    await claim(store)
    got, refused = list[FileLease](), 0

    async def compete() -> None:
        nonlocal refused
        try:
            got.append(await claim(store))
        except LockedError:
            refused += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(compete)
    assert (len(got), refused) == (1, 4)


@pytest.mark.usefixtures("elsewhere")
async def test_only_who_stands_still_is_taken_for_it() -> None:
    """A process that renews its lease, or waits for the one before it, is at work; one that doesn't for longer than its
    lease, though it holds the lock, isn't."""
    store, error = MemoryStore(), LockedError("in use")
    with pytest.raises(LockedError):
        await stands_still(store, error)
    first = await claim(store)
    with pytest.raises(LockedError):
        await stands_still(store, error)
    await anyio.sleep(10 * LEASE_S)
    await stands_still(store, error)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(claim, store)  # waits for the first
        for _ in range(20):
            await anyio.sleep(1.0)
            with pytest.raises(LockedError):
                await stands_still(store, error)
    assert not first.check_held()


async def test_a_beat_of_the_future_is_no_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose clock is ahead stands still, too: whether lines come is looked at, not the time in them."""
    store, error = MemoryStore(), LockedError("in use")
    with monkeypatch.context() as patched:
        patched.setattr(leases, "_beat", lambda: b"%.3f\n" % (SystemClock().wall_s() + 7200.0))
        await claim(store)
    await stands_still(store, error)


async def test_a_disk_that_refuses_ends_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be renewed runs out."""
    store = MemoryStore()
    lease = await claim(store)

    async def refuse(_name: str, _data: bytes) -> int:
        raise StoreError("full")

    monkeypatch.setattr(store, "append_undurable", refuse)
    with anyio.fail_after(2 * LEASE_S):
        await lease.keep()
    assert not lease.check_held()


@pytest.mark.parametrize("data", [b"", b"{}\n", b"[]\n", b'{"lease_s": "x"}\n'])
async def test_a_damaged_lease_is_reported(data: bytes) -> None:
    """It names the file; nobody guesses who had the shard."""
    store = MemoryStore({lease_name(7): data})
    with pytest.raises(DamagedError, match=r"lease\.7\.jsonl"):
        await claim(store)
    assert await read_last_lease(MemoryStore()) is None


@pytest.mark.usefixtures("elsewhere")
async def test_a_renewal_that_a_power_cut_has_torn_is_passed_over() -> None:
    """Renewals are not made durable: a page of them may be gone after a power cut. The shard is taken over as ever, and
    waited for."""
    store = MemoryStore()
    await claim(store)
    await store.append_undurable(lease_name(1), b"17957\0\0\0\0\x002.351\n12.5\n17957")
    last = await read_last_lease(store)
    assert last is not None
    assert (last.beat_s, last.owned) == (17957.0, True)
    began_s = anyio.current_time()
    assert (await claim(store)).epoch == 2
    assert anyio.current_time() - began_s >= LEASE_S
