"""The outcomes of a run that are committed, whole lines at a time, in bounded memory.

What the journal doesn't vouch for is not read, so that a run may be on meanwhile. That the committed bytes are as they
were written is for `verify` to prove; here each line must be an outcome, and there must be as many as the journal says.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Generic, TypeVar

import msgspec
from anyio.lowlevel import checkpoint

from classify_batch.errors import DamagedError, WorldError
from classify_batch.manifest.reopen import earlier_failures_name
from classify_batch.manifest.standing import RunOnDisk, read_run
from classify_batch.ports import Log, RunStore
from classify_batch.records import OutcomeKind
from classify_batch.sources.closing import closing
from classify_batch.wire.shape import Shape

HINT = "put the file back from a copy; `classify-batch verify` tells all that is wrong"


class OutcomeLine(msgspec.Struct):
    """What a line of results.jsonl or failures.jsonl answers."""

    file_id: str
    outcome: str
    type: str | None = None
    confidence: float | None = None
    code: str | None = None


Line = TypeVar("Line", bound=OutcomeLine)


class LineReader(Generic[Line]):
    """Reads what is wanted of each line; millions of them come by here."""

    def __init__(self, kind: type[Line]) -> None:
        self._decoder = msgspec.json.Decoder(kind)
        self._shape = Shape(kind)

    def read(self, data: bytes, where: str, number: int) -> list[Line]:
        """Whole lines, the first of which is line `number`. Raises DamagedError for what is no outcome."""
        try:
            lines = self._decoder.decode_lines(data)
        except ValueError:
            lines = []
        if len(lines) != data.count(b"\n"):
            lines = [self._one(line, where, at) for at, line in enumerate(data.split(b"\n")[:-1], number)]
        return lines

    def _one(self, data: bytes, where: str, number: int) -> Line:
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
    store: RunStore, run: RunOnDisk, log: Log, reader: LineReader[Line]
) -> AsyncGenerator[tuple[bytes, list[Line]], None]:
    """All committed lines of results.jsonl or failures.jsonl, some at a time, as they stand and as they read.

    Raises:
        DamagedError: what was committed is not there.
        WorldError: the run took its failed files up again while they were read.
    """
    standing = run.standing
    failed = standing.outcomes[OutcomeKind.FAILED]
    if log is not Log.FAILURES:
        lines = _lines(store, log, standing.results_end, standing.outcomes.total() - failed, reader)
        async with closing(lines) as stream:
            async for some in stream:
                yield some
        return
    try:
        async with closing(_lines(store, log, standing.failures_end, failed, reader)) as stream:
            async for some in stream:
                yield some
    except DamagedError:
        await _refuse_reopened(store, run)
        raise
    await _refuse_reopened(store, run)


async def _refuse_reopened(store: RunStore, run: RunOnDisk) -> None:
    """failures.jsonl begins anew at a retry, which puts its lines aside first: only then is there more to ask."""
    generation = run.standing.generation
    if await store.size(earlier_failures_name(generation + 1)) is None:
        return
    now = await read_run(store)
    if now is None or now.standing.generation != generation:
        raise WorldError(
            f"the run in {store.where} took its failed files up again while it was read", hint="the same command again"
        )


async def _lines(
    store: RunStore, log: Log, end: int, count: int, reader: LineReader[Line]
) -> AsyncGenerator[tuple[bytes, list[Line]], None]:
    """The first `end` bytes of a file, which hold `count` outcomes."""
    where = f"{log} in {store.where}"
    number, size, rest = 1, 0, b""
    async with closing(_blocks(store, log, end)) as blocks:
        async for block in blocks:
            size += len(block)
            whole, newline, rest = (rest + block).rpartition(b"\n")
            if newline:
                lines = reader.read(whole + newline, where, number)
                number += len(lines)
                yield whole + newline, lines
            await checkpoint()
    if size < end:
        raise DamagedError(f"{where} has {size} bytes, but {end} were committed", hint=HINT)
    if rest:
        raise DamagedError(f"{where}, line {number}: not an outcome", hint=HINT)
    if number - 1 != count:
        raise DamagedError(f"{where} has {number - 1} outcomes, and the journal says {count}", hint=HINT)


async def _blocks(store: RunStore, log: Log, end: int) -> AsyncIterator[bytes]:
    if not end:
        return
    try:
        async with closing(store.stream(log, 0, end)) as blocks:
            async for block in blocks:
                yield block
    except FileNotFoundError:
        return
