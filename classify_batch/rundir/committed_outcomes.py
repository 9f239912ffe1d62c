"""The outcomes of a run that are committed, whole lines at a time, in bounded memory.

What the journal doesn't vouch for is not read, so that a run may be on meanwhile. Each line must be an outcome, there
must be as many as the journal says, and each piece must have the CRC-32 with which it was committed: a line may read
well and tell another type than was answered. What else there is to prove is for `verify`.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Generic, Protocol, TypeVar

import msgspec
from anyio.lowlevel import checkpoint

from classify_batch.errors import DamagedError, WorldError
from classify_batch.model import Segment
from classify_batch.ports import RunStore
from classify_batch.protocol.json_shape import Shape
from classify_batch.rundir.crc_checker import CrcChecker
from classify_batch.rundir.opened_run import RunOnDisk, read_run
from classify_batch.rundir.outcome_ids import outcome_id_bytes
from classify_batch.streams.closing import closing
from classify_batch.vocabulary import Log, OutcomeKind, earlier_failures_name

HINT = "put the file back from a copy; `classify-batch verify` names all that is wrong"

_REOPENED = b'"kind":"reopened"'
_SEGMENTS = {
    log: re.compile(rb'"%s":\[(\d+),(\d+),(\d+)\]' % key)
    for log, key in ((Log.RESULTS, b"results"), (Log.FAILURES, b"failures"))
}
"""Where a line of the journal names a segment of a file; in a string the quotes would have a backslash before them. The
journal was read as a whole already: to decode its lines once more would take seconds."""


class OutcomeLine(msgspec.Struct, gc=False):
    """What a line of results.jsonl or failures.jsonl answers."""

    file_id: str
    outcome: str
    type: str | None = None
    confidence: float | None = None
    code: str | None = None


Line = TypeVar("Line", bound=OutcomeLine)
Read = TypeVar("Read")


class ReadsLines(Protocol[Read]):
    """Makes something of each line."""

    def read_lines(self, data: bytes, where: str, number: int) -> list[Read]:
        """Whole lines, the first of which is line `number`. Raises DamagedError for what is no outcome."""


class IdReader:
    """Reads the file IDs alone, in UTF-8. For whoever looks again at what can't be read: a line that is spelled unlike
    most is refused with all that stand with it."""

    def read_lines(self, data: bytes, where: str, number: int) -> list[bytes]:
        if (file_ids := outcome_id_bytes(data)) is None:
            raise DamagedError(f"{where}, behind line {number - 1}: an odd line", hint=HINT)
        return file_ids


class LineReader(Generic[Line]):
    """Reads what is wanted of each line; millions of them come by here."""

    def __init__(self, kind: type[Line]) -> None:
        self._decoder = msgspec.json.Decoder(kind)
        self._shape = Shape(kind)

    def read_lines(self, data: bytes, where: str, number: int) -> list[Line]:
        """Whole lines, the first of which is line `number`. Raises DamagedError for what is no outcome."""
        try:
            lines = self._decoder.decode_lines(data)
        except ValueError:
            lines = []
        newlines = len(data) - len(data.replace(b"\n", b""))  # a fifth of the time of `count`
        if len(lines) != newlines:
            lines = [self._read_line(line, where, at) for at, line in enumerate(data.split(b"\n")[:-1], number)]
        return lines

    def _read_line(self, data: bytes, where: str, number: int) -> Line:
        """One line by itself, also one that only Python's own reader takes."""
        try:
            line = self._shape.read(data)
            line.file_id.encode()  # a lone surrogate is no file ID
            if not math.isfinite(line.confidence or 0.0):
                raise ValueError("no number")
        except ValueError:
            raise DamagedError(f"{where}, line {number}: not an outcome", hint=HINT) from None
        return line


async def committed_lines(
    store: RunStore, run: RunOnDisk, log: Log, reader: ReadsLines[Read]
) -> AsyncGenerator[tuple[bytes, list[Read]], None]:
    """All committed lines of results.jsonl or failures.jsonl, some at a time, as they stand and as they read.

    Raises:
        DamagedError: what was committed is not there as it was written.
        WorldError: the run took its failed files up again while they were read.
    """
    try:
        async with closing(_stream_committed_lines(store, run, log, reader)) as stream:
            async for some in stream:
                yield some
    except DamagedError:
        if log is Log.FAILURES:
            await _raise_if_reopened(store, run)
        raise
    if log is Log.FAILURES:
        await _raise_if_reopened(store, run)


async def _raise_if_reopened(store: RunStore, run: RunOnDisk) -> None:
    """failures.jsonl begins anew at a retry, which puts its lines aside first: only then is there more to ask."""
    generation = run.snapshot.generation
    if await store.size(earlier_failures_name(generation + 1)) is None:
        return
    now = await read_run(store)
    if now is None or now.snapshot.generation != generation:
        raise WorldError(
            f"the run in {store.where} took its failed files up again while it was read", hint="the same command again"
        )


async def _stream_committed_lines(
    store: RunStore, run: RunOnDisk, log: Log, reader: ReadsLines[Read]
) -> AsyncGenerator[tuple[bytes, list[Read]], None]:
    where = f"{log} in {store.where}"
    end, count = committed_bytes_and_lines(run, log)  # as the journal stood: what a run appends meanwhile isn't read
    number, size, rest = 1, 0, b""
    async with (
        closing(_stream_segments(store, run, log)) as segments,
        closing(_stream_blocks(store, log, end)) as blocks,
    ):
        checker = CrcChecker(segments, where, HINT)
        async for block in blocks:
            size += len(block)
            cut = block.rfind(b"\n") + 1
            whole = b"".join((rest, memoryview(block)[:cut])) if cut else b""
            rest = block[cut:] if cut else rest + block
            lines = reader.read_lines(whole, where, number) if whole else []
            await _check_crc(checker, block)  # a line that is none was reported before, by its number
            if whole:
                number += len(lines)
                yield whole, lines
            await checkpoint()
    if size < end:
        raise DamagedError(f"{where} has {size} bytes, but {end} were committed", hint=HINT)
    if rest:
        raise DamagedError(f"{where}, line {number}: not an outcome", hint=HINT)
    if number - 1 != count:
        raise DamagedError(f"{where} has {number - 1} outcomes, and the journal says {count}", hint=HINT)


def committed_bytes_and_lines(run: RunOnDisk, log: Log) -> tuple[int, int]:
    """The bytes of a file that are committed, and the outcomes in them."""
    snapshot = run.snapshot
    failed = snapshot.outcomes[OutcomeKind.FAILED]
    if log is Log.FAILURES:
        return snapshot.failures_end, failed
    return snapshot.results_end, snapshot.outcomes.total() - failed


async def _check_crc(checker: CrcChecker, block: bytes) -> None:
    try:
        await checker.check_block(block)
    except DamagedError as error:
        raise DamagedError(str(error), hint=HINT) from None


async def _stream_segments(store: RunStore, run: RunOnDisk, log: Log) -> AsyncGenerator[Segment, None]:
    """The pieces that a file was committed in, in their order; of the failures those since they began anew."""
    if log is Log.RESULTS and (reused := run.run.reused) is not None:
        yield Segment(0, reused.bytes, reused.crc)
    generation, rest = 0, b""
    async with closing(store.stream(Log.JOURNAL, 0, run.journal_end)) as blocks:
        async for block in blocks:
            whole, newline, rest = (rest + block).rpartition(b"\n")
            for number, text in enumerate((whole + newline).split(_REOPENED)):
                generation += number > 0
                if log is Log.RESULTS or generation == run.snapshot.generation:
                    for start, end, crc in _SEGMENTS[log].findall(text):
                        yield Segment(int(start), int(end), int(crc))


async def _stream_blocks(store: RunStore, log: Log, end: int) -> AsyncIterator[bytes]:
    if not end:
        return
    try:
        async with closing(store.stream(log, 0, end)) as blocks:
            async for block in blocks:
                yield block
    except FileNotFoundError:
        return
