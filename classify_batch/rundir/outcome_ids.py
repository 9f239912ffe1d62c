"""The file IDs of outcomes' lines, without reading the rest where that can be helped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from operator import itemgetter

from classify_batch.streams.uuid_lines import LINE_BYTES, UuidLines

_HEAD = b'{"file_id":"'
_BETWEEN_LINES = b"}\n" + _HEAD


def outcome_file_id(line: bytes) -> str:
    """The `file_id` of a line of results.jsonl or failures.jsonl. Raises ValueError for what is no such line."""
    if line.startswith(_HEAD) and line.endswith(b"}"):
        end = line.find(b'"', len(_HEAD))
        head = line[len(_HEAD) : end]
        if end > 0 and b"\\" not in head:
            return head.decode()
    values = json.loads(line)
    if not isinstance(values, dict) or not isinstance(file_id := values.get("file_id"), str):
        raise ValueError("an outcome has a file_id")
    return file_id


_PLAIN_LINE = re.compile(rb'\{"file_id":"([^"\\\n]+)".*\}\n|(?s:.+)')
"""Or all that is left: so every match begins where the one before ends, and no lines have to be counted."""


def outcome_file_ids(lines: bytes) -> list[str] | None:
    """The `file_id` of each of some whole lines, in order, as `outcome_file_id` gives them one by one; None where one
    of them has to be looked at by itself."""
    found = outcome_id_bytes(lines)
    if found is None:
        return None
    try:
        return decode_ids(found)
    except UnicodeDecodeError:
        return None


_CACHED_BYTES = 1 << 15
"""What is taken apart in pieces of this size is still in the CPU's cache when the next step comes."""


def outcome_id_bytes(lines: bytes) -> list[bytes] | None:
    """The same in UTF-8, which is not checked. A few passes in C: a big run has ten million lines."""
    file_ids: list[bytes] = []
    for piece in _cached_pieces(lines):
        if (found := _ids_of_lines(piece)) is None:
            return None
        file_ids += found
    return file_ids


def _cached_pieces(lines: bytes) -> Iterator[bytes]:
    start, end = 0, -1
    while end < len(lines):
        end = lines.rfind(b"\n", start, start + _CACHED_BYTES) + 1 or lines.find(b"\n", start) + 1 or len(lines)
        yield lines[start:end]
        start = end


def outcome_uuids(lines: bytes) -> UuidLines | None:
    """The same where all of them are UUIDs in their canonical spelling, and no line has to be looked at by itself."""
    heads: list[bytes] = []
    count = 0
    for piece in _cached_pieces(lines):
        if (outcomes := _split_lines(piece)) is None:
            return None
        heads.append(b"".join(map(_UUID_AND_QUOTE, outcomes)))
        count += len(outcomes)
    found = UuidLines.find(b"".join(heads).replace(b'"', b"\n"))
    return found if found is not None and len(found) == count else None


_UUID_AND_QUOTE = itemgetter(slice(0, LINE_BYTES))


def _split_lines(lines: bytes) -> list[bytes] | None:
    """Lines without the head that all of them have; None where one has another."""
    pieces = lines[len(_HEAD) :].split(_BETWEEN_LINES)
    newlines = len(lines) - len(lines.replace(b"\n", b""))  # a fifth of the time of `count`
    is_plain = lines.startswith(_HEAD) and lines.endswith(b"}\n") and newlines == len(pieces)
    return pieces if is_plain else None


def _ids_of_lines(lines: bytes) -> list[bytes] | None:
    pieces = _split_lines(lines)
    if pieces is None:
        return None
    file_ids = _ids_of_one_length(pieces)
    if file_ids is None:
        found = _PLAIN_LINE.findall(lines)
        file_ids = found if found[-1] else None
    return file_ids


def _ids_of_one_length(pieces: Sequence[bytes]) -> list[bytes] | None:
    """The IDs with which lines begin, behind their head; None where they are not all equally long, or one has to be
    looked at by itself."""
    size = pieces[0].find(b'"') + 1
    ids = b"".join(map(itemgetter(slice(0, size)), pieces))
    quotes = b'"' * len(pieces)
    if size < 2 or len(ids) != size * len(pieces) or ids[size - 1 :: size] != quotes or b"\\" in ids:
        return None
    file_ids = ids.split(b'"')
    file_ids.pop()
    return file_ids if len(file_ids) == len(pieces) else None


def decode_ids(file_ids: Sequence[bytes]) -> list[str]:
    """IDs out of their UTF-8. Raises UnicodeDecodeError."""
    return b"\n".join(file_ids).decode().split("\n") if file_ids else []


def encode_ids(file_ids: Sequence[str]) -> list[bytes]:
    """IDs in UTF-8; no ID has a newline."""
    return "\n".join(file_ids).encode("utf-8", "surrogatepass").split(b"\n") if file_ids else []
