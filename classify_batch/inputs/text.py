"""Blocks of bytes → batches of rows, whatever the bytes are: unpacked, decoded, and read in the format that they have.

A file, stdin and an object in a store differ only in where their bytes come from; here is what they share.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from classify_batch.inputs.decompress import decompress
from classify_batch.inputs.detect import Detected, detect, is_enough
from classify_batch.inputs.encoding import to_newlines, to_utf8
from classify_batch.inputs.formats.json_array import read_json_array
from classify_batch.inputs.formats.json_lines import read_json_lines
from classify_batch.inputs.formats.objects import ObjectReader
from classify_batch.inputs.formats.plain_lines import read_plain_lines
from classify_batch.inputs.formats.table import TableShape, read_table
from classify_batch.inputs.reading import Format, NamedReading, Reading, TookReading
from classify_batch.streams.closing import closing
from classify_batch.streams.peeked import Peeked


async def read_any_text(
    blocks: AsyncIterator[bytes], asked: Reading, reader: ObjectReader, took_reading: TookReading
) -> AsyncIterator[list[str]]:
    """The rows of a text.

    Args:
        asked: how it is to be read; what it leaves open, the content tells.
        reader: its name, column and faults.
        took_reading: hears how it is read, before the first batch.

    Raises:
        SourceError: it can't be read as file IDs.
    """
    name = reader.name
    async with closing(to_newlines(to_utf8(decompress(blocks, name), name))) as stream:
        text = Peeked(stream)
        known = asked.format is Format.LINES
        head = b"" if known else await text.peek(is_enough)
        detected = detect(head, name, asked, reader.carry)
        took_reading(NamedReading(name, detected.reading))
        async with closing(_read_format(aiter(text), detected, reader)) as batches:
            async for batch in batches:
                yield batch


def _read_format(blocks: AsyncIterator[bytes], detected: Detected, reader: ObjectReader) -> AsyncIterator[list[str]]:
    reading = detected.reading
    match reading.format:
        case Format.CSV:
            return read_table(blocks, reader, TableShape(reading.delimiter or ",", detected.lines_before))
        case Format.JSONL:
            return read_json_lines(blocks, reader)
        case Format.JSON:
            return read_json_array(blocks, replace(reader, unit="item", bare=True))
        case _:
            return read_plain_lines(blocks, reader.name, reader.took_fault, strict=reading.strict)
