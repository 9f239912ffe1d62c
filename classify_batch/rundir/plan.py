"""`plan.jsonl`: which files are sent together. Written once, read for as long as the run lasts, never changed.

A line per chunk, numbered from 0 without gaps, as `json.dumps` writes it with `ensure_ascii=False`:

    {"chunk": 0, "file_ids": ["…", "…"]}

Where columns of the input are carried, each has a list beside these: `"carried": {"path": ["…", "…"]}`. An ID that came
more than once carries more than one object: the further ones follow, by its place in the chunk:
`"carried_again": {"1": [{"path": "…"}]}`.

A line's number *is* its chunk's number, so chunks are found by counting newlines. (The plan of a shard is a piece of
the whole run's plan, and keeps its numbers: they begin at the shard's first chunk.) A scan reads the file once:
it takes the SHA-256 and remembers, for every 64 KiB of the file, where a line begins and which one. No line
is parsed unless its file IDs are asked for.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from bisect import bisect_right
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Any

from anyio.lowlevel import checkpoint

from classify_batch.errors import DamagedError
from classify_batch.inputs.ids import all_valid, shorten
from classify_batch.inputs.rows import columns_of, file_ids_of_rows
from classify_batch.model import Carried
from classify_batch.ports import RunStore
from classify_batch.rundir.outcome_ids import encode_ids
from classify_batch.streams.closing import closing
from classify_batch.streams.hashing import BackgroundHashes
from classify_batch.streams.uuid_lines import UuidLines
from classify_batch.vocabulary import PLAN_JSONL

_NEWLINE = b"\n"
_BETWEEN = b'", "'
_LINE_END = b'"]}'
_BLOCK_BYTES = 1 << 20
_STRIDE_BYTES = 1 << 16
_KNOWN_STRIDES_MAX = 4
_KNOWN_BYTES_MAX = 1 << 20
"""What was read last is kept: so many strides, and none that has a line of unusual length."""

_LINE_BYTES_MAX = 1 << 24
"""Twice what 500 IDs, and what may be carried along with them, can take."""
_HINT = "restore the file from a copy, or begin again in a new run directory"


# --- Writing ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """What was planned.

    Attributes:
        files: file IDs in all chunks.
        chunks: lines of the file.
        sha256: of the file.
        bytes: the file's size.
        ids_sha256: of the IDs in their order, each with a newline behind it; chunk sizes don't matter to it.
        carries_lists: whether an ID carries more than one object.
    """

    files: int
    chunks: int
    sha256: str
    bytes: int
    ids_sha256: str
    carries_lists: bool = False


async def write_plan(store: RunStore, chunks: AsyncIterable[Sequence[str]]) -> PlanSummary:
    """Writes the plan of chunks of rows whole: afterwards, whatever happens, there is all of it or nothing.

    Raises:
        StoreError: the medium refused. Whatever the chunks' source raises comes through, and no plan is left.
    """
    with BackgroundHashes() as hashes:
        writing = _Writing(chunks, hashes)
        async with closing(writing.encode_blocks()) as blocks:
            await store.replace(PLAN_JSONL, blocks)
        return writing.make_summary()


def plan_line(
    chunk: int,
    file_ids: Sequence[str],
    carried: Mapping[str, list[Any]] | None = None,
    carried_again: Mapping[str, list[dict[str, Any]]] | None = None,
) -> str:
    """A chunk's line, with its newline: what `json.dumps` would write, in a third of its time."""
    return _encode_chunk(chunk, _encode_ids(file_ids), carried, carried_again).decode()


def _encode_ids(file_ids: Sequence[str]) -> bytes:
    """File IDs in UTF-8, each with a newline behind it."""
    return file_ids.data if isinstance(file_ids, UuidLines) else "\n".join([*file_ids, ""]).encode()


def _encode_chunk(
    chunk: int,
    lines: bytes,
    carried: Mapping[str, list[Any]] | None,
    carried_again: Mapping[str, list[dict[str, Any]]] | None,
) -> bytes:
    """A chunk's line, of its file IDs with a newline behind each: no ID has one in it, nor any other control
    character, and only quotes and backslashes have to be escaped."""
    if b'"' in lines or b"\\" in lines:
        lines = _escape_ids(lines)
    further = f', "carried": {json.dumps(carried)}' if carried else ""
    further += f', "carried_again": {json.dumps(carried_again)}' if carried_again else ""
    listed = lines[:-1].replace(_NEWLINE, _BETWEEN)
    return b'{"chunk": %d, "file_ids": ["%b"]%b}\n' % (chunk, listed, further.encode())


def _escape_ids(lines: bytes) -> bytes:
    return "\n".join([encode_basestring(line)[1:-1] for line in lines.decode().split("\n")]).encode()


async def hash_file_ids(batches: AsyncIterable[Sequence[str]]) -> str:
    """`PlanSummary.ids_sha256` of any IDs: an input that has the plan's, without repeats, is the plan's input."""
    digest = hashlib.sha256()
    async with closing(batches) as stream:
        async for batch in stream:
            digest.update(_encode_ids(batch))
    return digest.hexdigest()


class _Writing:
    """Encodes chunks into blocks, and counts and hashes what goes by."""

    def __init__(self, chunks: AsyncIterable[Sequence[str]], hashes: BackgroundHashes) -> None:
        self._chunks = chunks
        self._hash = hashes.new_hash()
        self._ids_hash = hashes.new_hash()
        self._files = self._stream_lines = self._bytes = 0
        self._carries_lists = False

    async def encode_blocks(self) -> AsyncIterator[bytes]:
        lines: list[bytes] = []
        texts: list[bytes] = []
        size = 0
        async with closing(self._chunks) as stream:
            async for chunk in stream:
                text = _encode_ids(file_ids_of_rows(chunk))
                columns, again = columns_of(chunk)
                self._carries_lists = self._carries_lists or bool(again)
                line = _encode_chunk(self._stream_lines, text, columns, again)
                lines.append(line)
                texts.append(text)
                self._files += len(chunk)
                self._stream_lines += 1
                size += len(line)
                if size >= _BLOCK_BYTES:
                    yield self._join_block(lines, texts)
                    lines, texts, size = [], [], 0
        if lines:
            yield self._join_block(lines, texts)

    def _join_block(self, lines: list[bytes], texts: list[bytes]) -> bytes:
        """`texts`: the file IDs of each line, with a newline behind each."""
        block = b"".join(lines)
        self._hash.add_bytes(block)
        self._ids_hash.add_bytes(b"".join(texts))
        self._bytes += len(block)
        return block

    def make_summary(self) -> PlanSummary:
        return PlanSummary(
            self._files,
            self._stream_lines,
            self._hash.hexdigest(),
            self._bytes,
            self._ids_hash.hexdigest(),
            self._carries_lists,
        )


# --- Reading ------------------------------------------------------------------------------------------------


class PlanReader:
    """A plan in a store: scan it once, then look chunks up or stream them. Holds 16 bytes for each 64 KiB.

    Attributes:
        first_chunk: the number of the first one.
        chunks: how many there are; 0 before the scan.
        sha256: of the file as the scan found it.
    """

    def __init__(self, store: RunStore, first_chunk: int = 0) -> None:
        self._store = store
        self.first_chunk = first_chunk
        self._offsets = array("Q")
        self._first_chunks = array("Q")
        self._known_lines: dict[int, list[bytes]] = {}
        self.chunks = 0
        self.sha256 = ""

    async def scan_whole_file(self, sha256: str | None = None) -> None:
        """Reads the file once. Must come first.

        Args:
            sha256: what the file's hash must be; None takes any file that ends with a whole line.

        Raises:
            DamagedError: the file is missing, torn or another; names the first line at fault if it shows.
        """
        end = 0
        last = b"\n"
        self._offsets, self._first_chunks, self.chunks = array("Q", [0]), array("Q", [self.first_chunk]), 0
        self._known_lines.clear()
        with BackgroundHashes() as hashes:
            digest = hashes.new_hash()
            async with closing(self._stream_bytes(0)) as stream:
                async for block in stream:
                    digest.add_bytes(block)
                    self._index_block(block, end)
                    end += len(block)
                    last = block[-1:]
                    await checkpoint()
            self.sha256 = digest.hexdigest()
        if sha256 is not None and self.sha256 != sha256:
            await self._find_damage()
            raise self._damaged_error("its SHA-256 is not that of the plan which was written")
        if last != b"\n":
            raise self._damaged_error(f"line {self.chunks + 1} has no end")

    def _index_block(self, block: bytes, start: int) -> None:
        """Counts the block's lines, and notes the first line that begins in each stride of it."""
        for stride in range(0, len(block), _STRIDE_BYTES):
            stop = min(stride + _STRIDE_BYTES, len(block))
            if newline := block.find(b"\n", stride, stop) + 1:
                self._offsets.append(start + newline)
                self._first_chunks.append(self.first_chunk + self.chunks + 1)
                self.chunks += block.count(b"\n", stride, stop)

    async def file_ids(self, chunk: int) -> list[str]:
        """The file IDs of one chunk; reads the 64 KiB around it.

        Raises:
            IndexError: there is no such chunk.
            DamagedError: its line is not what a plan's line is.
        """
        if not self.first_chunk <= chunk < self._end_chunk:
            raise IndexError(f"the plan has {self.chunks} chunks from {self.first_chunk} on; there is no chunk {chunk}")
        return self._parse_line(await self._read_line(chunk), chunk)

    @property
    def _end_chunk(self) -> int:
        return self.first_chunk + self.chunks

    async def _read_line(self, chunk: int) -> bytes:
        entry = bisect_right(self._first_chunks, chunk) - 1
        lines = self._known_lines.get(entry)
        if lines is None:
            end = self._offsets[entry + 1] if entry + 1 < len(self._offsets) else None
            async with closing(self._stream_bytes(self._offsets[entry], end)) as stream:
                lines = b"".join([block async for block in stream]).split(b"\n")
            self._remember_lines(entry, lines)
        place = chunk - self._first_chunks[entry]
        return lines[place] if place < len(lines) else b""  # of a file that was replaced since the scan

    def _remember_lines(self, entry: int, lines: list[bytes]) -> None:
        """Chunks are asked for nearly in their order: with one file a chunk, a thousand of them stand together."""
        if sum(map(len, lines)) > _KNOWN_BYTES_MAX:
            return
        self._known_lines[entry] = lines
        while len(self._known_lines) > _KNOWN_STRIDES_MAX:
            self._known_lines.pop(next(iter(self._known_lines)))

    async def carried(self, chunk: int) -> dict[str, Carried]:
        """What is carried along with each file ID of a chunk; nothing where nothing is.

        Raises:
            DamagedError: its line is not what a plan's line is.
        """
        line = await self._read_line(chunk)
        file_ids = self._parse_line(line, chunk)
        record = json.loads(line)
        carried, again = record.get("carried") or {}, record.get("carried_again") or {}
        try:
            columns = [dict(zip(carried, cells, strict=True)) for cells in zip(*carried.values(), strict=True)]
            carried_by_id: dict[str, Carried] = dict(zip(file_ids, columns, strict=True)) if carried else {}
            for place, further in again.items():
                carried_by_id[file_ids[int(place)]] = [columns[int(place)], *further]
            return carried_by_id
        except (TypeError, ValueError, AttributeError, IndexError):
            raise self._damaged_error(f"{self._name_line(chunk)} doesn't carry as much as it has file IDs") from None

    async def stream(
        self, first_chunk: int | None = None, wanted: Callable[[int], bool] | None = None
    ) -> AsyncGenerator[tuple[int, list[str]], None]:
        """Chunks with their numbers, in order, from `first_chunk` on (None: all). Only `wanted` ones are parsed.

        What lies before the first wanted one is not even read; a chunk that isn't wanted now must never be later.

        Raises:
            DamagedError: a wanted chunk's line is not what a plan's line is.
        """
        first_chunk = self.first_chunk if first_chunk is None else first_chunk
        if wanted is not None:
            first_chunk = next(filter(wanted, range(first_chunk, self._end_chunk)), self._end_chunk)
        if first_chunk >= self._end_chunk:
            return
        async with closing(self._stream_lines(first_chunk)) as stream:
            async for first, lines in stream:
                for number, line in enumerate(lines, first):
                    if number >= first_chunk and (wanted is None or wanted(number)):
                        yield number, self._parse_line(line, number)

    async def file_id_batches(self) -> AsyncIterator[list[str]]:
        """All file IDs of the plan in their order, a chunk at a time: a source, like any other."""
        async with closing(self.stream()) as stream:
            async for _, file_ids in stream:
                yield file_ids

    async def raw_file_ids(self) -> AsyncGenerator[list[bytes], None]:
        """All file IDs of the plan, in UTF-8, a block of lines at a time. For a plan whose hash was checked by `scan`:
        a line that is spelled as most are is taken apart without being parsed.

        Raises:
            DamagedError: a line is not what a plan's line is.
        """
        async with closing(self._stream_lines(self.first_chunk)) as stream:
            async for first, lines in stream:
                file_ids: list[bytes] = []
                for number, line in enumerate(lines, first):
                    head = b'{"chunk": %d, "file_ids": ["' % number
                    if line.startswith(head) and line.endswith(_LINE_END) and b"\\" not in line:
                        file_ids += line[len(head) : -len(_LINE_END)].split(_BETWEEN)
                    else:
                        file_ids += encode_ids(self._parse_line(line, number))
                yield file_ids

    async def _stream_lines(self, chunk: int) -> AsyncIterator[tuple[int, list[bytes]]]:
        """Lines that follow each other, with the number of their first; from somewhere before `chunk` to the end."""
        entry = bisect_right(self._first_chunks, chunk) - 1
        number = self._first_chunks[entry]
        rest = b""
        async with closing(self._stream_bytes(self._offsets[entry])) as stream:
            async for block in stream:
                lines = block.split(b"\n")
                lines[0] = rest + lines[0]
                rest = lines.pop()
                if len(rest) > _LINE_BYTES_MAX:
                    raise self._damaged_error(f"{self._name_line(number + len(lines))} has no end")
                yield number, lines
                number += len(lines)
                await checkpoint()
        if rest:
            yield number, [rest]

    async def _stream_bytes(self, start: int, end: int | None = None) -> AsyncGenerator[bytes, None]:
        try:
            async with closing(self._store.stream(PLAN_JSONL, start, end)) as stream:
                async for block in stream:
                    yield block
        except FileNotFoundError:  # the file may go after the scan, too
            raise self._damaged_error("missing") from None

    async def _find_damage(self) -> None:
        """Raises DamagedError at the first line that isn't as it must be, if there is one."""
        async with closing(self._stream_lines(self.first_chunk)) as stream:
            async for first, lines in stream:
                for number, line in enumerate(lines, first):
                    file_ids = self._parse_line(line, number)
                    written = json.loads(line)
                    expected = plan_line(number, file_ids, written.get("carried"), written.get("carried_again"))
                    if expected.encode() != line + b"\n":
                        raise self._damaged_error(f"{self._name_line(number)} is not spelled as it was written")

    def _parse_line(self, line: bytes, number: int) -> list[str]:
        try:
            record = json.loads(line)
            file_ids: list[str] = record["file_ids"]
            sound = type(file_ids) is list and bool(file_ids) and all_valid(file_ids)
            chunk = record["chunk"]
        except (ValueError, TypeError, KeyError, RecursionError):
            sound = False
        if not sound:
            raise self._damaged_error(f"{self._name_line(number)} is not a chunk of file IDs")
        if chunk != number:
            words = f"is chunk {shorten(chunk)}, but chunk {number} belongs there"
            raise self._damaged_error(f"{self._name_line(number)} {words}")
        return file_ids

    def _name_line(self, chunk: int) -> str:
        return f"line {chunk - self.first_chunk + 1}"

    def _damaged_error(self, what: str) -> DamagedError:
        return DamagedError(f"{PLAN_JSONL} in {self._store.where}: {what}", hint=_HINT)
