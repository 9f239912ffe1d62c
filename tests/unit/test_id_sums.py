"""Sums of IDs: equal for the same IDs in any order, and for nothing else that was tried."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from classify_batch.streams.id_sums import IdSum

FILE_IDS = st.lists(st.sampled_from([b"a", b"b", b"c", b"\xc3\xa4"]), max_size=6)


def sum_of(*batches: list[bytes]) -> IdSum:
    total = IdSum()
    for batch in batches:
        total.add_ids(batch)
    return total


@given(FILE_IDS, FILE_IDS)
def test_sums_are_equal_for_the_same_ids_equally_often(one: list[bytes], other: list[bytes]) -> None:
    """One ID too many, one missing, one twice in the place of another: each makes another sum."""
    assert (sum_of(one) == sum_of(other)) == (Counter(one) == Counter(other))
    assert sum_of(one, other) == sum_of(other[::-1], one[::-1]) == sum_of(one + other)


def test_an_id_twice_in_the_place_of_another_is_seen_among_many() -> None:
    """The count is the same, and only one of a hundred thousand differs."""
    planned = [b"file-%d" % number for number in range(100_000)]
    assert sum_of(planned) != sum_of([planned[1], *planned[1:]])
    assert sum_of(planned) == sum_of(planned[::-1])
