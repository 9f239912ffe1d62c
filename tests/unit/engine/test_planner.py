"""Chunking: a pure function of the IDs and the size."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classify_batch.engine.planner import cut_into_chunks
from classify_batch.streams.closing import closing

pytestmark = [pytest.mark.anyio, pytest.mark.any_loop]
BATCHES = st.lists(st.lists(st.text(min_size=1), max_size=9))


async def as_source(batches: list[list[str]]) -> AsyncIterator[list[str]]:
    for batch in batches:
        yield list(batch)


@given(batches=BATCHES, files_per_job=st.integers(1, 7))
async def test_chunks_are_slices_of_the_input(batches: list[list[str]], files_per_job: int) -> None:
    """Only the last chunk may be short, none is empty, and how the IDs arrived doesn't show."""
    file_ids = [file_id for batch in batches for file_id in batch]
    chunks = [chunk async for chunk in cut_into_chunks(as_source(batches), files_per_job)]
    slices = [file_ids[start : start + files_per_job] for start in range(0, len(file_ids), files_per_job)]
    assert chunks == slices


async def test_a_chunk_comes_as_soon_as_it_is_full() -> None:
    """The planner waits for no more IDs than a chunk needs, and keeps its hands off the batches it was given."""
    batch = ["a", "b", "c"]

    async def then_nothing() -> AsyncIterator[list[str]]:
        yield batch
        raise AssertionError("asked for more than it needed")

    async with closing(then_nothing()) as batches, closing(cut_into_chunks(batches, 2)) as chunks:
        assert await anext(chunks) == ["a", "b"]
    assert batch == ["a", "b", "c"]
