"""The beginning of a text → how it is read.

The first line that is neither blank nor a comment decides. What it leaves open, the file's name says; what may be two
things is refused with what it looks like: a line of JSON or of a table must never be taken for a file ID.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from classify_batch.errors import SourceError
from classify_batch.inputs.ids import list_columns, shorten
from classify_batch.inputs.reading import Format, Reading
from classify_batch.inputs.values import FORMAT_HINT, reason_no_line_of_an_id, remove_quotes
from classify_batch.spelling import suggest

_DELIMITERS = (",", "\t", ";", "|")
_DELIMITER_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "|"}

_JSON_OBJECT = re.compile(r'\{\s*(?:["}]|$)')
"""Not `{6ba7b810-…}`, which is a UUID's spelling."""
_JSON_ARRAY = re.compile(r'\[\s*(?:["{\]\[\d-]|null|true|false|$)')
_SEP = re.compile(r"sep=(.)", re.IGNORECASE)
"""The first line of a CSV that Excel writes, or that is written for it."""

_BYTE_ORDER_MARK = "\ufeff"
_BLANKS = " \t\r"
_TABLE_SUFFIXES = {".csv": None, ".tsv": "\t", ".tab": "\t"}
_JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
_PACKED_SUFFIXES = (".gz", ".gzip", ".zst", ".zstd")


@dataclass(frozen=True, slots=True)
class Detected:
    """How a text is read.

    Attributes:
        reading: with a format, and for a table with its delimiter.
        lines_before: how many lines stand before a table's header.
        spaced: whether a table's header has spaces behind its delimiters.
    """

    reading: Reading
    lines_before: int = 0
    spaced: bool = False


def is_enough(head: bytes) -> bool:
    """Whether the beginning of a text holds a whole line that decides."""
    whole, newline, _ = head.rpartition(b"\n")
    return bool(newline) and any(
        not line.startswith("#") for _, line in _lines_that_count(whole.decode(errors="replace"))
    )


def detect_reading(head: bytes, name: str, asked: Reading, carry: Sequence[str] = ()) -> Detected:
    """How the text that begins with `head` is read.

    Args:
        name: of the input; its suffix counts where the content leaves it open.
        asked: what the caller says; it wins.
        carry: further columns that are wanted: lines have none.

    Raises:
        SourceError: the text looks like a table that has no column of file IDs.
    """
    lines = list(_lines_that_count(head.decode(errors="replace")))
    if asked.format is Format.LINES and carry:
        raise _no_columns_error(name, carry)
    if asked.format in (Format.LINES, Format.JSONL, Format.JSON) or not lines:
        return Detected(replace(asked, format=asked.format or Format.LINES))
    number, line = next(_candidates(lines, asked), (0, ""))
    if not number and asked.format is None and _format_suffix(name) not in _TABLE_SUFFIXES:
        return Detected(_as_strict_lines(asked))  # comments only, as far as can be seen
    number, line = (number, line) if number else lines[0]
    if asked.format is None:
        if _JSON_OBJECT.match(line):
            return Detected(_with_format(asked, Format.JSONL))
        if _JSON_ARRAY.match(line):
            return Detected(_with_format(asked, Format.JSON))
        if _format_suffix(name) in _JSON_SUFFIXES:
            return Detected(_with_format(asked, Format.JSONL))
    return _detect_table(number, line, name, asked, carry)


def _detect_table(number: int, line: str, name: str, asked: Reading, carry: Sequence[str]) -> Detected:
    if (named := _SEP.fullmatch(line)) is not None:
        return Detected(_as_table(asked, asked.delimiter or named[1]), number)
    delimiter = _find_delimiter(line, asked)
    has_column = delimiter is not None and has_cell(split_cells(line, delimiter), asked.id_column)
    line = line.strip(_BLANKS)
    is_header = has_column or remove_quotes(line).casefold() == asked.id_column.casefold()
    by_name = _format_suffix(name) in _TABLE_SUFFIXES or asked.format is Format.CSV
    # Before what looks like a mistake is refused: whoever names a column, or the file so, means a table.
    if is_header or by_name or asked.column is not None:
        suffixed = _TABLE_SUFFIXES.get(_format_suffix(name))
        reading = _as_table(asked, delimiter or suffixed or ",")
        return Detected(reading, number - 1, _is_spaced(line, reading, carry))
    if line.startswith(("[", "{", "<")) and (reason := reason_no_line_of_an_id(line)) is not None:
        raise SourceError(f"{name}, line {number}: {reason[0]}", hint=reason[1])
    if delimiter is not None:
        cells = split_cells(line, delimiter)
        raise SourceError(
            f"{name}, line {number}: this looks like a table with {_DELIMITER_NAMES.get(delimiter, delimiter)} between "
            f"its columns, and its header has no column {shorten(asked.id_column)}; "
            f"there is {list_columns(cells)}{suggest(asked.id_column, cells)}",
            hint=f"--column names the column of the file IDs, --delimiter what stands between columns, {FORMAT_HINT}",
        )
    if carry:
        raise _no_columns_error(name, carry)
    return Detected(_as_strict_lines(asked))


def _no_columns_error(name: str, carry: Sequence[str]) -> SourceError:
    return SourceError(
        f"{name} has one value on each line, and no columns: {', '.join(map(shorten, carry))} can't be carried",
        hint="leave --carry out, or give a table or JSON objects",
    )


def _lines_that_count(text: str) -> Iterator[tuple[int, str]]:
    """Lines that aren't blank, with their numbers. A tab at their beginning may stand behind an empty cell."""
    for number, line in enumerate(text.removeprefix(_BYTE_ORDER_MARK).split("\n"), 1):
        if line.strip(_BLANKS):
            yield number, line.strip(" \r")


def _candidates(lines: Sequence[tuple[int, str]], asked: Reading) -> Iterator[tuple[int, str]]:
    """Lines that may decide: no comments, but a header may begin like one."""
    for number, line in lines:
        if not line.startswith("#") or any(has_cell(split_cells(line, each), asked.id_column) for each in _DELIMITERS):
            yield number, line


def _find_delimiter(line: str, asked: Reading) -> str | None:
    """What stands between the columns of a header: that under which it has the wanted column, or else the most cells.
    None: the line has one cell only."""
    if asked.delimiter is not None:
        return asked.delimiter
    cells = {each: split_cells(line, each) for each in _DELIMITERS}
    for delimiter, columns in cells.items():
        if len(columns) > 1 and has_cell(columns, asked.id_column):
            return delimiter
    sizes = {each: len(split_cells(line.strip(_BLANKS), each)) for each in _DELIMITERS}
    most = max(_DELIMITERS, key=sizes.__getitem__)
    return most if sizes[most] > 1 else None


def split_cells(line: str, delimiter: str, *, keep_spaces: bool = False) -> list[str]:
    """The cells of a line, without the spaces in front of them; the line itself where it is no row."""
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=not keep_spaces, strict=False), [])
    except csv.Error:
        return [line]


def has_cell(cells: Sequence[str], value: str) -> bool:
    """Whether one of the cells holds the value, as it is or in quotes."""
    return value in cells or value in map(remove_quotes, cells)


def _is_spaced(header: str, reading: Reading, carry: Sequence[str]) -> bool:
    """Whether a header is written `name, file_id`: then the spaces belong to no name, and to no value below. Whoever
    asks for a column by a space in front of its name means it so."""
    behind_delimiters = split_cells(header, reading.delimiter or ",", keep_spaces=True)[1:]
    asked_for = (reading.id_column, *carry)
    return any(map(_begins_with_space, behind_delimiters)) and not any(map(_begins_with_space, asked_for))


def _begins_with_space(cell: str) -> bool:
    return cell.startswith(" ")


def _format_suffix(name: str) -> str:
    """The suffix that gives the format: that of `ids.csv.gz` is `.csv`."""
    path = PurePath(name)
    return (path.with_suffix("") if path.suffix.lower() in _PACKED_SUFFIXES else path).suffix.lower()


def _as_strict_lines(asked: Reading) -> Reading:
    return Reading(Format.LINES, None, asked.column, strict=True)


def _as_table(asked: Reading, delimiter: str) -> Reading:
    return Reading(Format.CSV, delimiter, asked.column, asked.strict is not False)


def _with_format(asked: Reading, found: Format) -> Reading:
    return Reading(found, None, asked.column)
