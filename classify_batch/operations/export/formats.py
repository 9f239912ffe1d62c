"""What outcomes are written as: lines of JSON as they stand, or the rows of a table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from itertools import compress
from operator import attrgetter
from typing import Any, Protocol

from classify_batch.rundir.committed_outcomes import LineReader, OutcomeLine


class Row(OutcomeLine):
    """All of a line that has a column."""

    reasoning: str | None = None
    mode: str | None = None
    job_id: str | None = None
    message: str | None = None
    classified_at: str | None = None
    failed_at: str | None = None
    counts: str | None = None
    reused_from: str | None = None
    carried: dict[str, Any] | None = None


COLUMNS = (
    *("file_id", "outcome", "type", "confidence", "reasoning", "mode", "job_id", "code", "message"),
    *("classified_at", "failed_at", "counts", "reused_from"),
)
"""The columns that every table has, by the keys of the lines; behind them stand the carried ones."""

_values = attrgetter(*COLUMNS)

_FORMULAS = frozenset("=+-@\t\r")
"""With which of these a cell begins that a spreadsheet would take for a formula."""


class Form(Protocol):
    """How outcomes are written."""

    @property
    def reader(self) -> LineReader[Any]:
        """Reads what `encode` needs of the lines."""

    def head(self) -> bytes:
        """What stands before all outcomes."""

    def encode(self, data: bytes, lines: Sequence[Any], taken: Sequence[bool]) -> bytes:
        """Those of some outcomes that are taken; `data`: the lines as they stand."""


class JsonLines:
    """The lines as they stand."""

    reader = LineReader(OutcomeLine)

    def head(self) -> bytes:
        return b""

    def encode(self, data: bytes, lines: Sequence[OutcomeLine], taken: Sequence[bool]) -> bytes:  # noqa: ARG002
        if all(taken):
            return data
        return b"".join([line + b"\n" for line in compress(data.split(b"\n"), taken)])


class Table:
    """CSV (RFC 4180), in UTF-8. Text that a spreadsheet would take for a formula gets an apostrophe in front."""

    reader = LineReader(Row)

    def __init__(self, carry: Sequence[str]) -> None:
        self._carry = tuple(carry)

    def head(self) -> bytes:
        return _encode([[_text(name) for name in column_names(self._carry)]])

    def encode(self, data: bytes, lines: Sequence[Row], taken: Sequence[bool]) -> bytes:  # noqa: ARG002
        return _encode([self._cells(line) for line in compress(lines, taken)])

    def _cells(self, line: Row) -> list[str | float | None]:
        cells = [value if type(value) is float else _text(value) for value in _values(line)]
        if self._carry:
            carried = line.carried or {}
            cells += [_value(carried[name]) if name in carried else None for name in self._carry]
        return cells


def column_names(carry: Sequence[str]) -> list[str]:
    """The names of all columns. A carried one that is called like another is told apart by `carried.` before it."""
    names = list(COLUMNS)
    for column in carry:
        name = column
        while name in names or (name != column and name in carry):
            name = f"carried.{name}"
        names.append(name)
    return names


def _value(value: Any) -> str:
    """A carried value: text, and everything else as JSON, which begins no formula."""
    if isinstance(value, str):
        return _text(value) or ""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _text(text: str | None) -> str | None:
    return f"'{text}" if text and text[0] in _FORMULAS else text


def _encode(rows: Sequence[Sequence[str | float | None]]) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue().encode("utf-8", "backslashreplace")  # a lone surrogate becomes its JSON escape
