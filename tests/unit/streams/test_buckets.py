"""Buckets: what was added comes back, the IDs of one file meet, and no bucket is much larger than the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classify_batch.file_keys import file_keys
from classify_batch.streams.buckets import Buckets
from classify_batch.streams.spill import Limits
from classify_batch.streams.uuid_lines import UuidLines, split_binary

UUIDS = [str(UUID(int=number * 0x1_0000_0001_0001_0001)) for number in range(1, 12)]
BATCHES = st.lists(
    st.lists(st.sampled_from(UUIDS), min_size=1, max_size=9)
    | st.lists(st.sampled_from([*UUIDS, *map(str.upper, UUIDS), "abc", "é" * 36, "x" * 36]), min_size=1, max_size=9),
    max_size=6,
)
LIMITS = st.builds(
    Limits, buckets=st.sampled_from([1, 2, 7, 512]), held_ids=st.integers(1, 40), file_bytes=st.integers(1, 99)
)


def pack(batch: Sequence[str]) -> Sequence[str]:
    return UuidLines.pack(batch) or batch


@given(BATCHES, LIMITS)
def test_what_was_added_comes_back(batches: list[list[str]], limits: Limits) -> None:
    """Each bucket has its IDs, as they are spelled and in their order, wherever anything but UUIDs begins to come."""
    with Buckets(limits=limits) as buckets:
        expected: dict[int, list[str]] = {}
        for batch in batches:
            numbers = buckets.add_ids(pack(batch))
            for number, file_id in zip(numbers, batch, strict=True):
                expected.setdefault(number, []).append(file_id)
        are_uuids = all(isinstance(pack(batch), UuidLines) for batch in batches)
        assert buckets.binary == are_uuids
        for number in range(len(buckets)):
            assert buckets.bucket_texts(number) == expected.get(number, [])
            if are_uuids:
                assert buckets.read_binary(number) == [UUID(each).bytes for each in expected.get(number, [])]


@given(BATCHES, BATCHES, LIMITS)
def test_ids_of_one_file_meet(some: list[list[str]], others: list[list[str]], limits: Limits) -> None:
    """A key has one number, in a batch of UUIDs, among other IDs and as a row, in two buckets of one process."""
    with Buckets(limits=limits) as first, Buckets(limits=limits) as second:
        number_of: dict[str, int] = {}
        adds: list[tuple[list[list[str]], Callable[[Sequence[str]], memoryview]]] = [
            (some, lambda batch: first.add_ids(pack(batch))),
            (others, lambda batch: second.add_ids(batch, [f"{file_id}\t{{}}" for file_id in batch])),
            (some, second.bucket_numbers),
            (others, lambda batch: first.bucket_numbers(pack(batch))),
        ]
        for batches, add in adds:
            for batch in batches:
                for key, number in zip(file_keys(batch), add(batch), strict=True):
                    assert number_of.setdefault(key, number) == number


def count_up(number: int) -> str:
    return str(UUID(int=0xF11E_0000_0000_4000_8000_0000_0000_0000 + number))


def time_first(number: int) -> str:
    return str(UUID(int=(0x0198_0000_0000_7000 + (number << 16)) << 64 | 0x8000_0000_0000_0001))


@pytest.mark.parametrize("spell", [count_up, time_first, "file-{}".format], ids=["counted", "by time", "no UUIDs"])
def test_buckets_are_even(spell: Callable[[int], str]) -> None:
    """No bucket is much larger than the others, also where IDs differ in a few digits only."""
    with Buckets(limits=Limits(buckets=512)) as buckets:
        counts = Counter(buckets.bucket_numbers(pack([spell(number) for number in range(102_400)])))
    assert set(counts) == set(range(512))
    assert max(counts.values()) < 2 * 200


def test_the_hashes_of_a_bucket_leave_the_places_of_sets_alone() -> None:
    """Those in one bucket don't share the bits by which a set lays out its items."""
    file_ids = [f"file-{number}" for number in range(102_400)]
    with Buckets(limits=Limits(buckets=512)) as buckets:
        numbers = buckets.bucket_numbers(file_ids)
    in_one = [hash(file_id.encode()) & 0xFF for file_id, bucket in zip(file_ids, numbers, strict=True) if bucket == 7]
    assert len(set(in_one)) > 64


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 1000])
def test_uuids_turn_binary_and_back(count: int) -> None:
    """16 bytes each, and back to the very same lines."""
    lines = UuidLines("".join(f"{count_up(number * 0xF0F1)}\n" for number in range(count)).encode())
    binary = lines.to_binary()
    assert split_binary(binary) == [UUID(each).bytes for each in lines]
    assert UuidLines.from_binary(binary).data == lines.data
