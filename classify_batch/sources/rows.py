"""A file ID, and what is carried along with it, on their way through the sources.

A *row* is the file ID alone, or the file ID, a tab and a JSON object of the carried columns: one string without a line
break either way. No file ID has a tab in it, so rows of both kinds pass through the same spools.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from classify_batch.errors import SourceError

CARRIED_BYTES_MAX = 1 << 14
"""What goes with one file ID."""

_TAB = "\t"


def to_rows(file_ids: Sequence[str], carried: Iterable[Mapping[str, Any]], name: str) -> list[str]:
    """File IDs, each with its columns, as rows. Raises SourceError for more than a plan can hold."""
    rows = []
    for file_id, columns in zip(file_ids, carried, strict=True):
        try:
            told = json.dumps(columns, separators=(",", ":"), allow_nan=False)
        except ValueError:
            raise SourceError(
                f"{name}: file ID {file_id} carries a number that JSON doesn't have (NaN or Infinity)",
                hint="write null in its place",
            ) from None
        if len(told) > CARRIED_BYTES_MAX:
            raise SourceError(
                f"{name}: file ID {file_id} carries {len(told):,} bytes, and {CARRIED_BYTES_MAX:,} are the most",
                hint="carry a key by which the rest is found again",
            )
        rows.append(f"{file_id}{_TAB}{told}")
    return rows


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
