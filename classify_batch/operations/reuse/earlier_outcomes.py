"""The results of an earlier run, as far as they are committed: whole lines with their file IDs, a block at a time.

The run may be incomplete, or on: what its journal doesn't vouch for is not read. At the first reading the journal's
CRC-32 of every segment is proven: a damaged line must not become a sound one of another run.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from classify_batch.errors import DamagedError
from classify_batch.model import Segment
from classify_batch.operations.reuse.outcome_answers import outcome_answer, outcome_answers
from classify_batch.ports import RunStore
from classify_batch.rundir.crc_checker import CrcChecker
from classify_batch.rundir.opened_run import RunOnDisk
from classify_batch.rundir.outcome_ids import outcome_file_id, outcome_file_ids
from classify_batch.streams.closing import closing
from classify_batch.vocabulary import Log, OutcomeKind

_HINT = "`classify-batch verify` tells all that is wrong; put the file back from a copy, or leave the run out"

Read = TypeVar("Read")

_SEGMENT = re.compile(rb'"results":\[(\d+),(\d+),(\d+)\]')
"""Where a line of the journal names a segment; in a string the quotes would have a backslash before them. The journal
was read as a whole already: to decode its lines once more would take seconds for a big one."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier run whose outcomes may be taken over."""

    store: RunStore
    run: RunOnDisk


class Lines(NamedTuple):
    """Whole lines that follow each other, and of each, where it was asked for, the file ID and what it answers."""

    data: bytes
    file_ids: Sequence[str] = ()
    answers: Sequence[bytes] = ()


async def proven_lines(earlier: Earlier) -> AsyncGenerator[Lines, None]:
    """All committed lines of results.jsonl with their file IDs, some at a time, in their order.

    Raises:
        DamagedError: what was committed is not there as it was written.
    """
    store, standing = earlier.store, earlier.run.standing
    where, lines = f"{Log.RESULTS} in {store.where}", 0
    async with closing(_segments(earlier)) as segments:
        checker = CrcChecker(segments, where, _HINT)
        async with closing(whole_lines(store, standing.results_end, with_file_ids, checker)) as stream:
            async for some in stream:
                lines += len(some.file_ids)
                yield some
    count = standing.outcomes.total() - standing.outcomes[OutcomeKind.FAILED]
    if lines != count:
        raise DamagedError(f"{where} has {lines} lines, and the journal says {count}", hint=_HINT)


async def whole_lines(
    store: RunStore, end: int, read: Callable[[bytes], Lines] = Lines, checker: CrcChecker | None = None
) -> AsyncGenerator[Lines, None]:
    """The lines of the first `end` bytes of results.jsonl. Raises DamagedError where they are not there.

    `read`: what is made of some of them.
    """
    where = f"{Log.RESULTS} in {store.where}"
    number, size, rest = 1, 0, b""
    async with closing(_blocks(store, end)) as blocks:
        async for block in blocks:
            size += len(block)
            if checker is not None:
                await checker.feed(block)
            whole, newline, rest = (rest + block).rpartition(b"\n")
            if newline:
                data = whole + newline
                try:
                    lines = read(data)
                except _BadLineError as error:
                    raise DamagedError(f"{where}, line {number + error.index}: not an outcome", hint=_HINT) from None
                number += len(lines.file_ids)
                yield lines
    if size < end:
        raise DamagedError(f"{where} has {size} bytes, but {end} were committed", hint=_HINT)
    if rest:
        raise DamagedError(f"{where}, line {number}: not an outcome", hint=_HINT)


class _BadLineError(ValueError):
    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


def with_file_ids(data: bytes) -> Lines:
    """Lines and their file IDs."""
    return Lines(data, outcome_file_ids(data) or _each(data, outcome_file_id))


def with_answers(data: bytes) -> Lines:
    """Lines, their file IDs, and what they answer."""
    told = outcome_answers(data)
    if told is None:
        told = _each(data, outcome_file_id), _each(data, outcome_answer)
    return Lines(data, *told)


def _each(data: bytes, read: Callable[[bytes], Read]) -> list[Read]:
    found: list[Read] = []
    for index, line in enumerate(data.split(b"\n")[:-1]):
        try:
            found.append(read(line))
        except ValueError:
            raise _BadLineError(index) from None
    return found


async def _blocks(store: RunStore, end: int) -> AsyncGenerator[bytes, None]:
    if not end:
        return
    try:
        async with closing(store.stream(Log.RESULTS, 0, end)) as blocks:
            async for block in blocks:
                yield block
    except FileNotFoundError:
        return


async def _segments(earlier: Earlier) -> AsyncGenerator[Segment, None]:
    """The pieces that results.jsonl was committed in, in their order: first what the run itself had taken over."""
    if (reused := earlier.run.run.reused) is not None:
        yield Segment(0, reused.bytes, reused.crc)
    rest = b""
    async for block in earlier.store.stream(Log.JOURNAL):
        whole, newline, rest = (rest + block).rpartition(b"\n")
        for start, end, crc in _SEGMENT.findall(whole + newline):
            yield Segment(int(start), int(end), int(crc))
