"""One owner for a shard at a time: by the lock of its directory, and by a lease (see `store/lease.py`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import anyio

from classify_batch.engine.shutdown import Shutdown, Stop
from classify_batch.errors import LockedError, StoreError
from classify_batch.operations.run_resources import lock_run_directory
from classify_batch.ports import Lease, RunPlace, RunStore
from classify_batch.store.lease import claim_lease, stands_still


async def own_shard(place: RunPlace, lease_s: float, stack: AsyncExitStack) -> tuple[RunStore, Lease]:
    """Locks a shard and claims its lease; `stack` closes the store.

    Where another process had it before, and may live, this waits until that one's lease has ended. A process that holds
    the lock and has stood still for longer than its lease loses the shard.

    Raises:
        LockedError: another process is at work on it.
    """
    try:
        store = await lock_run_directory(place, stack)
    except LockedError as error:
        claiming = await stack.enter_async_context(place.open())
        await stands_still(claiming, error)
        lease = await _claim(claiming, lease_s, stack)
        return await lock_run_directory(place, stack, seize=True), lease
    return store, await _claim(store, lease_s, stack)


async def _claim(store: RunStore, lease_s: float, stack: AsyncExitStack) -> Lease:
    """Claims the lease; `stack` gives it back, while the lock is still held."""
    lease = await claim_lease(store, lease_s)
    stack.push_async_callback(_give_back, lease)
    return lease


async def _give_back(lease: Lease) -> None:
    with anyio.CancelScope(shield=True), suppress(StoreError):
        await lease.release()


@asynccontextmanager
async def keeping_lease(lease: Lease, store: RunStore, shutdown: Shutdown) -> AsyncIterator[None]:
    """Keeps the lease inside the block. Where it is lost the run stops, and writes nothing any more."""

    async def stop_when_lost() -> None:
        await lease.lost.wait()
        words = f"{store.where} is another process's, or may be: this one stood still for longer than limits.lease_s"
        store.abandon(words)
        shutdown.request_stop(Stop(words, lease_lost=True))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lease.keep)
        tasks.start_soon(stop_when_lost)
        yield
        tasks.cancel_scope.cancel()
