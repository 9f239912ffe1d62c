"""The outcomes of a run as Arrow, for pandas, polars, DuckDB and pyarrow. Needs the extra `parquet`.

The columns are those of an export to CSV: one for each key of a line, then one for each carried column. A table has
them all, also where a run has no outcomes yet. Times are times, and a carried value that is no text is JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from classify_batch.errors import missing_extra
from classify_batch.model import Carried
from classify_batch.operations.export.formats import COLUMNS, column_names
from classify_batch.operations.export.selection import Only
from classify_batch.operations.outcome import Outcome
from classify_batch.operations.part_tails import read_run_json
from classify_batch.operations.run_handle import read_outcomes
from classify_batch.ports import RunPlace

try:
    from arro3.core import Array, DataType, Field, RecordBatch, RecordBatchReader, Schema, Table
except ImportError:
    raise missing_extra("tables need arro3", "parquet") from None

ROWS_A_BATCH = 8192

_TIMES = frozenset({"classified_at", "failed_at"})


def read_batches(place: RunPlace, only: Only | str | None) -> RecordBatchReader:
    """The outcomes as record batches, each made when it is asked for. Raises as `RunHandle.outcomes`."""
    carry = read_run_json(place.reader(), takes_shards=True).settings.get("plan", {}).get("carry", ())
    outcomes = read_outcomes(place, only)
    schema = make_schema(carry)

    def batches() -> Iterator[RecordBatch]:
        while rows := list(islice(outcomes, ROWS_A_BATCH)):
            yield make_batch(rows, carry, schema)

    return RecordBatchReader.from_batches(schema, batches())


def make_schema(carry: Sequence[str]) -> Schema:
    """The columns of a table, which may all be null but for the first two."""
    names = column_names(carry)
    return Schema(
        [Field(name, _type_of(name if name in COLUMNS else ""), nullable=name not in names[:2]) for name in names]
    )


def _type_of(key: str) -> DataType:
    if key in _TIMES:
        return DataType.timestamp("ms", tz="UTC")
    return DataType.float64() if key == "confidence" else DataType.string()


def make_batch(rows: Sequence[Outcome], carry: Sequence[str], schema: Schema) -> RecordBatch:
    """Rows as a record batch."""
    columns = [make_column(key, [row.get(key) for row in rows]) for key in COLUMNS]
    columns += [make_column("", [carried_text(row.carried, name) for row in rows]) for name in carry]
    return RecordBatch.from_arrays(columns, schema=schema)


def make_table(rows: Sequence[Outcome], carry: Sequence[str]) -> Table:
    """Rows as a table."""
    return Table.from_batches([make_batch(rows, carry, make_schema(carry))])


def make_column(key: str, values: Sequence[Any]) -> Array:
    """The column of a key of a line; that of a carried column where it is empty."""
    if key == "confidence":
        return Array([None if value is None else float(value) for value in values], type=DataType.float64())
    try:
        column = Array(values, type=DataType.string())
    except UnicodeEncodeError:  # a lone surrogate
        texts = [None if value is None else value.encode("utf-8", "backslashreplace").decode() for value in values]
        column = Array(texts, type=DataType.string())
    return column.cast(_type_of(key)) if key in _TIMES else column


def carried_text(carried: Carried | None, name: str) -> str | None:
    """A carried value: text as it is, everything else as JSON; a list where the file came more than once."""
    if not carried:
        return None
    value = carried.get(name) if isinstance(carried, dict) else [each.get(name) for each in carried]
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
