"""Record batches → the bytes of a Parquet or an Arrow file, in memory that doesn't grow. Needs the extra `parquet`.

The writer is one long call of a library that takes batches from an iterator and gives bytes to a file. It runs in a
thread; the event loop hands it batches through one stream and takes its bytes from another, so that a file, or an
object in a store, is written whole by those that write any other export.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from io import UnsupportedOperation
from typing import IO, Any, cast

import anyio
from anyio import from_thread, to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from classify_batch.errors import missing_extra
from classify_batch.operations.export.columns import OutcomeColumns
from classify_batch.streams.background import background_tasks
from classify_batch.streams.closing import closing

try:
    from arro3.core import RecordBatch, RecordBatchReader
    from arro3.io import write_ipc, write_parquet
except ImportError:
    raise missing_extra("tables need arro3", "parquet") from None

Batches = AsyncGenerator[RecordBatch, None]

ROWS_A_GROUP = 100_000
"""A writer holds one row group in memory: with answers of 1,000 characters 100 MB before they are compressed."""

_BLOCK_BYTES = 1 << 18
_ALL_DIFFERENT = ("file_id", "reasoning", "message")
"""A dictionary of these would be as long as the column, and takes half of the time."""


class GrownCategoriesError(Exception):
    """A value came that no dictionary of an Arrow file holds: it has to be written anew, with it."""


def write_parquet_file(reader: RecordBatchReader, file: IO[bytes]) -> None:
    """Writes batches as Parquet, in row groups, compressed by zstd."""
    write_parquet(
        reader,
        file,
        compression="zstd(1)",
        max_row_group_size=ROWS_A_GROUP,
        column_dictionary_enabled=dict.fromkeys(_ALL_DIFFERENT, False),
        created_by="classify-batch",
    )


def write_arrow_file(reader: RecordBatchReader, file: IO[bytes]) -> None:
    """Writes batches as an Arrow file (Feather), compressed by LZ4."""
    write_ipc(reader, file, compression="lz4")


@asynccontextmanager
async def parquet_blocks(batches: Batches, columns: OutcomeColumns) -> AsyncIterator[AsyncIterator[bytes]]:
    """The bytes of a Parquet file."""
    async with _blocks_of_writer(write_parquet_file, batches, columns) as blocks:
        yield blocks


@asynccontextmanager
async def arrow_blocks(batches: Batches, columns: OutcomeColumns) -> AsyncIterator[AsyncIterator[bytes]]:
    """The bytes of an Arrow file. Raises GrownCategoriesError in its middle; `columns` then know the value."""
    async with _blocks_of_writer(write_arrow_file, _refuse_growth(batches, columns), columns) as blocks:
        yield blocks


async def _refuse_growth(batches: Batches, columns: OutcomeColumns) -> Batches:
    written: list[int] = []
    async with closing(batches) as stream:
        async for batch in stream:
            sizes = list(map(len, columns.categories.values()))
            if written and sizes != written:
                raise GrownCategoriesError
            written = sizes
            yield batch


@asynccontextmanager
async def _blocks_of_writer(
    write: Callable[[RecordBatchReader, IO[bytes]], None], batches: Batches, columns: OutcomeColumns
) -> AsyncIterator[AsyncIterator[bytes]]:
    """What `write` writes of batches, as a stream of bytes; it raises what went wrong before its end."""
    writer = _Writer(write, batches, columns)
    try:
        async with background_tasks() as tasks:
            tasks.start_soon(writer.feed_batches)
            tasks.start_soon(writer.run_in_thread)
            yield writer.read_blocks()
    finally:
        writer.close()


class _Writer:
    """Two tasks and a thread: one hands batches to the thread, one waits for it; both say what went wrong."""

    def __init__(
        self, write: Callable[[RecordBatchReader, IO[bytes]], None], batches: Batches, columns: OutcomeColumns
    ) -> None:
        self._write = write
        self._batches = batches
        self._schema = columns.schema
        self._to_thread, self._for_thread = anyio.create_memory_object_stream[RecordBatch](1)
        self._from_thread, self._written = anyio.create_memory_object_stream[bytes](1)
        self._failures: list[Exception] = []
        self._all_fed = anyio.Event()

    async def feed_batches(self) -> None:
        async with self._to_thread, closing(self._batches) as batches:
            try:
                async for batch in batches:
                    await self._to_thread.send(batch)
                self._all_fed.set()
            except anyio.BrokenResourceError:  # the writer has failed, and says why
                pass
            except Exception as error:  # noqa: BLE001 - raised again by whoever reads the bytes
                self._failures.append(error)

    async def run_in_thread(self) -> None:
        with self._from_thread, self._for_thread:
            try:
                await to_thread.run_sync(self._write_all)
            except Exception as error:  # noqa: BLE001 - raised again by whoever reads the bytes
                self._failures.append(error)

    def _write_all(self) -> None:
        sink = _Sink(self._from_thread)
        reader = RecordBatchReader.from_batches(self._schema, _received(self._for_thread, self._all_fed))
        self._write(reader, cast("IO[bytes]", sink))
        sink.give_remaining()

    async def read_blocks(self) -> AsyncIterator[bytes]:
        """The bytes that were written; raises at their end what went wrong."""
        async for block in self._written:
            yield block
        if self._failures:
            raise self._failures[0]

    def close(self) -> None:
        """Frees what nobody has taken."""
        self._written.close()


class _FailedError(Exception):
    """The batches ended too early."""


def _received(batches: MemoryObjectReceiveStream[RecordBatch], ended: anyio.Event) -> Iterator[RecordBatch]:
    """The batches, for a thread."""
    while True:
        try:
            batch = from_thread.run(batches.receive)
        except anyio.EndOfStream:
            if not ended.is_set():  # else the end of a half would look like the end of all
                raise _FailedError from None
            return
        yield batch


class _Sink:
    """As much of a file as the writers use. What is written goes to the event loop."""

    def __init__(self, blocks: MemoryObjectSendStream[bytes]) -> None:
        self._blocks = blocks
        self._held = bytearray()

    def write(self, data: bytes) -> int:
        self._held += data
        if len(self._held) >= _BLOCK_BYTES:
            self.give_remaining()
        return len(data)

    def flush(self) -> None:
        """Nothing: the writer asks for it often, and small blocks take longer."""

    def give_remaining(self) -> None:
        """Gives what is held to the event loop."""
        if self._held:
            from_thread.run(partial(self._blocks.send, bytes(self._held)))
            self._held.clear()

    def seek(self, offset: int, whence: int = 0) -> Any:
        raise UnsupportedOperation(f"seek({offset}, {whence})")
