"""The formats of an export: the lines of JSON as they are in the run, or the rows of a table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from itertools import compress
from operator import attrgetter
from typing import Any, Protocol

from classify_batch.rundir.committed_outcomes import LineReader, OutcomeLine


class TableRow(OutcomeLine):
    """The keys of a line that have a column in a table."""

    reasoning: str | None = None
    mode: str | None = None
    job_id: str | None = None
    message: str | None = None
    classified_at: str | None = None
    failed_at: str | None = None
    counts: str | None = None
    reused_from: str | None = None
    carried: dict[str, Any] | list[dict[str, Any]] | None = None


COLUMNS = (
    *("file_id", "outcome", "type", "confidence", "reasoning", "mode", "job_id", "code", "message"),
    *("classified_at", "failed_at", "counts", "reused_from"),
)
"""The columns that every table has, by the keys of the lines; the carried ones follow them."""

_values = attrgetter(*COLUMNS)

_FORMULAS = frozenset("=+-@\t\r")
"""A spreadsheet takes a cell that begins with one of these for a formula, and would run it."""


class OutputFormat(Protocol):
    """How outcomes are encoded."""

    @property
    def reader(self) -> LineReader[Any]:
        """Reads what `encode_outcomes` needs of the lines."""

    def encode_header(self) -> bytes:
        """The bytes before all outcomes."""

    def encode_outcomes(self, data: bytes, lines: Sequence[Any], included: Sequence[bool]) -> bytes:
        """Encodes those outcomes that are included; `data`: all of them as they are in the run."""


class JsonLines:
    """The lines as they are in the run."""

    reader = LineReader(OutcomeLine)

    def encode_header(self) -> bytes:
        return b""

    def encode_outcomes(self, data: bytes, lines: Sequence[OutcomeLine], included: Sequence[bool]) -> bytes:  # noqa: ARG002
        if all(included):
            return data
        return b"".join([line + b"\n" for line in compress(data.split(b"\n"), included)])


class Table:
    """CSV (RFC 4180), in UTF-8. Text that a spreadsheet would take for a formula begins with an apostrophe."""

    reader = LineReader(TableRow)

    def __init__(self, carry: Sequence[str]) -> None:
        self._carry = tuple(carry)

    def encode_header(self) -> bytes:
        return encode_csv([[escape_formula(name) for name in column_names(self._carry)]])

    def encode_outcomes(self, data: bytes, lines: Sequence[TableRow], included: Sequence[bool]) -> bytes:  # noqa: ARG002
        return encode_csv([self._format_cells(line) for line in compress(lines, included)])

    def _format_cells(self, line: TableRow) -> list[str | float | None]:
        cells = [value if type(value) is float else escape_formula(value) for value in _values(line)]
        if self._carry:
            cells += format_carried_cells(line.carried or {}, self._carry)
        return cells


def column_names(carry: Sequence[str]) -> list[str]:
    """The names of all columns. A carried column with the name of another one gets `carried.` before its name."""
    names = list(COLUMNS)
    for column in carry:
        name = column
        while name in names or (name != column and name in carry):
            name = f"carried.{name}"
        names.append(name)
    return names


def format_carried_cells(carried: dict[str, Any] | list[dict[str, Any]], carry: Sequence[str]) -> list[str | None]:
    """The cells of the carried columns. Where the file came more than once in the input, each is a JSON list."""
    if isinstance(carried, dict):
        return [format_carried(carried[name]) if name in carried else None for name in carry]
    return [format_carried([each.get(name) for each in carried]) for name in carry]


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
    return buffer.getvalue().encode("utf-8", "backslashreplace")  # a lone surrogate becomes its JSON escape
