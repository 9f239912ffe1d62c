"""The committed outcomes of a run, read by plain calls, and read on as a run commits more.

The journal names each segment that is committed, with its CRC-32. So whoever reads it from where it stopped last time
knows what is new, and never sees a line that is just being written. Memory holds about a megabyte of lines, whatever
the run's size. `committed_outcomes` reads the same for whoever is inside an event loop and has read the run already.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

from classify_batch.errors import DamagedError, WorldError
from classify_batch.model import Segment
from classify_batch.ports import RunReader
from classify_batch.rundir.committed_outcomes import HINT
from classify_batch.rundir.journal.line import BadLineError, refuse_unsound
from classify_batch.rundir.run_json import RunFile
from classify_batch.vocabulary import Log

_BLOCK_BYTES = 1 << 18
BATCH_BYTES = 1 << 20
"""About so many bytes of outcomes are read at once."""

_MARKS = re.compile(rb'"kind":"(reopened)"|"(results|failures)":\[(\d+),(\d+),(\d+)\]')
"""Where a line of the journal names a segment of outcomes, or begins the failures anew; in a string the quotes would
have a backslash before them."""

_REOPENED = b'"kind":"reopened"'
_LOGS = {b"results": Log.RESULTS, b"failures": Log.FAILURES}


class OutcomeLines(NamedTuple):
    """Whole lines of results.jsonl or failures.jsonl."""

    log: Log
    data: bytes


class OutcomeTail:
    """Reads the outcomes of a run once, and then those that were committed since.

    Of a run whose failed files were retried, the failures are those since then. Where a retry begins while `poll` goes
    on being called, failures that were given before may be followed by other outcomes of the same files.
    """

    def __init__(self, reader: RunReader, run: RunFile, logs: tuple[Log, ...] = (Log.RESULTS, Log.FAILURES)) -> None:
        self._reader = reader
        self._logs = logs
        self._offset = 0
        self._reused = run.reused
        self._earlier_generations = self._count_reopened(0)
        self._waiting: dict[Log, list[Segment]] = {log: [] for log in logs}
        self._waiting_bytes = 0

    def poll_committed(self, *, follows: bool = True) -> Iterator[OutcomeLines]:
        """What was committed since the last call.

        `follows`: whether later calls bring what is committed instead, where failed files are being retried: then the
        failures that were put aside meanwhile are left out.

        Raises:
            DamagedError: what was committed is not there as it was written.
            WorldError: the run took its failed files up again, and `follows` is False.
        """
        if (reused := self._reused) is not None:
            self._reused = None
            if Log.RESULTS in self._logs:
                yield from self._read_reused(Segment(0, reused.bytes, reused.crc))
        for line in self._new_lines():
            for reopened, name, start, end, crc in _MARKS.findall(line):
                if reopened:
                    self._begin_failures_anew(follows=follows)
                elif self._is_wanted(log := _LOGS[name]):
                    self._waiting[log].append(Segment(int(start), int(end), int(crc)))
                    self._waiting_bytes += int(end) - int(start)
            if self._waiting_bytes >= BATCH_BYTES:
                yield from self._read_waiting(follows=follows)
        yield from self._read_waiting(follows=follows)

    def _is_wanted(self, log: Log) -> bool:
        return log in self._logs and (log is not Log.FAILURES or not self._earlier_generations)

    def _begin_failures_anew(self, *, follows: bool) -> None:
        if self._earlier_generations:
            self._earlier_generations -= 1
        elif not follows:
            self._raise_reopened()
        elif Log.FAILURES in self._waiting:
            self._waiting[Log.FAILURES].clear()

    def _raise_reopened(self) -> None:
        raise WorldError(
            f"the run in {self._reader.where} took its failed files up again while it was read",
            hint="the same call again",
        )

    def _new_lines(self) -> Iterator[bytes]:
        """The whole lines of the journal from where reading ended, up to one that is torn or just being written."""
        end, place, rest = self._reader.size(Log.JOURNAL) or 0, self._offset, b""
        while place < end and (block := self._reader.read(Log.JOURNAL, place, min(end, place + _BLOCK_BYTES))):
            place += len(block)
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                try:
                    refuse_unsound(line)
                except BadLineError:
                    return  # whoever takes the run over cuts it off, or says that it is damaged
                self._offset += len(line) + 1
                yield line

    def _count_reopened(self, start: int) -> int:
        """How often the failures begin anew in the journal from byte `start` on."""
        place, count, rest = start, 0, b""
        while block := self._reader.read(Log.JOURNAL, place, place + _BLOCK_BYTES):
            place += len(block)
            whole, newline, rest = (rest + block).rpartition(b"\n")
            count += (whole + newline).count(_REOPENED)
        return count

    # --- The lines themselves ---------------------------------------------------------------------------------------

    def _read_reused(self, segment: Segment) -> Iterator[OutcomeLines]:
        """What stood in results.jsonl when the run was planned: one segment, of any size."""
        place, crc, rest = segment.start, 0, b""
        while place < segment.end:
            block = self._reader.read(Log.RESULTS, place, min(segment.end, place + BATCH_BYTES))
            if not block:
                break
            place, crc = place + len(block), crc32(block, crc)
            whole, newline, rest = (rest + block).rpartition(b"\n")
            if whole:
                yield OutcomeLines(Log.RESULTS, whole + newline)
        if place < segment.end or crc != segment.crc or rest:
            self._raise_damaged(Log.RESULTS, segment)

    def _read_waiting(self, *, follows: bool) -> Iterator[OutcomeLines]:
        self._waiting_bytes = 0
        for log, segments in self._waiting.items():
            taken = segments.copy()
            segments.clear()
            if taken and (data := self._read_segments(log, taken, follows=follows)) is not None:
                yield OutcomeLines(log, data)

    def _read_segments(self, log: Log, segments: list[Segment], *, follows: bool) -> bytes | None:
        """The bytes of segments that follow each other; None where a retry has put them aside."""
        first = segments[0].start
        data = self._reader.read(log, first, segments[-1].end) or b""
        for segment in segments:
            if crc32(memoryview(data)[segment.start - first : segment.end - first]) == segment.crc:
                continue
            if log is Log.FAILURES and self._count_reopened(self._offset):
                if follows:
                    return None
                self._raise_reopened()
            self._raise_damaged(log, segment)
        return data

    def _raise_damaged(self, log: Log, segment: Segment) -> None:
        where = f"{log} in {self._reader.where}, bytes {segment.start} to {segment.end}"
        raise DamagedError(f"{where}: not what was committed", hint=HINT)
