"""The quick reader of canonical UUIDs, held against the careful one that reads everything else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from itertools import compress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classify_batch.engine.planner import cut_into_chunks
from classify_batch.errors import SourceError
from classify_batch.file_keys import file_key
from classify_batch.inputs.dedupe import distinct
from classify_batch.inputs.formats.plain_lines import read_plain_lines
from classify_batch.inputs.ids import all_valid
from classify_batch.inputs.lines import Lines
from classify_batch.rundir.outcome_ids import outcome_file_id, outcome_uuids
from classify_batch.rundir.plan import hash_file_ids, write_plan
from classify_batch.store.memory import MemoryStore
from classify_batch.streams.spill import Limits
from classify_batch.streams.uuid_lines import UuidLines, join_ids
from classify_batch.vocabulary import PLAN_JSONL

pytestmark = [pytest.mark.anyio, pytest.mark.any_loop]
quick = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

UUID = "0f8e2c1a-9b7d-4e6f-a5c3-d2b1e0f98a76"
CANONICAL = {UUID[:-1] + digit for digit in "0123456789abcdef"}
UUIDS = st.sampled_from(sorted(CANONICAL))
NASTY = st.sampled_from(
    [
        UUID.upper(),
        UUID.replace("-", ""),
        UUID[:-1] + "g",
        UUID[:-1] + "é",
        UUID[:-1] + '"',
        UUID[:-1] + "\\",
        UUID[:-1],
        UUID + "0",
        UUID[:9] + "\t" + UUID[10:],
        UUID[:9] + " " + UUID[10:],
        UUID + "\r",
        UUID + "\r\r",
        " " + UUID,
        "#" + UUID[1:],
        "",
        "id",
        "pjb-" + UUID[4:],
    ]
)
LINES = st.lists(st.one_of(UUIDS, UUIDS, UUIDS, NASTY), min_size=1, max_size=12)
LIMITS = st.builds(
    Limits, buckets=st.sampled_from([1, 2, 7]), held_ids=st.integers(1, 40), file_bytes=st.integers(1, 99)
)


async def cut(data: bytes, sizes: Sequence[int]) -> AsyncIterator[bytes]:
    at = 0
    for size in (*sizes, len(data)):
        if piece := data[at : at + size]:
            yield piece
        at += size


async def as_source(batches: Sequence[Sequence[str]]) -> AsyncIterator[Sequence[str]]:
    for batch in batches:
        yield batch


async def read(data: bytes, sizes: Sequence[int], *, strict: bool) -> tuple[list[str], list[str], str]:
    """The IDs, the faults and the error of a text."""
    faults: list[str] = []
    file_ids: list[str] = []
    try:
        blocks = cut(data, sizes)
        async for batch in read_plain_lines(blocks, "x", lambda each: faults.append(str(each)), strict=strict):
            file_ids += batch
    except SourceError as error:
        return file_ids, faults, str(error)
    return file_ids, faults, ""


@quick
@given(
    lines=LINES,
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
    before=st.sampled_from([b"", b"\xef\xbb\xbf", b"\xff"]),
    sizes=st.lists(st.integers(1, 200), max_size=5),
    strict=st.booleans(),
)
async def test_lines_of_uuids_are_read_as_any_others(
    lines: list[str], end: str, last: bool, before: bytes, sizes: list[int], strict: bool
) -> None:
    """The same IDs, faults and error, with their lines, as by the careful reader, wherever the blocks are cut."""
    data = before + (end.join(lines) + end * last).encode()
    found = await read(data, sizes, strict=strict)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lines, "find_uuids", lambda _: None)
        assert found == await read(data, sizes, strict=strict)


async def test_blocks_of_uuids_are_not_taken_apart() -> None:
    """Also where the last line has no newline, and where lines end as on Windows."""
    for text in (f"{UUID}\n{UUID}\n", f"{UUID}\n{UUID}", f"{UUID}\r\n{UUID}\r\n"):
        batches = [batch async for batch in read_plain_lines(cut(text.encode(), ()), "x")]
        assert {type(batch) for batch in batches} == {UuidLines}
        assert [file_id for batch in batches for file_id in batch] == [UUID, UUID]


@given(st.lists(st.one_of(UUIDS, NASTY), max_size=4), st.sampled_from(["\n", ""]))
async def test_only_canonical_uuids_are_found(lines: list[str], end: str) -> None:
    """Nothing else is taken for one: not a longer line, nor two that are as long as two UUIDs together."""
    text = "\n".join(lines) + end
    found = UuidLines.find(text.encode())
    *whole, rest = text.split("\n")
    assert (found is not None) == (bool(whole) and not rest and set(whole) <= CANONICAL)
    assert found is None or [*found] == whole
    packed = UuidLines.pack(lines)
    assert (packed is not None) == (bool(lines) and set(lines) <= CANONICAL)


async def test_each_place_of_a_line_counts() -> None:
    """A line of the right length with any character in the wrong place is none, wherever it stands among others."""
    line = f"{UUID}\n".encode()
    for place in range(len(line)):
        others = b"0" if line[place] in b"-\n" else b"-\ngAF\x00\xff"
        spoiled = [line[:place] + bytes([other]) + line[place + 1 :] for other in others]
        if place and (line[place] in b"-\n" or line[place - 1] in b"-\n"):  # as many of each, two of them exchanged
            spoiled.append(line[: place - 1] + line[place - 1 : place + 1][::-1] + line[place + 1 :])
        for each in spoiled:
            for lines in (each, each + line, line + each, line + each + line):
                assert UuidLines.find(lines) is None, lines
    assert UuidLines.find(line * 3) is not None


@given(st.lists(UUIDS, min_size=1, max_size=30), st.data())
async def test_uuids_are_a_sequence(file_ids: list[str], data: st.DataObject) -> None:
    """Places, slices, what stays and what is added are those of a list."""
    uuids = UuidLines.pack(file_ids)
    assert uuids is not None
    start, stop = data.draw(st.integers(-40, 40)), data.draw(st.integers(-40, 40))
    assert ([*uuids], len(uuids), uuids[0], uuids[-1]) == (file_ids, len(file_ids), file_ids[0], file_ids[-1])
    assert [*uuids[start:stop]] == file_ids[start:stop]
    with pytest.raises(IndexError):
        _ = uuids[len(file_ids)]
    flags = bytes(data.draw(st.lists(st.integers(0, 1), min_size=len(file_ids), max_size=len(file_ids))))
    assert [*uuids.compress(flags)] == [*compress(file_ids, flags)]
    for one, other in ((uuids, uuids), (uuids, file_ids), ([*file_ids], uuids), ([], uuids)):
        expected = [*one, *other]
        assert [*join_ids(one, other)] == expected


@quick
@given(
    batches=st.lists(
        st.lists(st.one_of(UUIDS, UUIDS, NASTY.filter(lambda each: all_valid([each]))), max_size=9), max_size=9
    ),
    limits=LIMITS,
)
async def test_repeated_uuids_are_left_out(batches: list[list[str]], limits: Limits) -> None:
    """Exactly those that `dict.fromkeys` leaves out by their keys, among IDs of any other kind, too."""
    given_ids = [file_id for batch in batches for file_id in batch]
    first = {file_key(file_id): file_id for file_id in reversed(given_ids)}
    unique = distinct(as_source(batches), limits=limits)
    kept = [file_id async for batch in unique for file_id in batch]
    assert kept == sorted(first.values(), key=given_ids.index)
    assert unique.duplicates == len(given_ids) - len(kept)


@quick
@given(batches=st.lists(st.lists(st.one_of(UUIDS, st.just('"')), max_size=40), max_size=9), size=st.integers(1, 20))
async def test_a_plan_of_uuids_has_the_same_bytes(batches: list[list[str]], size: int) -> None:
    """Packed or not, the plan, its chunks and both hashes are the same."""
    packed = [UuidLines.pack(batch) or batch for batch in batches]
    first, second = MemoryStore(), MemoryStore()
    summary = await write_plan(first, cut_into_chunks(as_source([list(batch) for batch in batches]), size))
    assert await write_plan(second, cut_into_chunks(as_source(packed), size)) == summary
    assert second.files[PLAN_JSONL] == first.files[PLAN_JSONL]
    assert await hash_file_ids(as_source(packed)) == summary.ids_sha256


OUTCOMES = st.one_of(
    UUIDS.map(lambda uuid: f'{{"file_id":"{uuid}","outcome":"x"}}'),
    UUIDS.map(lambda uuid: f'{{"file_id":"{uuid}"}}'),
    NASTY.map(lambda words: f'{{"file_id":"{words}","outcome":"x"}}'),
    UUIDS.map(lambda uuid: f'{{"file_id": "{uuid}"}}'),
    UUIDS.map(lambda uuid: f'{{"outcome":"x","file_id":"{uuid}"}}'),
    st.sampled_from(["{}", "", '{"file_id":"ab', f'{{"file_id":"{UUID}', f'{{"file_id":"{UUID}x"}}']),
)


@given(st.lists(OUTCOMES, min_size=1, max_size=5), st.sampled_from(["\n", ""]))
async def test_uuids_of_outcomes_are_parsed_at_once(lines: list[str], end: str) -> None:
    """Or not at all: a line that has to be looked at is never passed over."""
    text = "\n".join(lines) + end
    found = outcome_uuids(text.encode())
    if found is not None:
        whole = text.removesuffix("\n").split("\n")  # an empty string behind the last newline is no line
        assert [*found] == [outcome_file_id(line.encode()) for line in whole]


@settings(deadline=None, max_examples=30)
@given(st.lists(UUIDS, min_size=1, max_size=200), st.lists(st.integers(0, 40_000), min_size=1, max_size=4))
async def test_outcomes_of_uuids_need_no_second_pass(file_ids: list[str], lengths: list[int]) -> None:
    """However long their lines are."""
    words = ["x" * (lengths[number % len(lengths)] if number < 9 else 9) for number in range(len(file_ids))]
    lines = [f'{{"file_id":"{each}","reasoning":"{rest}"}}\n' for each, rest in zip(file_ids, words, strict=True)]
    found = outcome_uuids("".join(lines).encode())
    assert found is not None
    assert [*found] == file_ids
