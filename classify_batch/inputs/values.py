"""One value of a line or cell: out of its quotes, and distinguished from what programs write in place of a value, and
from a row of a table, JSON or a web page."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from classify_batch.file_keys import is_uuid
from classify_batch.inputs.ids import shorten

_QUOTES = ("'", '"', "`")
_TYPOGRAPHIC_QUOTES = tuple("“”„‟‘’‚‛«»‹›")
_ALL_QUOTES = _QUOTES + _TYPOGRAPHIC_QUOTES
_BETWEEN_COLUMNS = ",;|\t"

_EXCEL_TEXT = re.compile(r'="((?:[^"]|"")*)"')
"""How a CSV tells Excel that a value is a text, which it leaves as it is."""

_ROUNDED_NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)?[Ee]\+[0-9]+")
"""What a spreadsheet makes of an ID with many digits, or of one such as 12E5."""

SPREADSHEET_ERRORS = frozenset({"#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!", "#DIV/0!"})
_EMPTY_CELLS = frozenset({"NULL", "null", "\\N", "NaN", "nan", "None", "N/A", "<NA>", "NaT"})
"""What databases and programs write for no value."""

NO_VALUES = SPREADSHEET_ERRORS | _EMPTY_CELLS

_SUSPICIOUS_CELL = (*_ALL_QUOTES, "=", "+")
SUSPICIOUS = (*_SUSPICIOUS_CELL, *_BETWEEN_COLUMNS, "[", "{", "<")
"""A line without any of these, and none of `NO_VALUES`, can be nothing but a file ID."""

FORMAT_HINT = "--format says what the input is (`--format lines` takes each line as a file ID)"


def remove_quotes(value: str) -> str:
    """A value without the quotes around it, and without Excel's `="…"`; any other value as it is."""
    value = remove_excel_quotes(_remove_plain_quotes(value))
    if len(value) > 2 and value[0] in _TYPOGRAPHIC_QUOTES and value[-1] in _TYPOGRAPHIC_QUOTES:
        return value[1:-1]
    return value


def remove_excel_quotes(value: str) -> str:
    """A value without Excel's `="…"` around it; any other value as it is."""
    if not value.startswith('="') or (found := _EXCEL_TEXT.fullmatch(value)) is None:
        return value
    return found[1].replace('""', '"')


def _remove_plain_quotes(value: str) -> str:
    if len(value) < 2 or value[0] not in _QUOTES or value[-1] != value[0]:
        return value
    if value[0] != '"':
        return value[1:-1].replace(value[0] * 2, value[0])
    try:
        return str(json.loads(value))
    except ValueError:  # quoted as in CSV
        return value[1:-1].replace('""', '"')


def are_plain_cells(values: Sequence[str]) -> bool:
    """Whether each value can be nothing but a file ID: a few searches in C for all of them."""
    return not any(map("".join(values).__contains__, _SUSPICIOUS_CELL)) and NO_VALUES.isdisjoint(values)


def reason_no_cell_of_an_id(value: str) -> tuple[str, str] | None:
    """What a cell of a table holds in place of a value, and what to do about it; None where it can be a file ID."""
    if value.startswith(_ALL_QUOTES) or value.endswith(_TYPOGRAPHIC_QUOTES):
        return f"{shorten(value)} has a quote at one end only", "take it off, or give the input as JSON Lines"
    if value in _EMPTY_CELLS:
        return f"{shorten(value)} stands for no value", "leave rows without a file ID out"
    if value in SPREADSHEET_ERRORS:
        return f"{shorten(value)} is a spreadsheet's error", "mend its formula, or leave the row out"
    if value.startswith("="):
        return f"{shorten(value)} is a spreadsheet's formula", 'give the value alone, or as ="…"'
    if _ROUNDED_NUMBER.fullmatch(value) is not None:
        return (
            f"{shorten(value)} is a number that a spreadsheet has rounded",
            "make it a column of text, and import it anew",
        )
    return None


def reason_no_line_of_an_id(value: str) -> tuple[str, str] | None:
    """What else a line may be, and what to do about it; None where it can be a file ID."""
    if value.startswith(_QUOTES):
        return f"{shorten(value)} has a quote without its end", FORMAT_HINT
    if value.startswith(("[", "{")) and not is_uuid(value):
        return f"{shorten(value)} looks like JSON, and is none", FORMAT_HINT
    if value.startswith("<") and value not in NO_VALUES:
        return f"{shorten(value)} looks like HTML or XML", "was a page with an error saved in place of the list?"
    if any(map(value.__contains__, _BETWEEN_COLUMNS)):
        return f"{shorten(value)} looks like a row of a table", FORMAT_HINT
    return reason_no_cell_of_an_id(value)
