"""De-duplication and comparison against their obvious models, with limits so tiny that everything spills."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classify_batch.errors import SourceError, StoreError
from classify_batch.file_keys import file_key
from classify_batch.inputs.compare import IdDifference, compare_ids
from classify_batch.inputs.dedupe import distinct
from classify_batch.streams.closing import closing
from classify_batch.streams.spill import Limits, Spool

pytestmark = [pytest.mark.anyio, pytest.mark.any_loop]
FILE_IDS = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=2)
BATCHES = st.lists(st.lists(FILE_IDS | st.sampled_from("abcdefgh"), max_size=30))
LIMITS = st.builds(
    Limits, buckets=st.sampled_from([1, 2, 7]), held_ids=st.integers(1, 40), file_bytes=st.integers(1, 99)
)
UUIDS = ["0f8e2c1a-9b7d-4e6f-a5c3-d2b1e0f98a76", "ab5d6c7e-1f2a-4b3c-8d4e-5f6a7b8c9d0e"]
SPELLINGS = [
    spelling
    for uuid in UUIDS
    for spelling in (uuid, uuid.upper(), uuid.replace("-", ""), f"{{{uuid.upper()}}}", f"urn:uuid:{uuid}")
]
SPELLED_BATCHES = st.lists(st.lists(st.sampled_from([*SPELLINGS, "abc", "ABC"]), max_size=9))
quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


async def as_source(batches: Iterable[list[str]]) -> AsyncIterator[list[str]]:
    for batch in batches:
        yield list(batch)


@quick
@given(batches=BATCHES, limits=LIMITS)
async def test_distinct_is_a_dictionary_that_does_not_grow(batches: list[list[str]], limits: Limits) -> None:
    """Exactly the IDs that `dict.fromkeys` keeps, in its order; the others are counted."""
    given_ids = [file_id for batch in batches for file_id in batch]
    unique = distinct(as_source(batches), limits=limits)
    kept = [batch async for batch in unique]
    assert [file_id for batch in kept for file_id in batch] == list(dict.fromkeys(given_ids))
    assert unique.duplicates == len(given_ids) - len(set(given_ids))
    repeats = [each for at, each in enumerate(given_ids) if each in given_ids[:at]]
    assert set(unique.examples) <= set(repeats)
    assert len(set(unique.examples)) == len(unique.examples) == min(5, len(set(repeats)))
    assert all(kept)


@quick
@given(batches=SPELLED_BATCHES, limits=LIMITS)
async def test_spellings_of_one_uuid_are_one_file(batches: list[list[str]], limits: Limits) -> None:
    """The first spelling stays, as it was given, and all others count as its repeats; case matters in other IDs."""
    given_ids = [file_id for batch in batches for file_id in batch]
    first = {file_key(file_id): file_id for file_id in reversed(given_ids)}
    unique = distinct(as_source(batches), limits=limits)
    kept = [file_id async for batch in unique for file_id in batch]
    assert kept == sorted(first.values(), key=given_ids.index)
    assert unique.duplicates == len(given_ids) - len(kept)
    repeated = {key for key in first if sum(file_key(each) == key for each in given_ids) > 1}
    assert {file_key(each) for each in unique.examples} <= repeated
    assert len(unique.examples) == min(5, len(repeated))


async def test_repeats_are_named_as_they_are_spelled() -> None:
    """An example is the spelling that was left out, in the order of the input, and only one of them for each file."""
    upper, bare = UUIDS[0].upper(), UUIDS[1].replace("-", "")
    unique = distinct(as_source([[*UUIDS, bare, upper], [UUIDS[0], UUIDS[1].upper()]]))
    assert [file_id async for batch in unique for file_id in batch] == UUIDS
    assert unique.examples == (bare, upper)
    assert unique.duplicates == 4


async def test_rows_of_one_uuid_are_one_row() -> None:
    """The first spelling stays, and carries what came with each of them, in their order."""
    first, second = f'{UUIDS[0].upper()}\t{{"n":1}}', f'{UUIDS[0]}\t{{"n":2}}'
    unique = distinct(as_source([[first, 'x\t{"n":3}'], [second]]))
    assert [row async for batch in unique for row in batch] == [
        f'{UUIDS[0].upper()}\t[{{"n":1}},{{"n":2}}]',
        'x\t{"n":3}',
    ]
    assert unique.duplicates == 1
    assert unique.examples == (UUIDS[0],)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.sets(st.integers(0, 12)), st.integers(1, 7))
async def test_all_that_came_with_an_id_is_carried(numbers: list[int], known: set[int], size: int) -> None:
    """As a dictionary of lists would have it, with some files known; whatever is held in memory."""

    class Known:
        own_keys = True
        binary = False

        def among_keys(self, bucket: int, asked: set[bytes], *, binary: bool) -> set[bytes]:
            raise AssertionError("rows that carry something were asked for by their keys alone")

        def known_keys_among(self, bucket: int, asked: set[str], rows: Mapping[str, str]) -> set[str]:
            assert {rows[key] for key in asked} == {expected[key] for key in asked}
            return {key for key in asked if int(key[1:]) in known}

    rows = [f'f{number}\t{{"place":{place}}}' for place, number in enumerate(numbers)]
    places: dict[str, list[str]] = {}
    for row in rows:
        places.setdefault(row.partition("\t")[0], []).append(row.partition("\t")[2])
    expected = {
        file_id: f"{file_id}\t{each[0]}" if len(each) == 1 else f"{file_id}\t[{','.join(each)}]"
        for file_id, each in places.items()
    }
    batches = [rows[at : at + size] for at in range(0, len(rows), size)]
    unique = distinct(as_source(batches), limits=Limits(3, 5, 50), known=Known())
    found = [row async for batch in unique for row in batch]
    assert found == [row for file_id, row in expected.items() if int(file_id[1:]) not in known]
    assert unique.duplicates == len(numbers) - len(places)


async def test_an_id_that_carries_too_much_is_refused() -> None:
    """What goes with one file ID is bounded, also where it came a million times."""
    row = f'a\t{{"n":"{"x" * 9000}"}}'
    with pytest.raises(SourceError, match="file ID a comes 2 times, and carries 18,"):
        _ = [batch async for batch in distinct(as_source([[row], [row]]))]


async def test_distinct_knows_its_duplicates_with_the_first_batch() -> None:
    """The count is final before the first ID comes out: nothing has to be read to the end for it."""
    unique = distinct(as_source([["a", "b"], ["b", "a", "c"]]))
    async with closing(unique) as batches:
        assert await anext(batches) == ["a", "b"]
        assert unique.duplicates == 2


async def test_every_id_repeated_is_exact_too() -> None:
    """The whole input a second time, in another order, adds nothing but to the count."""
    file_ids = [f"f{number}" for number in range(5000)]
    unique = distinct(as_source([file_ids, file_ids[::-1]]), limits=Limits(7, 300, 1000))
    assert [file_id async for batch in unique for file_id in batch] == file_ids
    assert unique.duplicates == 5000


async def test_temporary_files_have_no_names_and_are_gone(tmp_path: Path) -> None:
    """Nothing is ever left in the directory, not even while the files are in use."""
    batches = as_source([[f"f{number}" for number in range(1000)]])
    async for _ in distinct(batches, directory=tmp_path, limits=Limits(7, 10, 10)):
        assert list(tmp_path.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


async def test_a_disk_that_refuses_is_a_store_error(tmp_path: Path) -> None:
    """No room for temporary files: a StoreError that names the directory and says how to go on."""
    with pytest.raises(StoreError, match=r"temporary files in .*missing: No such file") as caught:
        [
            batch
            async for batch in distinct(as_source([["abc"]]), directory=tmp_path / "missing", limits=Limits(1, 1, 1))
        ]
    assert caught.value.hint


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
async def test_a_full_disk_raises_its_own_error_once() -> None:
    """ENOSPC on writing is the error that comes out, not one of closing the file behind it."""
    spool = Spool(None, Limits(1, 1, 1))
    spool.add_ids(["a", "b"])
    assert list(spool.replay_ids()) == [["a", "b"]]
    assert spool._file is not None
    full = os.open("/dev/full", os.O_RDWR)
    os.dup2(full, spool._file.fileno())
    os.close(full)
    spool.add_ids(["c" * 100_000])
    with pytest.raises(StoreError, match=os.strerror(errno.ENOSPC)), spool:
        list(spool.replay_ids())


@quick
@given(planned=st.sets(FILE_IDS), given_ids=st.sets(FILE_IDS), limits=LIMITS)
async def test_comparing_is_set_arithmetic(planned: set[str], given_ids: set[str], limits: Limits) -> None:
    """Exact counts and the first three examples of both sides, whatever the limits are."""
    difference = await compare_ids(as_source([[*planned]]), as_source([[*given_ids]]), limits=limits)
    new, gone = sorted(given_ids - planned), sorted(planned - given_ids)
    assert difference == IdDifference(len(new), len(gone), tuple(new[:3]), tuple(gone[:3]))
    assert bool(difference) == (planned != given_ids)


@quick
@given(planned=st.sets(st.sampled_from(SPELLINGS)), given_ids=st.sets(st.sampled_from(SPELLINGS)), limits=LIMITS)
async def test_ids_are_compared_by_value(planned: set[str], given_ids: set[str], limits: Limits) -> None:
    """The same UUIDs in other spellings are the same files; those that differ are named as they are spelled."""
    difference = await compare_ids(as_source([[*planned]]), as_source([[*given_ids]]), limits=limits)
    ours, theirs = set(map(file_key, planned)), set(map(file_key, given_ids))
    assert (difference.new, difference.gone) == (len(theirs - ours), len(ours - theirs))
    assert set(difference.new_examples) <= given_ids
    assert set(map(file_key, difference.new_examples)) == theirs - ours
    assert set(difference.gone_examples) <= planned
    assert set(map(file_key, difference.gone_examples)) == ours - theirs
