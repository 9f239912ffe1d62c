"""A file ID, and what is carried along with it, on their way through the sources.

A *row* is the file ID alone, or the file ID, a tab and a JSON object of the carried columns: one string without a line
break either way. No file ID has a tab in it, so rows of both kinds pass through the same spools. The row of an ID that
came more than once has a list of objects, in the order in which they came.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from classify_batch.errors import SourceError
from classify_batch.inputs.ids import Fault, OnFault, raise_fault
from classify_batch.vocabulary import FURTHER_PATHS

CARRIED_BYTES_MAX = 1 << 14
"""What goes with one file ID."""

_TAB = "\t"

_COUNT_BYTES = 64
"""What the count of those that don't fit takes, and more."""

OnFurther = Callable[[str, Sequence[str]], None]
"""Hears a file ID, and the objects (as JSON) that are more than what it may carry."""

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
"""json.dumps would make an encoder for each of tens of millions of rows."""


class Line(NamedTuple):
    """What a line, or an item, of the input says of a file: its ID, and what is to be carried."""

    number: int
    file_id: str
    carried: Mapping[str, object]


def rows_from_lines(lines: Iterable[Line], name: str, on_fault: OnFault = raise_fault, unit: str = "line") -> list[str]:
    """Lines as rows. A fault is what a plan can't hold."""
    rows = []
    for number, file_id, carried in lines:
        try:
            rows.append(_make_row(file_id, carried))
        except _UnfitError as error:
            on_fault(Fault(name, f"{unit} {number}", str(error), error.hint))
    return rows


class _UnfitError(ValueError):
    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def _make_row(file_id: str, carried: Mapping[str, object]) -> str:
    try:
        encoded = _encode(carried)
    except (ValueError, TypeError, RecursionError) as error:
        what, hint = _explain_unfit(str(error))
        raise _UnfitError(f"file ID {file_id} carries {what}", hint) from None
    if len(encoded) > CARRIED_BYTES_MAX:
        raise _UnfitError(
            f"file ID {file_id} carries {len(encoded):,} bytes, and {CARRIED_BYTES_MAX:,} are the most",
            "carry a key by which the rest is found again",
        )
    return f"{file_id}{_TAB}{encoded}"


def _explain_unfit(error: str) -> tuple[str, str]:
    """What the encoder refuses with these words, and what to do about it: its errors have no other kinds."""
    if error.startswith("Circular reference"):
        return "a value that holds itself", "carry a key by which the rest is found again"
    if error.startswith("Exceeds the limit"):
        return f"a number too long to be written ({error.partition(';')[0]})", "give it as a text, such as hex(number)"
    if error.startswith("Out of range float"):
        return "a number that JSON doesn't have (NaN or Infinity)", "write null in its place"
    return f"a value that JSON doesn't have ({error})", "give its str(), or a number"


def file_ids_of_rows(rows: Sequence[str]) -> Sequence[str]:
    """The file IDs of rows; the very rows where nothing is carried."""
    if not rows or _TAB not in rows[0]:
        return rows
    return [row.partition(_TAB)[0] for row in rows]


def carried_of(rows: Sequence[str]) -> list[str] | None:
    """What is carried, as JSON, by row; None where nothing is."""
    return None if not rows or _TAB not in rows[0] else [row.partition(_TAB)[2] for row in rows]


def columns_of(rows: Sequence[str]) -> tuple[dict[str, list[Any]], dict[str, list[dict[str, Any]]]]:
    """What is carried, by column, and the further objects of the rows that have several, by the row's place; nothing
    where nothing is."""
    if (texts := carried_of(rows)) is None:
        return {}, {}
    carried = list(map(json.loads, texts))
    further = {str(place): each[1:] for place, each in enumerate(carried) if isinstance(each, list)}
    first = [each[0] if isinstance(each, list) else each for each in carried]
    return {column: [columns[column] for columns in first] for column in first[0]}, further


def merge_rows(
    keys: Sequence[str], rows: Sequence[str], on_further: OnFurther | None = None, name: str | None = None
) -> dict[str, str]:
    """One row for each key that comes more than once: with the spelling that came first, and all that is carried.

    Args:
        on_further: is called with what doesn't fit, which the row then only counts.
        name: of the input, for messages.

    Raises:
        SourceError: it is more than what may go with one file ID, and nobody takes the rest.
    """
    by_key: dict[str, list[str]] = {}
    for key, row in zip(keys, rows, strict=True):
        by_key.setdefault(key, []).append(row)
    return {key: _merge_row(several, on_further, name) for key, several in by_key.items() if len(several) > 1}


def _merge_row(rows: Sequence[str], on_further: OnFurther | None, name: str | None) -> str:
    file_id = rows[0].partition(_TAB)[0]
    objects = carried_of(rows) or []
    merged = ",".join(objects)
    if len(merged) > CARRIED_BYTES_MAX and on_further is not None:
        fits = _how_many_fit(objects)
        on_further(file_id, objects[fits:])
        merged = ",".join([*objects[:fits], f'{{"{FURTHER_PATHS}":{len(objects) - fits}}}'])
    if len(merged) > CARRIED_BYTES_MAX:
        where = "" if name is None else f"{name}: "
        raise SourceError(
            f"{where}file ID {file_id} comes {len(rows):,} times, and carries {len(merged):,} bytes in all; "
            f"{CARRIED_BYTES_MAX:,} are the most",
            hint="carry less, or leave the repetitions out",
        )
    return f"{file_id}{_TAB}[{merged}]"


def _how_many_fit(objects: Sequence[str]) -> int:
    """How many of the first objects may go with one file ID, and a count of the others; one at least."""
    room = CARRIED_BYTES_MAX - _COUNT_BYTES
    for number, end in enumerate(accumulate(len(each) + 1 for each in objects)):
        if end > room:
            return max(1, number)
    return len(objects)
