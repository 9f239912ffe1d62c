"""plan.jsonl: the bytes, and every way to read them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classify_batch.engine.planner import cut_into_chunks
from classify_batch.errors import DamagedError, SourceError
from classify_batch.rundir import plan
from classify_batch.rundir.plan import PlanReader, hash_file_ids, write_plan
from classify_batch.rundir.planned_parse_jobs import count_planned_parse_jobs
from classify_batch.store.disk import DiskStore
from classify_batch.store.memory import MemoryStore
from classify_batch.streams.single_block import single_block
from classify_batch.vocabulary import PLAN_JSONL

pytestmark = [pytest.mark.anyio, pytest.mark.any_loop]
FILE_IDS = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=4)
CHUNKS = st.lists(st.lists(FILE_IDS | st.sampled_from(['"', "\\n", "é"]), min_size=1, max_size=4), max_size=30)
quick = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Cut(MemoryStore):
    """A store that streams in blocks of a few bytes, as a disk does with larger ones."""

    block_bytes = 7

    async def stream(self, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        data = await self.read(name, start, end)
        for at in range(0, len(data), self.block_bytes):
            yield data[at : at + self.block_bytes]


async def as_source(batches: list[list[str]]) -> AsyncIterator[list[str]]:
    for batch in batches:
        yield list(batch)


def dumped(chunks: list[list[str]]) -> bytes:
    lines = ({"chunk": number, "file_ids": file_ids} for number, file_ids in enumerate(chunks))
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


# --- Writing ----------------------------------------------------------------------------------------------------


@quick
@given(chunks=CHUNKS)
async def test_a_plan_is_what_json_would_write(chunks: list[list[str]]) -> None:
    """Quotes, backslashes and every script are spelled as `json.dumps` spells them, and the summary counts them."""
    store = MemoryStore()
    summary = await write_plan(store, as_source(chunks))
    data = dumped(chunks)
    assert store.files[PLAN_JSONL] == data
    file_ids = [file_id for chunk in chunks for file_id in chunk]
    assert (summary.files, summary.chunks, summary.bytes) == (len(file_ids), len(chunks), len(data))
    assert summary.sha256 == hashlib.sha256(data).hexdigest()
    assert summary.ids_sha256 == hashlib.sha256("".join(f"{one}\n" for one in file_ids).encode()).hexdigest()
    assert summary.ids_sha256 == await hash_file_ids(as_source([file_ids[:2], file_ids[2:]]))


async def test_the_same_input_makes_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the batches in which IDs come nor the blocks in which lines go show in the file."""
    file_ids = [f"f{number}" for number in range(500)]
    first, second = MemoryStore(), MemoryStore()
    await write_plan(first, cut_into_chunks(as_source([file_ids]), 7))
    monkeypatch.setattr(plan, "_BLOCK_BYTES", 100)
    await write_plan(second, cut_into_chunks(as_source([[file_id] for file_id in file_ids]), 7))
    assert first.files == second.files


async def test_a_source_that_fails_leaves_no_plan() -> None:
    """A fault on the last line of the input comes through, and nothing was written."""

    async def failing() -> AsyncIterator[list[str]]:
        yield ["a"]
        raise SourceError("ids.txt, line 2: …")

    store = MemoryStore()
    with pytest.raises(SourceError, match="line 2"):
        await write_plan(store, failing())
    assert store.files == {}


@pytest.mark.real_time
async def test_a_plan_on_disk_is_read_back(tmp_path: Path) -> None:
    """The real store carries a plan of several blocks, by number and in order."""
    store = DiskStore(tmp_path)
    chunks = [[f"{number:036}-{n}" for n in range(100)] for number in range(700)]
    summary = await write_plan(store, as_source(chunks))
    assert summary.bytes > 2 * plan._BLOCK_BYTES
    reader = PlanReader(store)
    await reader.scan_whole_file(summary.sha256)
    assert reader.chunks == 700
    assert [await reader.file_ids(number) for number in (699, 0, 350)] == [chunks[n] for n in (699, 0, 350)]
    assert [number async for number, _ in reader.stream(600)] == list(range(600, 700))


# --- Reading ----------------------------------------------------------------------------------------------------


@quick
@given(chunks=CHUNKS, block_bytes=st.integers(1, 99), stride_bytes=st.integers(1, 99), seed=st.randoms())
async def test_a_reader_is_a_list_that_is_not_in_memory(
    monkeypatch: pytest.MonkeyPatch, chunks: list[list[str]], block_bytes: int, stride_bytes: int, seed: st.DataObject
) -> None:
    """Any chunk by its number, and all from any on, wherever blocks and strides of the index end."""
    monkeypatch.setattr(plan, "_STRIDE_BYTES", stride_bytes)
    store = Cut({PLAN_JSONL: dumped(chunks)})
    store.block_bytes = block_bytes
    reader = PlanReader(store)
    await reader.scan_whole_file()
    assert reader.chunks == len(chunks)
    assert [await reader.file_ids(number) for number in range(len(chunks))] == chunks
    assert [batch async for batch in reader.file_id_batches()] == chunks
    raw = [file_id async for batch in reader.raw_file_ids() for file_id in batch]
    assert raw == [file_id.encode() for chunk in chunks for file_id in chunk]
    for first in range(len(chunks) + 1):
        assert [pair async for pair in reader.stream(first)] == list(enumerate(chunks))[first:]


async def test_chunks_that_nobody_wants_are_not_parsed() -> None:
    """Finished chunks cost a newline each: their lines may be anything."""
    store = MemoryStore({PLAN_JSONL: b'anything\n{"chunk": 1, "file_ids": ["a"]}\nanything\n'})
    reader = PlanReader(store)
    await reader.scan_whole_file()
    assert [pair async for pair in reader.stream(wanted=lambda chunk: chunk == 1)] == [(1, ["a"])]
    with pytest.raises(DamagedError, match="line 1 is not a chunk"):
        await reader.file_ids(0)


async def test_what_lies_before_the_first_wanted_chunk_is_not_read() -> None:
    """A resumed run goes on at once, however much of its plan is done."""
    read_from: list[int] = []

    class Noting(MemoryStore):
        async def stream(self, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
            read_from.append(start)
            async for block in super().stream(name, start, end):
                yield block

    store = Noting()
    await write_plan(store, cut_into_chunks(as_source([[f"file-{number:060}" for number in range(9000)]]), 3))
    reader = PlanReader(store)
    await reader.scan_whole_file()
    read_from.clear()
    found = [number async for number, _ in reader.stream(wanted=lambda chunk: chunk in (2500, 2999))]
    assert found == [2500, 2999]
    size = await store.size(PLAN_JSONL)
    assert size is not None
    assert read_from[0] > 0.7 * size
    assert [pair async for pair in reader.stream(wanted=lambda _: False)] == []
    assert len(read_from) == 1


async def test_a_chunk_that_is_not_planned_is_an_index_error() -> None:
    """Numbers beyond the plan are the caller's fault, not the file's."""
    reader = PlanReader(MemoryStore({PLAN_JSONL: dumped([["a"]])}))
    await reader.scan_whole_file()
    for chunk in (-1, 1):
        with pytest.raises(IndexError):
            await reader.file_ids(chunk)


# --- Damage -----------------------------------------------------------------------------------------------------


async def test_every_flipped_byte_is_found() -> None:
    """Whatever byte is changed, the scan says so and names the file."""
    data = dumped([["a", "b"], ["cé"], ["d"]])
    sha256 = hashlib.sha256(data).hexdigest()
    await PlanReader(MemoryStore({PLAN_JSONL: data})).scan_whole_file(sha256)
    for at in range(len(data)):
        for bit in (1, 8, 128):
            flipped = bytearray(data)
            flipped[at] ^= bit
            with pytest.raises(DamagedError, match=r"plan\.jsonl in memory: ") as caught:
                await PlanReader(MemoryStore({PLAN_JSONL: bytes(flipped)})).scan_whole_file(sha256)
            assert caught.value.hint
            assert str(caught.value).isprintable()


LINES = dumped([["a"], ["b"], ["c"]]).splitlines(keepends=True)
ENDS = list(accumulate(map(len, LINES)))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data.replace(b'"b"', b'"\x00"'), "line 2 is not a chunk of file IDs"),
        (lambda data: data.replace(b'["b"]', b"[]"), "line 2 is not a chunk of file IDs"),
        (lambda data: data.replace(b'["b"]', b'["b" ]'), "line 2 is not spelled as it was written"),
        (lambda data: data.replace(LINES[1], b""), "line 2 is chunk 2, but chunk 1 belongs there"),
        (lambda data: LINES[0] + LINES[2] + LINES[1], "line 2 is chunk 2, but chunk 1 belongs there"),
        (lambda data: data[: ENDS[1] + 5], "line 3 is not a chunk of file IDs"),
        (lambda data: data[: ENDS[1]], "its SHA-256 is not that of the plan"),
        (lambda data: data.replace(b'"b"', b'"x"'), "its SHA-256 is not that of the plan"),
        (lambda data: b"", "its SHA-256 is not that of the plan"),
        (lambda data: b"x" * 20_000_000, "line 1 has no end"),
    ],
)
async def test_damage_names_the_first_line_that_shows_it(damage: Callable[[bytes], bytes], message: str) -> None:
    """A line that is torn, missing or out of place is named; where all lines look right, the hash is."""
    data = b"".join(LINES)
    store = Cut({PLAN_JSONL: damage(data)})
    store.block_bytes = 100_000
    with pytest.raises(DamagedError, match=message):
        await PlanReader(store).scan_whole_file(hashlib.sha256(data).hexdigest())


async def test_a_missing_or_torn_plan_is_damage_without_a_hash_too() -> None:
    """No hash is needed to see that there is no file, or that its last line has no end."""
    with pytest.raises(DamagedError, match=r"plan\.jsonl in memory: missing"):
        await PlanReader(MemoryStore()).scan_whole_file()
    with pytest.raises(DamagedError, match="line 2 has no end"):
        await PlanReader(MemoryStore({PLAN_JSONL: LINES[0] + LINES[1][:-1]})).scan_whole_file()


@pytest.mark.parametrize("left", [None, b"", LINES[0]])
async def test_a_plan_that_goes_after_the_scan_is_damage(left: bytes | None) -> None:
    """It was removed, or replaced by a shorter one, while a run is on: that is said, and is no fault of ours."""
    store = MemoryStore({PLAN_JSONL: b"".join(LINES)})
    reader = PlanReader(store)
    await reader.scan_whole_file()
    if left is None:
        await store.remove(PLAN_JSONL)
    else:
        await store.replace(PLAN_JSONL, single_block(left))
    with pytest.raises(DamagedError, match=r"plan\.jsonl in memory: (missing|line 2 is not a chunk of file IDs)"):
        await reader.file_ids(1)
    if left is None:
        with pytest.raises(DamagedError, match="missing"):
            _ = [chunk async for chunk in reader.stream()]


# --- Parse jobs -------------------------------------------------------------------------------------------------


@quick
@given(
    file_ids=st.lists(st.sampled_from(["file", "pjb-1", "pjb-", "x-pjb-2", 'a"pjb-'])),
    reused=st.integers(0, 5),
    block_bytes=st.integers(1, 200),
)
async def test_planned_parse_jobs_are_those_that_are_sent(file_ids: list[str], reused: int, block_bytes: int) -> None:
    """Chunks of one file each that begin with the prefix, behind those that are reused, wherever a block ends. What is
    carried doesn't count."""
    rows = [f'{file_id}\t{{"file_ids":["pjb-9"]}}' for file_id in file_ids]
    store = Cut()
    store.block_bytes = block_bytes
    await write_plan(store, as_source([[row] for row in rows]))
    expected = sum(file_id.startswith("pjb-") for file_id in file_ids[reused:])
    assert await count_planned_parse_jobs(store, reused) == expected
