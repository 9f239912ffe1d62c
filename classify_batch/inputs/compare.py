"""What a command's input has that a plan has not, and the other way round; UUIDs are compared by value."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path

from anyio.lowlevel import checkpoint

from classify_batch.file_keys import file_keys
from classify_batch.streams.buckets import Buckets
from classify_batch.streams.closing import closing
from classify_batch.streams.spill import LIMITS, Limits

_EXAMPLES_MAX = 3


@dataclass(frozen=True, slots=True)
class IdDifference:
    """How two sets of file IDs differ.

    Attributes:
        new: IDs that are given, but not planned.
        gone: IDs that are planned, but not given.
        new_examples, gone_examples: the first three of them in the order of the alphabet.
    """

    new: int = 0
    gone: int = 0
    new_examples: tuple[str, ...] = ()
    gone_examples: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.new or self.gone)


async def compare_ids(
    planned: AsyncIterator[Sequence[str]],
    given: AsyncIterator[Sequence[str]],
    *,
    directory: Path | None = None,
    limits: Limits = LIMITS,
) -> IdDifference:
    """Compares two sets of IDs exactly, in bounded memory, whatever their orders.

    Raises:
        StoreError: the temporary files can't be written.
    """
    with Buckets(directory, limits) as planned_buckets, Buckets(directory, limits) as given_buckets:
        await _fill_buckets(planned_buckets, planned)
        await _fill_buckets(given_buckets, given)
        difference = IdDifference()
        for number in range(limits.buckets):
            difference = _add_difference(
                difference, _bucket_by_key(planned_buckets, number), _bucket_by_key(given_buckets, number)
            )
            await checkpoint()
        return difference


async def _fill_buckets(buckets: Buckets, batches: AsyncIterator[Sequence[str]]) -> None:
    async with closing(batches) as stream:
        async for batch in stream:
            buckets.add_ids(batch)
            await checkpoint()


def _bucket_by_key(buckets: Buckets, number: int) -> dict[str, str]:
    """A bucket's IDs as they are spelled, by their keys."""
    file_ids = buckets.bucket_texts(number)
    return dict(zip(file_keys(file_ids), file_ids, strict=True))


def _add_difference(difference: IdDifference, planned: Mapping[str, str], given: Mapping[str, str]) -> IdDifference:
    """The difference with one more bucket counted in."""
    new = [given[key] for key in given.keys() - planned.keys()]
    gone = [planned[key] for key in planned.keys() - given.keys()]
    return IdDifference(
        difference.new + len(new),
        difference.gone + len(gone),
        tuple(nsmallest(_EXAMPLES_MAX, (*difference.new_examples, *new))),
        tuple(nsmallest(_EXAMPLES_MAX, (*difference.gone_examples, *gone))),
    )
