"""Blocks of bytes → batches of rows, whatever the bytes are: unpacked, decoded, read in the format that they have.

A file, stdin and an object in a store differ only in where their bytes come from; here is what they share.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from classify_batch.errors import SourceError
from classify_batch.inputs.decompress import HEAD_BYTES, decompress, is_plain_line
from classify_batch.inputs.detect import Detected, detect_reading, is_enough
from classify_batch.inputs.encoding import convert_to_utf8, to_newlines
from classify_batch.inputs.formats.arrow_tables import read_table_file, table_kind
from classify_batch.inputs.formats.json_array import read_json_array
from classify_batch.inputs.formats.json_lines import read_json_lines
from classify_batch.inputs.formats.objects import ObjectReader
from classify_batch.inputs.formats.plain_lines import read_plain_lines
from classify_batch.inputs.formats.table import TableShape, read_table
from classify_batch.inputs.reading import TABLE_SUFFIXES, TABLES, Format, NamedReading, OnReading, Reading
from classify_batch.streams.closing import closing
from classify_batch.streams.peeked import Peeked


async def read_rows_of_any_format(
    blocks: AsyncIterator[bytes],
    asked: Reading,
    reader: ObjectReader,
    on_reading: OnReading,
    path: Path | None = None,
) -> AsyncIterator[Sequence[str]]:
    """The rows of a text, or of a table that is none.

    Args:
        asked: how it is to be read; what it leaves open, the content says.
        reader: its name, column and faults.
        on_reading: is called with how it is read, before the first batch.
        path: the plain file that the bytes are from; None: they come once.

    Raises:
        SourceError: it can't be read as file IDs.
    """
    async with closing(blocks) as stream:
        raw = Peeked(stream)
        kind = await _find_table(raw)
        async with closing(decompress(aiter(raw), reader.name)) as unpacked:
            content = Peeked(unpacked)
            if kind is None and (kind := await _find_table(content)) is not None:
                path = None  # what is in it has to be unpacked first
            wanted = _wanted_table(asked, reader.name)
            if kind is None and wanted is None:
                batches = _read_text(aiter(content), asked, reader, on_reading)
            else:
                reading = _table_reading(kind, wanted, asked, reader)
                on_reading(NamedReading(reader.name, reading))
                batches = read_table_file(path or aiter(content), reading.format or Format.PARQUET, reader)
            async with closing(batches) as rows:
                async for batch in rows:
                    yield batch


async def _find_table(content: Peeked) -> Format | None:
    """Which table the content is; None: none."""
    head = await content.peek_beginning(lambda held: len(held) >= HEAD_BYTES or b"\n" in held)
    return None if is_plain_line(head) else table_kind(head)


def _wanted_table(asked: Reading, name: str) -> Format | None:
    """Which table it must be, as the caller says, or its name."""
    if asked.format is not None:
        return asked.format if asked.format in TABLES else None
    return TABLE_SUFFIXES.get(PurePath(name).suffix.lower())


def _table_reading(kind: Format | None, wanted: Format | None, asked: Reading, reader: ObjectReader) -> Reading:
    """How a table is read. Raises SourceError where the content is another one than it must be."""
    if kind is None:
        raise SourceError(
            f"{reader.name} is no {wanted} file: it doesn't begin like one",
            hint="was it written to its end? `--format` and the suffix of a name say what an input is",
        )
    if asked.format not in (None, kind):
        raise SourceError(f"{reader.name} is {kind}, and not {asked.format}", hint="leave --format and --delimiter out")
    return Reading(kind, None, asked.column)


async def _read_text(
    blocks: AsyncIterator[bytes], asked: Reading, reader: ObjectReader, on_reading: OnReading
) -> AsyncIterator[Sequence[str]]:
    name = reader.name
    async with closing(to_newlines(convert_to_utf8(blocks, name))) as stream:
        text = Peeked(stream)
        known = asked.format is Format.LINES
        head = b"" if known else await text.peek_beginning(is_enough)
        detected = detect_reading(head, name, asked, reader.carry)
        on_reading(NamedReading(name, detected.reading))
        async with closing(_read_format(aiter(text), detected, reader)) as batches:
            async for batch in batches:
                yield batch


def _read_format(
    blocks: AsyncIterator[bytes], detected: Detected, reader: ObjectReader
) -> AsyncIterator[Sequence[str]]:
    reading = detected.reading
    match reading.format:
        case Format.CSV:
            is_strict = reading.strict is not False
            shape = TableShape(reading.delimiter or ",", detected.lines_before, detected.spaced, is_strict)
            return read_table(blocks, reader, shape)
        case Format.JSONL:
            return read_json_lines(blocks, reader)
        case Format.JSON:
            return read_json_array(blocks, replace(reader, unit="item", bare=True))
        case _:
            return read_plain_lines(blocks, reader.name, reader.on_fault, strict=reading.strict is True)
