"""Turns a journal's bytes into entries, and judges what is not an entry: pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from classify_batch.errors import DamagedError
from classify_batch.rundir.journal.entry import Entry, decode_entry
from classify_batch.rundir.journal.line import DAMAGED_HINT, BadLineError
from classify_batch.rundir.journal.plain import PlainLine, decode_plain

_Line = TypeVar("_Line", bound="Entry | PlainLine")


class JournalReader(Generic[_Line]):
    """Turns a journal's bytes into entries, or into whatever `decode` makes of a line.

    From the first bad line after the last seq known durable, the rest is a torn tail: a power loss can drop one page of
    a group and keep the next. A bad line before it is damage.
    """

    def __init__(self, name: str, decode: Callable[[bytes], _Line]) -> None:
        self.name = name
        self._decode = decode
        self._rest = b""
        self._offset = 0
        self.seq = 0
        self.durable = 0
        self.good_end = 0
        self._bad: tuple[int, int, str] | None = None

    def read_block(self, block: bytes) -> Iterator[tuple[_Line, int]]:
        """Entries, each with the byte at which its line begins."""
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            start = self._offset
            try:
                entry = self._decode(line)
            except BadLineError as error:
                self._note_bad_line(str(error))
                self._offset += len(line) + 1
                continue
            # Also behind a bad line: one that says that the bad one was on the disk makes it damage, and no torn tail.
            self.durable = max(self.durable, entry.durable)
            if entry.seq != self.seq + 1:
                self._note_bad_line(f"seq {entry.seq} follows seq {self.seq}")
            self._offset += len(line) + 1
            if self._bad is None:
                self.seq += 1
                self.good_end = self._offset
                yield entry, start

    def _note_bad_line(self, why: str) -> None:
        if self._bad is None:
            self._bad = (self.seq + 1, self._offset, why)

    def finish_reading(self, known_durable: int = 0) -> int:
        """The bytes of torn tail behind `good_end`. Raises DamagedError.

        `known_durable`: a seq that is known from elsewhere (the manifest) to have been on the disk.
        """
        if self._rest:
            self._note_bad_line("the line has no end")
        durable = max(self.durable, known_durable)
        if self._bad is not None and self._bad[0] <= durable:
            line, byte, why = self._bad
            raise DamagedError(f"{self.name}, line {line}, byte {byte}: {why}", hint=DAMAGED_HINT)
        if self.seq < durable:
            raise DamagedError(
                f"{self.name}, line {self.seq + 1}, byte {self.good_end}: cut off; "
                f"{durable} lines were known to be on the disk",
                hint=DAMAGED_HINT,
            )
        return self._offset + len(self._rest) - self.good_end


class Reader(JournalReader[Entry]):
    """Reads each line as an entry."""

    def __init__(self, name: str) -> None:
        super().__init__(name, decode_entry)


class ReplayReader(JournalReader[Entry | PlainLine]):
    """Reads lines as `RunSnapshot.replay_line` takes them: those that say nothing unusual in a cheaper form."""

    def __init__(self, name: str) -> None:
        super().__init__(name, decode_plain)
