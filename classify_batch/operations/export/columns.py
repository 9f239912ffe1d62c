"""Outcomes as typed Arrow columns, a batch of lines at a time. Needs the extra `parquet`.

Columns whose values come again and again (outcome, type, code …) are dictionaries: a batch holds a number a row, and
their texts once. An Arrow file has one dictionary a column, so these begin with what the journal says was answered, and
are the same in all batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from classify_batch.errors import missing_extra
from classify_batch.operations.arrow_table import carried_text
from classify_batch.operations.export.formats import COLUMNS, TableRow, column_names
from classify_batch.rundir.opened_run import RunOnDisk
from classify_batch.vocabulary import Log, OutcomeKind

try:
    from arro3.core import Array, DataType, Field, RecordBatch, Schema
except ImportError:
    raise missing_extra("tables need arro3", "parquet") from None

_TEXT, _INDEX = DataType.string(), DataType.int32()
_CATEGORY = DataType.dictionary(_INDEX, _TEXT)
_TIMESTAMP = DataType.timestamp("ms", tz="UTC")
_BYTE = 256
_TYPES = {
    "confidence": DataType.float64(),
    "classified_at": _TIMESTAMP,
    "failed_at": _TIMESTAMP,
    **dict.fromkeys(("outcome", "type", "mode", "code", "counts"), _CATEGORY),
}
_RESULT_KEYS = [key for key in COLUMNS if key not in ("code", "message", "failed_at")]
"""What an answer may have."""

_ATTRIBUTES = {key: attrgetter(key) for key in COLUMNS}

NEVER_NULL = frozenset({"file_id", "outcome"})


class Categories(dict[str | None, int]):
    """The texts that a column was seen to hold, each with its number; None, too."""

    def __init__(self, texts: Iterable[str]) -> None:
        super().__init__({text: number for number, text in enumerate(dict.fromkeys((None, *texts)))})
        self._array: Array | None = None
        self._repeated: dict[int, Array] = {}

    def __missing__(self, text: str | None) -> int:
        self[text] = number = len(self)
        return number

    def encode(self, texts: Sequence[str | None]) -> Array:
        """Texts, at least one, as an array that has all texts of before in its dictionary, too."""
        first = texts[0]
        if texts.count(first) == len(texts):
            return self._repeat_value(self[first], len(texts))
        return self._take_values(list(map(self.__getitem__, texts)))

    def _take_values(self, numbers: Sequence[int]) -> Array:
        if self._array is None or len(self._array) < len(self):
            self._array = make_text_array(list(self)).cast(_CATEGORY)
            self._repeated.clear()
        fits = len(self) <= _BYTE
        return self._array.take(Array.from_buffer(bytes(numbers)) if fits else Array(numbers, type=_INDEX))

    def _repeat_value(self, number: int, times: int) -> Array:
        array = self._repeated.get(number)
        if array is None or len(array) < times or self._array is None or len(self._array) < len(self):
            array = self._take_values([number] * times)
            self._repeated[number] = array
        return array.slice(0, times)


class OutcomeColumns:
    """Makes record batches of lines.

    Attributes:
        schema: the columns of a CSV file, with types.
        categories: what the columns that are dictionaries were seen to hold.
    """

    def __init__(self, carry: Sequence[str], categories: Mapping[str, Categories]) -> None:
        self._carry = tuple(carry)
        self._nothing = make_text_array(())
        self.categories = categories
        names = column_names(carry)
        types = [_TYPES.get(name, _TEXT) for name in COLUMNS] + [_TEXT] * len(self._carry)
        self.schema = Schema(
            [Field(name, kind, nullable=name not in NEVER_NULL) for name, kind in zip(names, types, strict=True)]
        )

    def make_batch(self, log: Log, lines: Sequence[TableRow]) -> RecordBatch:
        """Lines of results.jsonl or failures.jsonl, at least one, as a record batch."""
        keys = _RESULT_KEYS if log is Log.RESULTS else COLUMNS
        values = {key: list(map(_ATTRIBUTES[key], lines)) for key in keys}
        missing = [None] * len(lines)
        columns = [self._make_column(key, values.get(key, missing)) for key in COLUMNS]
        columns += [make_text_array([carried_text(line.carried, name) for line in lines]) for name in self._carry]
        return RecordBatch.from_arrays(columns, schema=self.schema)

    def _make_column(self, key: str, values: Sequence[Any]) -> Array:
        if (categories := self.categories.get(key)) is not None:
            return categories.encode(values)
        if key == "confidence":
            return Array(values, type=_TYPES[key])
        if values[0] is None and values.count(None) == len(values):
            column = self._missing_values(len(values))
            return column.cast(_TIMESTAMP) if key in _TYPES else column
        return make_timestamps(values) if key in _TYPES else make_text_array(values)

    def _missing_values(self, rows: int) -> Array:
        if len(self._nothing) < rows:
            self._nothing = make_text_array((None,) * rows)
        return self._nothing.slice(0, rows)


def make_timestamps(texts: Sequence[str | None]) -> Array:
    """RFC 3339 as timestamps. The files of a job have the same one, which is read once."""
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    different = make_text_array(list(numbers)).cast(_TIMESTAMP)
    return different.take(Array(list(map(numbers.__getitem__, texts)), type=_INDEX))


def make_text_array(texts: Sequence[str | None]) -> Array:
    """Texts as an array; a lone surrogate becomes its JSON escape."""
    try:
        return Array(texts, type=_TEXT)
    except UnicodeEncodeError:
        sound = [None if text is None else text.encode("utf-8", "backslashreplace").decode() for text in texts]
        return Array(sound, type=_TEXT)


def first_categories(parts: Sequence[RunOnDisk]) -> dict[str, Categories]:
    """What the columns that are dictionaries of a run hold, as far as the journal of each part says it."""
    known: dict[str, Iterable[str]] = {
        "outcome": [each.value for each in OutcomeKind],
        "type": dict.fromkeys(kind for part in parts for kind in part.snapshot.types),
        "code": dict.fromkeys(code for part in parts for code in part.snapshot.codes),
        "mode": ("FAST", "MULTIMODAL"),
        "counts": ("first", "second"),
    }
    return {name: Categories(texts) for name, texts in known.items()}
