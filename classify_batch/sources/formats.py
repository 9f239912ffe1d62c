"""Numbered lines → batches of file IDs, for each format that is read line by line."""

from __future__ import annotations

import csv
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from classify_batch.errors import SourceError
from classify_batch.sources.closing import closing
from classify_batch.sources.ids import all_valid, first_fault, shorten
from classify_batch.sources.lines import LINE_BYTES_MAX, Lines, read_lines
from classify_batch.sources.rows import to_rows

_CARRY_HINT = "name columns that are there with --carry"
_BLANKS = " \t\r"
_COMMENT = "#"

_Row = tuple[int, list[str]]
"""A CSV row and the line on which it begins."""


async def read_text(blocks: AsyncIterator[bytes], name: str) -> AsyncIterator[list[str]]:
    """One file ID a line; blank lines and lines that begin with `#` are skipped."""
    async with closing(read_lines(blocks, name)) as stream:
        async for lines in stream:
            if any(character in lines.text for character in _BLANKS + _COMMENT):
                file_ids = [file_id for _, file_id in _text_values(lines)]
            else:
                file_ids = list(filter(None, lines.split()))
            if not all_valid(file_ids):
                raise first_fault(name, _text_values(lines))
            yield file_ids


def _text_values(lines: Lines) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines.split(), lines.first):
        value = line.strip(_BLANKS)
        if value and not value.startswith(_COMMENT):
            yield number, value


# --- JSON, an object a line ---------------------------------------------------------------------------------


async def read_jsonl(
    blocks: AsyncIterator[bytes], name: str, column: str, carry: Sequence[str] = ()
) -> AsyncIterator[list[str]]:
    """A JSON object a line, with the file ID under the key `column`; blank lines are skipped. What is to be carried may
    also stand under `carried`, as in the outcomes of a run."""
    async with closing(read_lines(blocks, name)) as stream:
        async for lines in stream:
            try:
                values = list(map(json.loads, filter(str.strip, lines.split())))
                file_ids = [value[column] for value in values]
                valid = all_valid(file_ids)
            except (ValueError, TypeError, KeyError, RecursionError):
                valid = False
            if not valid:
                raise first_fault(name, _json_values(lines, name, column))
            yield to_rows(file_ids, _carried(lines, name, carry), name) if carry else file_ids


def _carried(lines: Lines, name: str, carry: Sequence[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines.split(), lines.first):
        if line.strip():
            value = json.loads(line)
            outcomes = value.get("carried")
            told: Mapping[str, Any] = outcomes | value if isinstance(outcomes, dict) else value
            if missing := [column for column in carry if column not in told]:
                raise _no_column(name, number, missing[0], list(told), _CARRY_HINT)
            yield {column: told[column] for column in carry}


def _json_values(lines: Lines, name: str, column: str) -> Iterator[tuple[int, object]]:
    """Every value with its line. Raises SourceError at a line that has none."""
    for number, line in enumerate(lines.split(), lines.first):
        if not line.strip():
            continue
        hint = f'every line is an object such as {{"{column}": "…"}}'
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            said = shorten(line.strip())
            raise SourceError(f"{name}, line {number}: {said} is not JSON", hint=hint) from None
        if not isinstance(value, dict):
            raise SourceError(f"{name}, line {number}: {shorten(value)} is not a JSON object", hint=hint)
        if column not in value:
            raise _no_column(name, number, column, list(value))
        yield number, value[column]


# --- CSV ----------------------------------------------------------------------------------------------------


async def read_csv(
    blocks: AsyncIterator[bytes], name: str, column: str, carry: Sequence[str] = ()
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
            if not valid:
                raise first_fault(name, ((line, "".join(row[place : place + 1])) for line, row in rows))
            if carry:
                cells = ({each: row[at] if at < len(row) else None for each, at in carried.items()} for _, row in rows)
                yield to_rows(file_ids, cells, name)
            else:
                yield file_ids


async def _read_rows(blocks: AsyncIterator[bytes], name: str) -> AsyncIterator[list[_Row]]:
    """Batches of rows, none of them empty. Lines of a row that isn't whole yet wait for the next batch."""
    waiting: list[str] = []
    line = 1
    async with closing(read_lines(blocks, name)) as stream:
        async for batch in stream:
            lines = waiting + batch.split()
            rows, used = _parse(lines, line, name, last=False)
            waiting, line = lines[used:], line + used
            if sum(map(len, waiting)) > LINE_BYTES_MAX:
                raise SourceError(
                    f"{name}, line {line}: a row longer than {LINE_BYTES_MAX} bytes",
                    hint="is a quote opened and never closed?",
                )
            if rows:
                yield rows
    if waiting:
        _parse(waiting, line, name, last=True)


def _parse(lines: list[str], first: int, name: str, *, last: bool) -> tuple[list[_Row], int]:
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
        raise _no_column(name, line, column, columns, hint)
    if columns.count(column) > 1:
        raise SourceError(f"{name}, line {line}: more than one column {shorten(column)}", hint="rename all but one")
    return columns.index(column)


def _no_column(name: str, line: int, column: str, columns: list[str], hint: str | None = None) -> SourceError:
    shown = ", ".join(map(shorten, columns[:10])) + (", …" if len(columns) > 10 else "")
    return SourceError(
        f"{name}, line {line}: no column {shorten(column)}; there is {shown or 'none'}",
        hint=hint or "name the column of the file IDs with --column",
    )
