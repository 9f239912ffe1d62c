"""File IDs that the calling program already holds, or makes as it goes; or objects that have them, as a row has."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from itertools import islice
from time import monotonic
from typing import Any

from anyio.lowlevel import checkpoint

from classify_batch.errors import SourceError
from classify_batch.inputs.formats.objects import ObjectReader
from classify_batch.inputs.ids import all_valid, to_plain_strings
from classify_batch.streams.closing import closing

NAME = "the given file IDs"
BATCH_IDS = 4096
BATCH_S = 0.1
"""So long a batch of an iterable may take, and then one item more."""

Item = str | Mapping[str, Any]
"""A file ID, or a mapping that has one under `file_id`, or under the column that the caller names."""


def refuse_no_list(values: object, column: str) -> None:
    """Raises SourceError for what can be iterated over, and doesn't give its file IDs then: a table gives the names of
    its columns, an object its keys."""
    if hasattr(type(values), "columns"):  # of the type: a lazy table would work out its own
        raise SourceError(
            f"{NAME}: a {type(values).__name__} gives its columns, not its rows", hint=_hint_of_table(values, column)
        )
    if isinstance(values, Mapping) and column in values:
        raise SourceError(f"{NAME}: one mapping, where a list of them is expected", hint="give [mapping]")
    if isinstance(values, bytes | bytearray):
        raise SourceError(f"{NAME}: bytes, where a list of file IDs is expected", hint="give a list of strings")


_ROWS_OF_TABLES = (
    ("fetchall", 'give [each for (each,) in table.select("{column}").fetchall()]'),
    ("to_pylist", "give its rows, table.to_pylist()"),
    ("to_dicts", 'give a column, frame["{column}"], or its rows, frame.to_dicts()'),
    ("collect_schema", 'give a column, frame.collect()["{column}"], or its rows, frame.collect().to_dicts()'),
    ("to_dict", 'give a column, frame["{column}"], or its rows, frame.to_dict("records")'),
)
"""What gives file IDs of the tables of libraries (Arrow, polars and its lazy ones, pandas, DuckDB), by a method."""


def _hint_of_table(table: object, column: str) -> str:
    hints = (hint for method, hint in _ROWS_OF_TABLES if hasattr(type(table), method))
    return next(hints, "give the column of the file IDs, or its rows as mappings").replace("{column}", column)


async def from_iterable(values: Iterable[Item], reader: ObjectReader) -> AsyncIterator[list[str]]:
    """A source over any iterable: a list, a generator, a database cursor, a column of pandas or NumPy."""
    try:
        rest = iter(values)
    except TypeError as error:  # NumPy's array of no dimension has the method, and can't
        raise SourceError(f"{NAME}: {error}", hint="give a list of file IDs, or an iterator over them") from error
    take = _take_at_once if type(values) in (list, tuple) else _take_while_quick
    first = 1
    while batch := take(rest):
        yield read_items(batch, first, reader)
        first += len(batch)
        await checkpoint()


def _take_at_once(rest: Iterator[Item]) -> list[Item]:
    return list(islice(rest, BATCH_IDS))


def _take_while_quick(rest: Iterator[Item]) -> list[Item]:
    """The next items. A generator that waits for each of them blocks the event loop, and with it Ctrl-C and timeouts:
    then a batch is what came in its time."""
    until_s = monotonic() + BATCH_S
    batch = []
    for value in islice(rest, BATCH_IDS):
        batch.append(value)
        if monotonic() >= until_s:
            break
    return batch


async def from_async_iterable(values: AsyncIterable[Item], reader: ObjectReader) -> AsyncIterator[list[str]]:
    """A source over any asynchronous iterable."""
    batch: list[Item] = []
    first = 1
    async with closing(values) as stream:
        async for value in stream:
            batch.append(value)
            if len(batch) == BATCH_IDS:
                yield read_items(batch, first, reader)
                first, batch = first + len(batch), []
    if batch:
        yield read_items(batch, first, reader)


def read_items(batch: list[Any], first: int, reader: ObjectReader) -> list[str]:
    """The rows of the items. A fault names the item, counted from 1, that has no file ID."""
    values = to_plain_strings(batch)
    return values if not reader.carry and all_valid(values) else reader.read_rows(enumerate(batch, first))
