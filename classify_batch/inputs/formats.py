"""Numbered lines → batches of file IDs, for each format that is read line by line.

A line that holds none is a fault of its own, and whoever reads may go on behind it; what leaves no line readable (no
such column, not UTF-8) is a SourceError.
"""

from __future__ import annotations

import csv
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from classify_batch.errors import SourceError
from classify_batch.inputs.ids import Fault, TookFault, all_valid, fault_of, only_valid, refuse, shorten
from classify_batch.inputs.lines import LINE_BYTES_MAX, Lines, read_lines
from classify_batch.inputs.rows import Line, to_rows
from classify_batch.streams.closing import closing

_CARRY_HINT = "name columns that are there with --carry"
_BLANKS = " \t\r"
_COMMENT = "#"

_Row = tuple[int, list[str]]
"""A CSV row and the line on which it begins."""


async def read_text(
    blocks: AsyncIterator[bytes], name: str, took_fault: TookFault = refuse
) -> AsyncIterator[list[str]]:
    """One file ID a line; blank lines and lines that begin with `#` are skipped."""
    async with closing(read_lines(blocks, name)) as stream:
        async for lines in stream:
            if any(character in lines.text for character in _BLANKS + _COMMENT):
                file_ids = [file_id for _, file_id in read_text_values(lines)]
            else:
                file_ids = list(filter(None, lines.split()))
            yield file_ids if all_valid(file_ids) else only_valid(name, read_text_values(lines), took_fault)


def read_text_values(lines: Lines) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines.split(), lines.first):
        value = line.strip(_BLANKS)
        if value and not value.startswith(_COMMENT):
            yield number, value


# --- JSON, an object a line ---------------------------------------------------------------------------------


async def read_jsonl(
    blocks: AsyncIterator[bytes], name: str, column: str, carry: Sequence[str] = (), took_fault: TookFault = refuse
) -> AsyncIterator[list[str]]:
    """A JSON object a line, with the file ID under the key `column`; blank lines are skipped. What is to be carried may
    also stand under `carried`, as in the outcomes of a run."""
    async with closing(read_lines(blocks, name)) as stream:
        async for lines in stream:
            if not carry and (file_ids := read_json_ids(lines, column)) is not None:
                yield file_ids
                continue
            objects = _read_objects(lines, name, column, took_fault)
            if carry:
                yield to_rows(_read_carried(objects, name, column, carry, took_fault), name, took_fault)
            else:
                yield [value[column] for _, value in objects]


def read_json_ids(lines: Lines, column: str) -> list[str] | None:
    """The file IDs of lines that all are as they should be, else None."""
    try:
        values = list(map(json.loads, filter(str.strip, lines.split())))
        file_ids = [value[column] for value in values]
        return file_ids if all_valid(file_ids) else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _read_objects(lines: Lines, name: str, column: str, took_fault: TookFault) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each object that has a file ID, with its line."""
    for number, line in enumerate(lines.split(), lines.first):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            took_fault(_not_an_object(name, number, f"{shorten(line.strip())} is not JSON", column))
            continue
        if not isinstance(value, dict):
            took_fault(_not_an_object(name, number, f"{shorten(value)} is not a JSON object", column))
        elif column not in value:
            took_fault(_missing_column_error(name, number, column, list(value)))
        elif (fault := fault_of(name, number, value[column])) is not None:
            took_fault(fault)
        else:
            yield number, value


def _not_an_object(name: str, number: int, what: str, column: str) -> Fault:
    return Fault(name, f"line {number}", what, f'every line is an object such as {{"{column}": "…"}}')


def _read_carried(
    objects: Iterable[tuple[int, dict[str, Any]]], name: str, column: str, carry: Sequence[str], took_fault: TookFault
) -> Iterator[Line]:
    for number, value in objects:
        outcomes = value.get("carried")
        told: Mapping[str, Any] = outcomes | value if isinstance(outcomes, dict) else value
        if missing := [each for each in carry if each not in told]:
            took_fault(_missing_column_error(name, number, missing[0], list(told), _CARRY_HINT))
        else:
            yield Line(number, value[column], {each: told[each] for each in carry})


# --- CSV ----------------------------------------------------------------------------------------------------


async def read_csv(
    blocks: AsyncIterator[bytes], name: str, column: str, carry: Sequence[str] = (), took_fault: TookFault = refuse
) -> AsyncIterator[list[str]]:
    """Rows under a header that names `column`. A fault is told by the first line of its row."""
    place: int | None = None
    carried: dict[str, int] = {}
    async with closing(_read_rows(blocks, name)) as stream:
        async for rows in stream:
            if place is None:
                header = rows.pop(0)
                place = _find_column(header, name, column)
                carried = {each: _find_column(header, name, each, _CARRY_HINT) for each in carry}
            try:
                file_ids = [row[place] for _, row in rows]
                valid = all_valid(file_ids)
            except IndexError:
                valid = False
            if carry:
                sound = rows if valid else list(_rows_of_right_width(rows, place, name, took_fault))
                yield to_rows((_line_of_row(row, place, carried) for row in sound), name, took_fault)
            elif valid:
                yield file_ids
            else:
                yield [row[place] for _, row in _rows_of_right_width(rows, place, name, took_fault)]


def _rows_of_right_width(rows: list[_Row], place: int, name: str, took_fault: TookFault) -> Iterator[_Row]:
    for line, row in rows:
        if (fault := fault_of(name, line, "".join(row[place : place + 1]))) is not None:
            took_fault(fault)
        else:
            yield line, row


def _line_of_row(numbered: _Row, place: int, carried: Mapping[str, int]) -> Line:
    line, row = numbered
    return Line(line, row[place], {each: row[at] if at < len(row) else None for each, at in carried.items()})


async def _read_rows(blocks: AsyncIterator[bytes], name: str) -> AsyncIterator[list[_Row]]:
    """Batches of rows, none of them empty. Lines of a row that isn't whole yet wait for the next batch."""
    waiting: list[str] = []
    line = 1
    async with closing(read_lines(blocks, name)) as stream:
        async for batch in stream:
            lines = waiting + batch.split()
            rows, used = _parse_csv(lines, line, name, last=False)
            waiting, line = lines[used:], line + used
            if sum(map(len, waiting)) > LINE_BYTES_MAX:
                raise SourceError(
                    f"{name}, line {line}: a row longer than {LINE_BYTES_MAX} bytes",
                    hint="is a quote opened and never closed?",
                )
            if rows:
                yield rows
    if waiting:
        _parse_csv(waiting, line, name, last=True)


def _parse_csv(lines: list[str], first: int, name: str, *, last: bool) -> tuple[list[_Row], int]:
    """The whole rows in `lines`, and how many of the lines they take up.

    An error at the very last line may only mean that the row goes on; it is raised when `last` says it can't.
    """
    rows: list[_Row] = []
    used = 0
    reader = csv.reader((line + "\n" for line in lines), strict=True)
    try:
        for row in reader:
            if row:
                rows.append((first + used, row))
            used = reader.line_num
    except csv.Error as error:
        if last or reader.line_num < len(lines):
            raise SourceError(
                f"{name}, line {first + used}: not CSV: {error}",
                hint='quote a value as "…", and a quote inside it as ""',
            ) from None
    return rows, used


def _find_column(header: _Row, name: str, column: str, hint: str | None = None) -> int:
    line, columns = header
    if column not in columns:
        raise _missing_column_error(name, line, column, columns, hint).error
    if columns.count(column) > 1:
        raise SourceError(f"{name}, line {line}: more than one column {shorten(column)}", hint="rename all but one")
    return columns.index(column)


def _missing_column_error(name: str, line: int, column: str, columns: list[str], hint: str | None = None) -> Fault:
    shown = ", ".join(map(shorten, columns[:10])) + (", …" if len(columns) > 10 else "")
    what = f"no column {shorten(column)}; there is {shown or 'none'}"
    return Fault(name, f"line {line}", what, hint or "name the column of the file IDs with --column")
