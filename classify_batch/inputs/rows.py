"""A file ID, and what is carried along with it, on their way through the sources.

A *row* is the file ID alone, or the file ID, a tab and a JSON object of the carried columns: one string without a line
break either way. No file ID has a tab in it, so rows of both kinds pass through the same spools.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from classify_batch.inputs.ids import Fault, TookFault, refuse

CARRIED_BYTES_MAX = 1 << 14
"""What goes with one file ID."""

_TAB = "\t"


class Line(NamedTuple):
    """What a line of the input says of a file: its ID, and what is to be carried."""

    number: int
    file_id: str
    carried: Mapping[str, Any]


def to_rows(lines: Iterable[Line], name: str, took_fault: TookFault = refuse) -> list[str]:
    """Lines as rows. A fault is what a plan can't hold."""
    rows = []
    for number, file_id, carried in lines:
        try:
            rows.append(_to_row(file_id, carried))
        except _UnfitError as error:
            took_fault(Fault(name, f"line {number}", str(error), error.hint))
    return rows


class _UnfitError(ValueError):
    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def _to_row(file_id: str, carried: Mapping[str, Any]) -> str:
    try:
        told = json.dumps(carried, separators=(",", ":"), allow_nan=False)
    except ValueError:
        raise _UnfitError(
            f"file ID {file_id} carries a number that JSON doesn't have (NaN or Infinity)", "write null in its place"
        ) from None
    if len(told) > CARRIED_BYTES_MAX:
        raise _UnfitError(
            f"file ID {file_id} carries {len(told):,} bytes, and {CARRIED_BYTES_MAX:,} are the most",
            "carry a key by which the rest is found again",
        )
    return f"{file_id}{_TAB}{told}"


def ids_of(rows: list[str]) -> list[str]:
    """The file IDs of rows; the very list where nothing is carried."""
    if not rows or _TAB not in rows[0]:
        return rows
    return [row.partition(_TAB)[0] for row in rows]


def columns_of(rows: list[str]) -> dict[str, list[Any]]:
    """What is carried, by column; nothing where nothing is."""
    if not rows or _TAB not in rows[0]:
        return {}
    carried = [json.loads(row.partition(_TAB)[2]) for row in rows]
    return {column: [columns[column] for columns in carried] for column in carried[0]}
