"""Owning a shard: what is claimed is given back, whatever happens in between."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from classify_batch.engine.shutdown import Shutdown
from classify_batch.operations.ownership import keeping_lease, own_shard
from classify_batch.store import place_of
from classify_batch.store.lease import read_last_lease

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]


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
    assert not lease.held
