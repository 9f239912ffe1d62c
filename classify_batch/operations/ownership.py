"""One owner for a shard at a time: by the lock of its directory, and by a lease (see `store/lease.py`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import anyio

from classify_batch.engine.shutdown import Shutdown, Stop
from classify_batch.errors import LockedError, StoreError
from classify_batch.operations.run_resources import finish_writing_before, open_locked
from classify_batch.ports import Lease, RunPlace, RunStore
from classify_batch.store.lease import claim_lease, stands_still
from classify_batch.streams.background import background_tasks


async def own_shard(place: RunPlace, lease_s: float, stack: AsyncExitStack) -> tuple[RunStore, Lease]:
    """Locks a shard and claims its lease; `stack` closes the store.

    Where another process had it before, and may live, this waits until that one's lease has ended. A process that holds
    the lock and has stood still for longer than its lease loses the shard.

    Raises:
        LockedError: another process is at work on it.
    """
    try:
        store = await open_locked(place, stack)
    except LockedError as error:
        claiming = await stack.enter_async_context(place.open())
        await stands_still(claiming, error)
        lease = await claim_lease(claiming, lease_s)
        stack.push_async_callback(_give_back, lease)  # also where the lock can't be taken
        store = await open_locked(place, stack, seize=lease)
        contested = True
    else:
        lease = await claim_lease(store, lease_s)
        contested = lease.waited
    stack.push_async_callback(_give_back, lease)  # while the lock is still held
    async with background_tasks() as tasks:
        tasks.start_soon(lease.keep)  # large logs may take longer than the lease lasts
        await store.fence(lease, _lost_words(store), contested=contested)
    await finish_writing_before(stack, store)  # it is the lease's holder who commits what is left
    return store, lease


def _lost_words(store: RunStore) -> str:
    return f"{store.where} is another process's, or may be: this one stood still for longer than limits.lease_s"


async def _give_back(lease: Lease) -> None:
    with anyio.CancelScope(shield=True), suppress(StoreError):
        await lease.release()


@asynccontextmanager
async def keeping_lease(lease: Lease, store: RunStore, shutdown: Shutdown) -> AsyncIterator[None]:
    """Keeps the lease inside the block. Where it is lost the run stops, and writes nothing any more."""

    async def stop_when_lost() -> None:
        await lease.lost.wait()
        words = _lost_words(store)
        store.abandon(words)
        shutdown.request_stop(Stop(words, lease_lost=True))

    async with background_tasks() as tasks:
        tasks.start_soon(lease.keep)
        tasks.start_soon(stop_when_lost)
        yield
