"""One file ID a line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from classify_batch.inputs.ids import Fault, OnFault, all_valid, only_valid, raise_fault
from classify_batch.inputs.lines import Lines, read_lines
from classify_batch.inputs.values import (
    NO_VALUES,
    SPREADSHEET_ERRORS,
    SUSPICIOUS,
    reason_no_line_of_an_id,
    remove_quotes,
)
from classify_batch.streams.closing import closing

_BLANKS = " \t\r"
_COMMENT = "#"
_NOT_PLAIN = tuple(_BLANKS + _COMMENT)
_NOT_PLAIN_OR_SUSPICIOUS = (*_NOT_PLAIN, *SUSPICIOUS)


async def read_plain_lines(
    blocks: AsyncIterator[bytes], name: str, on_fault: OnFault = raise_fault, *, strict: bool = False
) -> AsyncIterator[Sequence[str]]:
    """Blank lines and lines that begin with `#` are skipped.

    `strict`: nobody said that the input has one file ID a line, so quotes around a value are taken off, and what looks
    like a row of a table, JSON, a web page or a spreadsheet's error is a fault.
    """
    not_plain = _NOT_PLAIN_OR_SUSPICIOUS if strict else _NOT_PLAIN
    async with closing(read_lines(blocks, name)) as stream:
        async for lines in stream:
            if (uuids := lines.find_uuids()) is not None:
                yield uuids
                continue
            # A few searches in C over the whole batch: most batches hold nothing but IDs.
            if any(map(lines.decode_lines().__contains__, not_plain)):
                numbered = _only_possible(lines, name, on_fault) if strict else values_of_lines(lines)
                yield only_valid(name, numbered, on_fault)
                continue
            file_ids = lines.split_lines()
            if strict and not NO_VALUES.isdisjoint(file_ids):
                yield only_valid(name, _only_possible(lines, name, on_fault), on_fault)
                continue
            if not all_valid(file_ids):
                file_ids = list(filter(None, file_ids))  # a blank line is no fault, and hardly ever there
                if not all_valid(file_ids):
                    file_ids = only_valid(name, values_of_lines(lines), on_fault)
            yield file_ids


def values_of_lines(lines: Lines, no_comments: frozenset[str] = frozenset()) -> Iterator[tuple[int, str]]:
    """What stands on each line, without the blanks around it. `no_comments`: values that only begin like comments."""
    for number, line in enumerate(lines.split_lines(), lines.first):
        value = line.strip(_BLANKS)
        if value and (not value.startswith(_COMMENT) or value in no_comments):
            yield number, value


def _only_possible(lines: Lines, name: str, on_fault: OnFault) -> Iterator[tuple[int, str]]:
    for number, line in values_of_lines(lines, SPREADSHEET_ERRORS):
        value = remove_quotes(line)
        if (reason := reason_no_line_of_an_id(value)) is not None:
            on_fault(Fault(name, f"line {number}", *reason))
        else:
            yield number, value
