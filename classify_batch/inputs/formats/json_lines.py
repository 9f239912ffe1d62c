"""A JSON object a line."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

from classify_batch.inputs.formats.objects import ObjectReader
from classify_batch.inputs.formats.repeated_keys import make_object, may_repeat
from classify_batch.inputs.ids import shorten
from classify_batch.inputs.lines import Lines, read_lines
from classify_batch.streams.closing import closing

_OVER_SEVERAL_LINES = "put each object on one line of its own: `jq -c '.[]'` or `jq -c .` does"

_decode_with_repeats = json.JSONDecoder(object_pairs_hook=make_object).decode


async def read_json_lines(blocks: AsyncIterator[bytes], reader: ObjectReader) -> AsyncIterator[list[str]]:
    """Each object has the file ID under the reader's key; blank lines are skipped. What is to be carried may also stand
    under `carried`, as in the outcomes of a run."""
    async with closing(read_lines(blocks, reader.name)) as stream:
        async for lines in stream:
            if not reader.carry and (file_ids := _read_plain_ids(lines, reader)) is not None:
                yield file_ids
            else:
                yield reader.read_rows(_values_of_lines(lines, reader))


def _read_plain_ids(lines: Lines, reader: ObjectReader) -> list[str] | None:
    """The file IDs of lines that all are as they should be, else None."""
    texts = list(filter(str.strip, lines.split_lines()))
    if may_repeat(lines.decode_lines(), reader.wanted_keys, len(texts)):
        return None
    try:
        return reader.read_plain_ids(list(map(json.loads, texts)))
    except (ValueError, RecursionError):
        return None


def _values_of_lines(lines: Lines, reader: ObjectReader) -> Iterator[tuple[int, Any]]:
    """Each value with its line; a fault for each line that is no JSON."""
    texts = lines.split_lines()
    repeats = may_repeat(lines.decode_lines(), reader.wanted_keys, sum(map(bool, map(str.strip, texts))))
    decode = _decode_with_repeats if repeats else json.loads
    for number, line in enumerate(texts, lines.first):
        if not line.strip():
            continue
        try:
            value = decode(line)
        except (ValueError, RecursionError):
            is_open = line.strip() in ("{", "[")
            hint = _OVER_SEVERAL_LINES if is_open else f'every line is an object such as {{"{reader.column}": "…"}}'
            reader.on_fault(reader.make_fault(number, f"{shorten(line.strip())} is not JSON", hint))
        else:
            yield number, value
