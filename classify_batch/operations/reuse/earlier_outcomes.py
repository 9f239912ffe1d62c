"""Reads the committed results of an earlier run: whole lines with their file IDs, a block at a time.

The run may be incomplete, or still running: only what its journal commits is read. The first pass checks the journal's
CRC-32 of every segment: a damaged line must not be copied into a new run, where its checksum would be right.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from classify_batch.errors import DamagedError
from classify_batch.model import Segment
from classify_batch.operations.reuse.outcome_answers import parse_outcome_answer, parse_outcome_answers
from classify_batch.ports import RunStore
from classify_batch.rundir.crc_checker import CrcChecker
from classify_batch.rundir.opened_run import RunOnDisk
from classify_batch.rundir.outcome_ids import outcome_file_id, outcome_file_ids, outcome_uuids
from classify_batch.streams.closing import closing
from classify_batch.vocabulary import Log, OutcomeKind

_HINT = "`classify-batch verify` names all damage; put the file back from a copy, or leave the run out"

Parsed = TypeVar("Parsed")

_SEGMENT = re.compile(rb'"results":\[(\d+),(\d+),(\d+)\]')
"""A segment in a line of the journal; inside a JSON string its quotes would be escaped. The journal was decoded, and so
checked, before: decoding a big one again would take seconds."""


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """An earlier run whose outcomes may be reused."""

    store: RunStore
    run: RunOnDisk


class ResultLines(NamedTuple):
    """Whole lines that follow each other; with their file IDs and answers, if these were parsed."""

    data: bytes
    file_ids: Sequence[str] = ()
    answers: Sequence[bytes] = ()


async def read_proven_lines(earlier: EarlierRun) -> AsyncGenerator[ResultLines, None]:
    """All committed lines of results.jsonl with their file IDs, in order, some at a time. Checks their checksums.

    Raises:
        DamagedError: what was committed is not there as it was written.
    """
    store, snapshot = earlier.store, earlier.run.snapshot
    where, lines = f"{Log.RESULTS} in {store.where}", 0
    async with closing(committed_segments(earlier)) as segments:
        checker = CrcChecker(segments, where, _HINT)
        async with closing(read_whole_lines(store, snapshot.results_end, parse_file_ids, checker)) as stream:
            async for some in stream:
                lines += len(some.file_ids)
                yield some
    count = snapshot.outcomes.total() - snapshot.outcomes[OutcomeKind.FAILED]
    if lines != count:
        raise DamagedError(f"{where} has {lines} lines, and the journal says {count}", hint=_HINT)


async def read_whole_lines(
    store: RunStore, end: int, parse: Callable[[bytes], ResultLines] = ResultLines, checker: CrcChecker | None = None
) -> AsyncGenerator[ResultLines, None]:
    """The lines of the first `end` bytes of results.jsonl. Raises DamagedError where the file is shorter.

    `parse`: makes the result of some lines.
    """
    where = f"{Log.RESULTS} in {store.where}"
    number, size, rest = 1, 0, b""
    async with closing(stream_committed(store, end)) as blocks:
        async for block in blocks:
            size += len(block)
            if checker is not None:
                await checker.check_block(block)
            cut = block.rfind(b"\n") + 1
            if not cut:
                rest += block
            else:
                data = b"".join((rest, memoryview(block)[:cut]))
                rest = block[cut:]
                try:
                    lines = parse(data)
                except _BadLineError as error:
                    raise DamagedError(f"{where}, line {number + error.index}: not an outcome", hint=_HINT) from None
                number += len(lines.file_ids)
                yield lines
    if size < end:
        raise DamagedError(f"{where} has {size} bytes, but {end} were committed", hint=_HINT)
    if rest:
        raise DamagedError(f"{where}, line {number}: not an outcome", hint=_HINT)


class _BadLineError(ValueError):
    """A line is no outcome; `index`: its place in the block."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


def parse_file_ids(data: bytes) -> ResultLines:
    """Lines with their file IDs."""
    file_ids = outcome_uuids(data) or outcome_file_ids(data) or parse_each_line(data, outcome_file_id)
    return ResultLines(data, file_ids)


def parse_answers(data: bytes) -> ResultLines:
    """Lines with their file IDs and answers."""
    parsed = parse_outcome_answers(data)
    if parsed is None:
        parsed = parse_each_line(data, outcome_file_id), parse_each_line(data, parse_outcome_answer)
    return ResultLines(data, *parsed)


def parse_each_line(data: bytes, parse: Callable[[bytes], Parsed]) -> list[Parsed]:
    """What `parse` makes of each line; slow, but it knows which line is bad."""
    parsed: list[Parsed] = []
    for index, line in enumerate(data.split(b"\n")[:-1]):
        try:
            parsed.append(parse(line))
        except ValueError:
            raise _BadLineError(index) from None
    return parsed


async def stream_committed(store: RunStore, end: int) -> AsyncGenerator[bytes, None]:
    """The first `end` bytes of results.jsonl in blocks; none where there is no file."""
    if not end:
        return
    try:
        async with closing(store.stream(Log.RESULTS, 0, end)) as blocks:
            async for block in blocks:
                yield block
    except FileNotFoundError:
        return


async def committed_segments(earlier: EarlierRun) -> AsyncGenerator[Segment, None]:
    """The segments of results.jsonl, in order. The first is what the run itself had reused, if anything."""
    if (reused := earlier.run.run.reused) is not None:
        yield Segment(0, reused.bytes, reused.crc)
    rest = b""
    async with closing(earlier.store.stream(Log.JOURNAL)) as blocks:
        async for block in blocks:
            whole, newline, rest = (rest + block).rpartition(b"\n")
            for start, end, crc in _SEGMENT.findall(whole + newline):
                yield Segment(int(start), int(end), int(crc))
