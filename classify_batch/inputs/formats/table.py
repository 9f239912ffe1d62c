"""Rows under a header: CSV, TSV and their kind."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass

from classify_batch.errors import SourceError
from classify_batch.inputs.formats.objects import (
    CARRY_HINT,
    COLUMN_HINT,
    SURPLUS_HINT,
    ObjectReader,
    has_documents,
    has_text,
)
from classify_batch.inputs.ids import all_valid, list_columns, shorten
from classify_batch.inputs.lines import LINE_BYTES_MAX, read_lines
from classify_batch.inputs.rows import Line, rows_from_lines
from classify_batch.inputs.values import (
    FORMAT_HINT,
    are_plain_cells,
    reason_no_cell_of_an_id,
    remove_excel_quotes,
    remove_quotes,
)
from classify_batch.spelling import suggest
from classify_batch.streams.closing import closing

_COLUMN_HINT = f"{COLUMN_HINT}, or the delimiter with --delimiter; {FORMAT_HINT}"
_UNCLOSED_HINT = 'is a quote opened and never closed? A value is quoted as "…", and a quote inside it as ""'
_HEADER_HINT = "leave that line out; of several tables, give each by an --input of its own"
_SWALLOWED_HINT = 'write a value that begins with a quote as """…", or give the input as JSON Lines'

_Row = tuple[int, list[str]]
"""A row and the line on which it begins."""


@dataclass(frozen=True, slots=True)
class TableShape:
    """How a table is written.

    Attributes:
        delimiter: one character.
        lines_before: how many lines stand before the header: comments, or Excel's `sep=`.
        spaced: whether spaces behind a delimiter belong to no value.
        strict: whether quotes around a file ID are taken off, and what programs write in place of a value is a fault.
    """

    delimiter: str = ","
    lines_before: int = 0
    spaced: bool = False
    strict: bool = False


async def read_table(
    blocks: AsyncIterator[bytes],
    reader: ObjectReader,
    shape: TableShape = TableShape(),
) -> AsyncIterator[list[str]]:
    """Rows under a header that names the reader's column. A fault is reported by the first line of its row."""
    name, column, carry, on_fault = reader.name, reader.column, reader.carry, reader.on_fault
    place: int | None = None
    columns: list[str] = []
    carried: dict[str, int] = {}
    async with closing(_read_rows(blocks, name, shape)) as stream:
        async for rows in stream:
            if place is None:
                header = rows.pop(0)
                columns = header[1]
                place = _find_column(header, name, column, _COLUMN_HINT)
                carried = {each: _find_column(header, name, each, CARRY_HINT) for each in carry}
            try:
                file_ids = [row[place] for _, row in rows]
                valid = all_valid(file_ids) and (not shape.strict or are_plain_cells(file_ids))
            except IndexError:
                valid = False
            if valid and has_documents(file_ids):
                valid = False
            width = len(columns)
            if valid and any(len(row) > width and _has_surplus(row, width) for _, row in rows):
                valid = False
            if valid and column in file_ids and any(row == columns for _, row in rows):
                valid = False
            sound = rows if valid else list(_sound_rows(rows, place, columns, reader, strict=shape.strict))
            if carry:
                yield rows_from_lines(
                    (_line_of_row(row, place, carried, strict=shape.strict) for row in sound), name, on_fault
                )
            else:
                yield file_ids if valid else [row[place] for _, row in sound]


def _has_surplus(row: list[str], width: int) -> bool:
    """Whether a row has cells under no column. Spreadsheets end rows with empty ones; any other means that a value was
    cut at a delimiter, and that the cells behind it stand under other columns' names."""
    return has_text(row[width:])


def _sound_rows(
    rows: list[_Row], place: int, columns: list[str], reader: ObjectReader, *, strict: bool
) -> Iterator[_Row]:
    width = len(columns)
    for line, row in rows:
        file_id = _id_of_row(row, place, strict=strict)
        if _has_surplus(row, width):
            reader.on_fault(reader.make_fault(line, f"{len(row)} cells under a header of {width}", SURPLUS_HINT))
        elif row == columns:  # `cat *.csv`; what stands there would be planned as a file ID
            reader.on_fault(reader.make_fault(line, "the table's header once more", _HEADER_HINT))
        elif (fault := reader.find_fault_of_id(line, file_id, columns, "line")) is not None:
            reader.on_fault(fault)
        elif strict and (reason := reason_no_cell_of_an_id(file_id)) is not None:
            reader.on_fault(reader.make_fault(line, *reason))
        else:
            yield line, [*row[:place], file_id, *row[place + 1 :]]


def _id_of_row(row: list[str], place: int, *, strict: bool) -> str:
    cell = row[place] if place < len(row) else ""
    return remove_quotes(cell) if strict else cell


def _line_of_row(numbered: _Row, place: int, carried: Mapping[str, int], *, strict: bool) -> Line:
    line, row = numbered
    cells = {each: row[at] if at < len(row) else None for each, at in carried.items()}
    if strict:  # other quotes may be a part of what is carried
        cells = {each: cell and remove_excel_quotes(cell) for each, cell in cells.items()}
    return Line(line, row[place], cells)


async def _read_rows(blocks: AsyncIterator[bytes], name: str, shape: TableShape) -> AsyncIterator[list[_Row]]:
    """Batches of rows, none of them empty. Lines of a row that isn't whole yet wait for the next batch."""
    waiting: list[str] = []
    line = 1
    width: int | None = None
    async with closing(read_lines(blocks, name)) as stream:
        async for batch in stream:
            lines = waiting + batch.split_lines()
            if line <= shape.lines_before:
                before = min(shape.lines_before - line + 1, len(lines))
                lines, line = lines[before:], line + before
            rows, used = _parse_rows(lines, line, name, shape, width, last=False)
            waiting, line = lines[used:], line + used
            if sum(map(len, waiting)) > LINE_BYTES_MAX:
                raise _long_row_error(name, line)
            if rows:
                width = len(rows[0][1]) if width is None else width
                yield rows
    if waiting:
        _parse_rows(waiting, line, name, shape, width, last=True)


def _parse_rows(
    lines: list[str], first: int, name: str, shape: TableShape, width: int | None, *, last: bool
) -> tuple[list[_Row], int]:
    """The whole rows in `lines`, and how many of the lines they take up. `width`: how many cells the header has; None:
    it is the first of these rows.

    An error at the very last line may only mean that the row goes on; it is raised when `last` says it can't.
    """
    rows: list[_Row] = []
    used = 0
    # The library's bound is one for the whole process, and 128 KiB at first. It is raised here each time, since the
    # calling program may set it, too, and never lowered below what that program needs.
    if csv.field_size_limit() < LINE_BYTES_MAX:
        csv.field_size_limit(LINE_BYTES_MAX)
    ended = (line + "\n" for line in lines)
    reader = csv.reader(ended, delimiter=shape.delimiter, skipinitialspace=shape.spaced, strict=True)
    try:
        for row in reader:
            if width is None:
                width = len(row) or None  # of the header, before which there may be empty lines
            if reader.line_num > used + 1 and _has_swallowed_rows(row, lines[used : reader.line_num], width, shape):
                what = f"a quote opens here, and {reader.line_num - used} lines with tabs in them lie before the next"
                raise SourceError(f"{name}, line {first + used}: {what}", hint=_SWALLOWED_HINT)
            if row:
                rows.append((first + used, row))
            used = reader.line_num
    except csv.Error as error:
        if "field limit" in str(error):
            raise _long_row_error(name, first + used) from None
        if last or reader.line_num < len(lines):
            hint = _UNCLOSED_HINT if last else 'quote a value as "…", and a quote inside it as ""'
            raise SourceError(f"{name}, line {first + used}: not CSV: {error}", hint=hint) from None
    return rows, used


def _has_swallowed_rows(row: list[str], lines: list[str], width: int | None, shape: TableShape) -> bool:
    """Whether a row of a table with tabs may be several. Databases write such tables without quoting, so a value may
    begin with a quote, and the next one that ends a value is another row's.

    Where none of the further lines has as many cells as the header, and the row has, it was quoted: the lines of a
    table without quoting all have as many.
    """
    if shape.delimiter != "\t" or not any("\n" in cell and "\t" in cell for cell in row):
        return False
    return len(row) != width or any(line.count("\t") + 1 == width for line in lines[1:])


def _long_row_error(name: str, line: int) -> SourceError:
    return SourceError(f"{name}, line {line}: a row longer than {LINE_BYTES_MAX} bytes", hint=_UNCLOSED_HINT)


def _find_column(header: _Row, name: str, column: str, hint: str) -> int:
    line, columns = header
    if column not in columns:
        columns = [*map(remove_quotes, columns)]
    if column not in columns:
        what = f"no column {shorten(column)}; there is {list_columns(columns)}{suggest(column, columns)}"
        raise SourceError(f"{name}, line {line}: {what}", hint=hint)
    if columns.count(column) > 1:
        raise SourceError(f"{name}, line {line}: more than one column {shorten(column)}", hint="rename all but one")
    return columns.index(column)
