"""The formats of an export: the lines of JSON as they are in the run, or the rows of a table.

A table is encoded a column at a time: in most columns a few values come again and again, and in most of the others a
few searches in C show that no cell has to be changed. csv.writer takes longer for its rows than all the rest of an
export; what it writes is the same, as a test proves.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from itertools import compress
from operator import itemgetter
from typing import Any, Protocol

from msgspec.structs import astuple, fields

from classify_batch.model import Carried
from classify_batch.rundir.committed_outcomes import LineReader, OutcomeLine
from classify_batch.vocabulary import FURTHER_PATHS


class TableRow(OutcomeLine, gc=False):
    """The keys of a line that have a column in a table."""

    reasoning: str | None = None
    mode: str | None = None
    job_id: str | None = None
    message: str | None = None
    classified_at: str | None = None
    failed_at: str | None = None
    counts: str | None = None
    reused_from: str | None = None
    carried: Carried | None = None


COLUMNS = (
    *("file_id", "outcome", "type", "confidence", "reasoning", "mode", "job_id", "code", "message"),
    *("classified_at", "failed_at", "counts", "reused_from"),
)
"""The columns that every table has, by the keys of the lines; the carried ones follow them."""

_PLACES = {field.name: place for place, field in enumerate(fields(TableRow))}
"""Where a line's values are when it is a tuple."""

_OF_EACH_FILE = frozenset({"file_id", "reasoning"})
"""The columns whose cells are all different."""

_CONFIDENCES_MAX = 1 << 14

_FORMULAS = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # the last four are the first ones, in full width
"""A spreadsheet takes a cell that begins with one of these for a formula, and would run it (OWASP, "CSV Injection")."""


class OutputFormat(Protocol):
    """How outcomes are encoded."""

    @property
    def line_reader(self) -> LineReader[Any]:
        """Reads what `encode_outcomes` needs of the lines."""

    def encode_header(self) -> bytes:
        """The bytes before all outcomes."""

    def encode_outcomes(self, data: bytes, lines: Sequence[Any], included: Sequence[bool]) -> bytes:
        """Encodes those outcomes that are included; `data`: all of them as they are in the run."""


class JsonLines:
    """The lines as they are in the run."""

    line_reader = LineReader(OutcomeLine)

    def encode_header(self) -> bytes:
        return b""

    def encode_outcomes(self, data: bytes, lines: Sequence[OutcomeLine], included: Sequence[bool]) -> bytes:  # noqa: ARG002
        if all(included):
            return data
        return b"".join([line + b"\n" for line in compress(data.split(b"\n"), included)])


class Table:
    """CSV (RFC 4180), in UTF-8. Text that a spreadsheet would take for a formula begins with an apostrophe."""

    line_reader = LineReader(TableRow)

    def __init__(self, carry: Sequence[str]) -> None:
        self._carry = tuple(carry)
        self._confidences = _Confidences()

    def encode_header(self) -> bytes:
        return encode_csv([[escape_formula(name) for name in column_names(self._carry)]])

    def encode_outcomes(self, data: bytes, lines: Sequence[TableRow], included: Sequence[bool]) -> bytes:  # noqa: ARG002
        values = list(zip(*map(astuple, compress(lines, included)), strict=True))
        if not values:
            return b""
        cells = [self._encode_column(name, values[_PLACES[name]]) for name in COLUMNS]
        if self._carry:
            carried = [format_carried_cells(each or {}, self._carry) for each in values[_PLACES["carried"]]]
            cells += [list(map(quote_if_needed, column)) for column in zip(*carried, strict=True)]
        return encode_text(join_columns(cells, len(values[0])))

    def _encode_column(self, name: str, values: Sequence[Any]) -> Sequence[str] | str:
        """The cells of a column, as they stand in a file; one where all are the same."""
        if values[0] is None and values.count(None) == len(values):
            return ""
        if name == "confidence":
            return list(map(self._confidences.__getitem__, values))
        if name in _OF_EACH_FILE:
            return encode_different_texts(values)
        if values.count(values[0]) == len(values):
            return quote_if_needed(escape_formula(values[0]))
        return list(map(_Cells().__getitem__, values))


def join_columns(columns: Sequence[Sequence[str] | str], rows: int) -> str:
    """Rows of CSV from their cells, column by column; a column that is a text has it in each row.

    One list of all pieces is joined once, and what is the same in each row is a piece of its own with the commas around
    it: to join each row by itself takes twice as long.
    """
    parts: list[Sequence[str] | str] = []
    same = ""  # what is the same in each row since the last part
    for place, column in enumerate(columns):
        same += "," if place else ""
        if isinstance(column, str):
            same += column
        else:
            parts += [same, column] if same else [column]
            same = ""
    parts.append(same + "\r\n")
    pieces = [""] * (len(parts) * rows)
    for place, part in enumerate(parts):
        pieces[place :: len(parts)] = [part] * rows if isinstance(part, str) else part
    return "".join(pieces)


class _Confidences(dict[float | None, str]):
    """The cell for each confidence. Models give few different ones, and a float takes longer to spell than to find."""

    def __missing__(self, confidence: float | None) -> str:
        cell = "" if confidence is None else repr(confidence)
        if len(self) >= _CONFIDENCES_MAX:
            self.clear()
        if confidence != 0.0:  # -0.0 is equal to 0.0, and spelled differently
            self[confidence] = cell
        return cell


class _Cells(dict[str | None, str]):
    """The cell for each text."""

    def __missing__(self, text: str | None) -> str:
        cell = self[text] = quote_if_needed(escape_formula(text))
        return cell


def encode_different_texts(texts: Sequence[str | None]) -> Sequence[str]:
    """The cells of texts that hardly ever come twice."""
    try:
        joined = "".join(texts)  # type: ignore[arg-type]  # None is what TypeError is for
        if _FORMULAS.isdisjoint(map(_first_character, texts)):  # type: ignore[arg-type]  # there is no None
            if any(map(joined.__contains__, '"\r\n')):
                return list(map(quote_if_needed, texts))
            return [f'"{text}"' if "," in text else text for text in texts]  # type: ignore[operator, misc]
    except (TypeError, IndexError):  # one is None, or empty
        pass
    return [quote_if_needed(escape_formula(text)) for text in texts]


_first_character = itemgetter(0)

_needs_quotes = re.compile('[,"\r\n]').search


def quote_if_needed(text: str | None) -> str:
    """A cell of CSV, in quotes where it has to be. None is an empty cell."""
    if not text:
        return ""
    return '"' + text.replace('"', '""') + '"' if _needs_quotes(text) else text


def column_names(carry: Sequence[str]) -> list[str]:
    """The names of all columns. A carried column with the name of another one gets `carried.` before its name."""
    names = list(COLUMNS)
    for column in carry:
        name = column
        while name in names or (name != column and name in carry):
            name = f"carried.{name}"
        names.append(name)
    return names


def format_carried_cells(carried: Carried, carry: Sequence[str]) -> list[str | None]:
    """The cells of the carried columns. Where the file came more than once in the input, each is a JSON list,
    of as many as the outcome carries."""
    if isinstance(carried, dict):
        return [format_carried(carried[name]) if name in carried else None for name in carry]
    objects = [each for each in carried if set(each) != {FURTHER_PATHS} or FURTHER_PATHS in carry]
    return [format_carried([each.get(name) for each in objects]) for name in carry]


def format_carried(value: Any) -> str:
    """A carried value: text as it is, everything else as JSON, which never begins like a formula."""
    if isinstance(value, str):
        return escape_formula(value) or ""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def escape_formula(text: str | None) -> str | None:
    """Text that no spreadsheet runs as a formula."""
    return f"'{text}" if text and text[0] in _FORMULAS else text


def encode_csv(rows: Sequence[Sequence[str | float | None]]) -> bytes:
    """Rows as lines of CSV."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows(rows)
    return encode_text(buffer.getvalue())


def encode_text(text: str) -> bytes:
    """A text in UTF-8; a lone surrogate becomes its JSON escape."""
    return text.encode("utf-8", "backslashreplace")
