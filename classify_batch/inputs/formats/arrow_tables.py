"""Parquet and Arrow files → rows: the file IDs are one column, what is carried are others. Needs the extra `parquet`.

The reader is a library's, and reads from the file's end: bytes that come as a stream lie in a nameless file first. It
gives every column of a row, also those that nobody asked for, so few rows are held at once.
"""

from __future__ import annotations

import os
import tempfile
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from uuid import UUID

from anyio import to_thread

from classify_batch.errors import SourceError, StoreError, missing_extra
from classify_batch.inputs.formats.objects import CARRY_HINT, COLUMN_HINT, ObjectReader, has_documents
from classify_batch.inputs.ids import all_valid, list_columns, shorten
from classify_batch.inputs.reading import Format
from classify_batch.inputs.rows import Line, rows_from_lines
from classify_batch.spelling import suggest
from classify_batch.streams.closing import closing
from classify_batch.streams.temporary_folder import find_temporary_folder

if TYPE_CHECKING:
    from arro3.core import RecordBatch, RecordBatchReader, Schema

TableOpener = Callable[[Path | IO[bytes]], "RecordBatchReader"]

MAGICS = {Format.PARQUET: b"PAR1", Format.ARROW: b"ARROW1"}

_NAMES = {Format.PARQUET: "Parquet", Format.ARROW: "an Arrow file"}
_ROWS_A_BATCH = 1024
_FOOTER_BYTES = {Format.PARQUET: 8, Format.ARROW: 10}
_UUID_TYPE = b"arrow.uuid"
_GET_AGAIN = "was it written to its end? Get it once more"


def table_kind(head: bytes) -> Format | None:
    """Which table a file is that begins so; None: none."""
    return next((kind for kind, magic in MAGICS.items() if head.startswith(magic)), None)


async def read_table_file(
    source: Path | AsyncIterator[bytes], kind: Format, reader: ObjectReader
) -> AsyncIterator[list[str]]:
    """The rows of a table: of a file, or of bytes as they come.

    Raises:
        SourceError: the file is damaged, or has no such column; the column holds no text.
        UsageError: the extra isn't installed.
        StoreError: there is no room for the temporary file.
    """
    open_table = find_opener(kind)
    if isinstance(source, Path):
        file: IO[bytes] = await to_thread.run_sync(_open_file, source, reader.name)
    else:
        file = await _spool_to_file(source, reader.name)
    with file:
        # A path is read quicker than a file object.
        rows = _read_rows(open_table, source if isinstance(source, Path) else file, file, kind, reader)
        while (batch := await to_thread.run_sync(next, rows, None)) is not None:
            yield batch


def find_opener(kind: Format) -> TableOpener:
    """What opens such a table. Raises UsageError without the extra."""
    try:
        from arro3.io import read_ipc, read_parquet  # noqa: PLC0415 - an extra
    except ImportError:
        raise missing_extra("tables need arro3", "parquet") from None
    return read_ipc if kind is Format.ARROW else lambda file: read_parquet(file, batch_size=_ROWS_A_BATCH)


def _open_file(path: Path, name: str) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise SourceError(f"{name} can't be read: {error.strerror}", hint="give a readable file") from None


async def _spool_to_file(blocks: AsyncIterator[bytes], name: str) -> IO[bytes]:
    folder = find_temporary_folder()
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by the reader
    try:
        async with closing(blocks) as stream:
            async for block in stream:
                await to_thread.run_sync(file.write, block)
    except OSError as error:
        file.close()
        raise StoreError(
            f"{name} can't be put into {folder}: {error.strerror}", hint="make room there, or set TMPDIR"
        ) from None
    except BaseException:
        file.close()
        raise
    return file


def _read_rows(
    open_table: TableOpener, source: Path | IO[bytes], file: IO[bytes], kind: Format, reader: ObjectReader
) -> Iterator[list[str]]:
    _refuse_cut_off(file, kind, reader.name)
    first = 1
    batches = _Batches(open_table, source, f"{reader.name} is damaged ({_NAMES[kind]})")
    columns = _find_columns(batches.schema, reader)
    for batch in batches:
        yield _rows_of_batch(batch, columns, first, reader)
        first += batch.num_rows


def _refuse_cut_off(file: IO[bytes], kind: Format, name: str) -> None:
    """The library panics where the end of a table is missing."""
    magic, footer_bytes = MAGICS[kind], _FOOTER_BYTES[kind]
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - footer_bytes))
    footer = file.read()
    length = int.from_bytes(footer[:4], "little", signed=True)
    whole = footer.endswith(magic) and 0 <= length <= size - footer_bytes - len(magic)
    file.seek(0)
    if not whole:
        raise SourceError(f"{name} has no end ({_NAMES[kind]}): it is cut off, or damaged", hint=_GET_AGAIN)


class _Batches:
    """The record batches of a table; what the library raises becomes a SourceError."""

    def __init__(self, open_table: TableOpener, source: Path | IO[bytes], what: str) -> None:
        self._what = what
        self._reader = self._call_or_raise_source_error(lambda: open_table(source))
        self.schema: Schema = self._call_or_raise_source_error(lambda: self._reader.schema)

    def __iter__(self) -> Iterator[RecordBatch]:
        while (batch := self._call_or_raise_source_error(lambda: next(self._reader, None))) is not None:
            yield batch

    def _call_or_raise_source_error(self, call: Callable[[], Any]) -> Any:
        try:
            return _call_library(call)
        except _LibraryError as error:
            raise SourceError(f"{self._what}: {error}", hint=_GET_AGAIN) from None


class _LibraryError(Exception):
    """What the library raised, in one line."""


def _call_library(call: Callable[[], Any]) -> Any:
    """What the call returns. Raises _LibraryError for whatever the library raises, panics among it."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - the library has no class of its own
        raise _LibraryError(_in_one_line(error)) from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise _LibraryError(_in_one_line(error)) from None


def _in_one_line(error: BaseException) -> str:
    return shorten(" ".join(str(error).split())[:200])


def _find_columns(schema: Schema, reader: ObjectReader) -> list[int]:
    """Where the column of the file IDs is, and where those are that are carried. Raises SourceError."""
    names = list(schema.names)
    places = [
        _find_column(names, column, reader.name, COLUMN_HINT if not at else CARRY_HINT)
        for at, column in enumerate((reader.column, *reader.carry))
    ]
    field = schema.field(places[0])
    if not _holds_text(field.type) and not _holds_uuids(field):
        raise SourceError(
            f"{reader.name}: the column {shorten(reader.column)} holds {_type_name(field.type)}, and file IDs are text",
            hint=f"{COLUMN_HINT}, or write it as text (`cast({reader.column} as varchar)`)",
        )
    return places


def _find_column(names: Sequence[str], column: str, name: str, hint: str) -> int:
    if column not in names:
        raise SourceError(
            f"{name}: no column {shorten(column)}; there is {list_columns(names)}{suggest(column, names)}", hint=hint
        )
    if names.count(column) > 1:
        raise SourceError(f"{name}: more than one column {shorten(column)}", hint="rename all but one")
    return names.index(column)


def _holds_text(kind: Any) -> bool:
    from arro3.core import DataType  # noqa: PLC0415 - an extra

    is_dictionary: bool = DataType.is_dictionary(kind)
    values = kind.value_type if is_dictionary else kind
    return any(check(values) for check in (DataType.is_string, DataType.is_large_string, DataType.is_string_view))


def _holds_uuids(field: Any) -> bool:
    """Whether a column is of the type that Parquet and Arrow have for UUIDs: 16 bytes each."""
    return bool(field.metadata.get(b"ARROW:extension:name") == _UUID_TYPE)


def _rows_of_batch(batch: RecordBatch, places: Sequence[int], first: int, reader: ObjectReader) -> list[str]:
    file_ids = _values_of(batch, places[0])
    if _holds_uuids(batch.schema.field(places[0])):
        file_ids = [None if each is None else str(UUID(bytes=each)) for each in file_ids]
    if not reader.carry and all_valid(file_ids) and not has_documents(file_ids):
        return list(file_ids)
    columns = [_carried_values(batch, place, first, reader.name) for place in places[1:]]
    lines = []
    for number, row in enumerate(zip(file_ids, *columns, strict=True), first):
        if (fault := reader.find_fault_of_id(number, row[0], batch.schema.names, "row")) is not None:
            reader.on_fault(fault)
        else:
            lines.append(Line(number, row[0], dict(zip(reader.carry, row[1:], strict=True))))
    return (
        rows_from_lines(lines, reader.name, reader.on_fault, "row")
        if reader.carry
        else [line.file_id for line in lines]
    )


def _values_of(batch: RecordBatch, place: int) -> list[Any]:
    return list(batch.column(place).to_pylist())


def _carried_values(batch: RecordBatch, place: int, first: int, name: str) -> list[Any]:
    """The values of a carried column as JSON has them. Raises SourceError where the library has no value of Python for
    one: a time behind the year 9999, a type that it can't convert."""
    field = batch.schema.field(place)
    try:
        values = _call_library(lambda: _values_of(batch, place))
        if _is_temporal(field.type) and values.count(None) != batch.column(place).null_count:
            raise _LibraryError("a date, time or span out of range")  # which the library makes None
    except _LibraryError as error:
        rows = f"row {first}" if batch.num_rows == 1 else f"rows {first} to {first + batch.num_rows - 1}"
        raise SourceError(
            f"{name}: the column {shorten(field.name)} holds {_type_name(field.type)}, and what it holds in {rows} "
            f"can't be carried: {error}",
            hint=f"write the column as text (`cast({field.name} as varchar)`), or carry another one",
        ) from None
    if _holds_uuids(field):
        return [None if value is None else str(UUID(bytes=value)) for value in values]
    return list(map(to_json_value, values))


def _is_temporal(kind: Any) -> bool:
    from arro3.core import DataType  # noqa: PLC0415 - an extra

    return bool(DataType.is_temporal(kind))


def _type_name(kind: Any) -> str:
    return str(kind).strip().removeprefix("arro3.core.DataType<").removesuffix(">")


def to_json_value(value: Any) -> Any:
    """A value as JSON has it: times and spans in ISO 8601, decimals as they are written, bytes in Base64, maps as
    pairs."""
    match value:
        case datetime() | date() | time() | timedelta():
            return _iso_duration(value) if isinstance(value, timedelta) else value.isoformat()
        case Decimal():
            return str(value)
        case bytes():
            return b64encode(value).decode()
        case dict():
            return {str(key): to_json_value(each) for key, each in value.items()}
        case list() | tuple():
            return [to_json_value(each) for each in value]
        case _:
            return value


def _iso_duration(span: timedelta) -> str:
    """A span in seconds, such as `PT90.5S`: a day may have any number of them."""
    seconds, rest = divmod(abs(span) // timedelta(microseconds=1), 10**6)
    fraction = f".{rest:06}".rstrip("0") if rest else ""
    return f"{'-' if span < timedelta() else ''}PT{seconds}{fraction}S"
