"""One JSON array of file IDs, or of objects that have them: read item by item, however long it is."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

from anyio.lowlevel import checkpoint

from classify_batch.errors import SourceError
from classify_batch.inputs.formats.objects import ObjectReader
from classify_batch.inputs.formats.repeated_keys import RepeatingObject, make_object, may_repeat
from classify_batch.inputs.ids import shorten
from classify_batch.inputs.lines import LINE_BYTES_MAX
from classify_batch.streams.closing import closing

_BLANKS = re.compile(r"[ \t\r\n]*")
_BYTE_ORDER_MARK = "\ufeff"
_HINT = 'a JSON array is ["ID", …] or [{"file_id": "ID"}, …]'

_decode_value = json.JSONDecoder().raw_decode
_decode_with_repeats = json.JSONDecoder(object_pairs_hook=make_object).raw_decode

Decode = Callable[[str, int], tuple[Any, int]]


async def read_json_array(blocks: AsyncIterator[bytes], reader: ObjectReader) -> AsyncIterator[list[str]]:
    """The items are counted from 1.

    Raises:
        SourceError: the text is not one JSON array.
    """
    array = _ArrayParser(reader)
    decoder = codecs.getincrementaldecoder("utf-8")()
    async with closing(blocks) as stream:
        async for block in stream:
            try:
                text = decoder.decode(block)
            except UnicodeDecodeError as error:
                raise _item_error(
                    reader, array.items + 1, f"not UTF-8: byte 0x{error.object[error.start]:02x}"
                ) from None
            first = array.items + 1
            values = array.parse_items(text)
            yield _read_batch(values, first, reader)
            await checkpoint()
    if not array.ended:
        raise _item_error(reader, array.items + 1, array.find_bad_json() or "the array ends in the middle")


def _read_batch(values: list[Any], first: int, reader: ObjectReader) -> list[str]:
    repeats = any(isinstance(value, RepeatingObject) for value in values)
    if not reader.carry and not repeats and (file_ids := reader.read_plain_ids(values)) is not None:
        return file_ids
    return reader.read_rows(enumerate(values, first))


class _ArrayParser:
    """Takes a text in pieces, and gives the items that are whole.

    Attributes:
        items: how many were given.
        ended: whether the array's end was seen.
    """

    def __init__(self, reader: ObjectReader) -> None:
        self._reader = reader
        self._text = ""
        self._begun = False
        self._may_end = True
        self._line = 1
        self.items = 0
        self.ended = False

    def parse_items(self, text: str) -> list[Any]:
        """The items that end in this piece."""
        self._text += text
        begin = 0 if self._begun else self._find_begin()
        items = self.items
        values, at = self._take_items(begin, _decode_value)
        objects = sum(isinstance(value, dict) for value in values)
        if objects and may_repeat(self._text[begin:at], self._reader.wanted_keys, objects):
            self.items, self.ended = items, False
            values, at = self._take_items(begin, _decode_with_repeats)
        if self.ended and self._text[at:].strip(" \t\r\n"):
            raise _item_error(self._reader, self.items + 1, "something stands behind the array's end")
        self._line += self._text.count("\n", 0, at)
        self._text = self._text[at:]
        if len(self._text) > LINE_BYTES_MAX:
            too_long = f"{shorten(self._text)} is not JSON, or longer than {LINE_BYTES_MAX} bytes"
            raise _item_error(self._reader, self.items + 1, self.find_bad_json() or too_long)
        return values

    def _take_items(self, at: int, decode: Decode) -> tuple[list[Any], int]:
        """The items from a place on, and the place behind the last of them."""
        values: list[Any] = []
        while not self.ended and (item := self._next_item(at, decode)) is not None:
            value, at = item
            values += value
            self.items += len(value)
        return values, at

    def find_bad_json(self) -> str | None:
        """What in the next item isn't JSON, whatever comes behind it; None where the text is only too short."""
        begin = _skip_blanks(self._text, 0)
        try:
            _decode_value(self._text, begin)
        except json.JSONDecodeError as error:
            reason, at = error.msg, error.pos
        except ValueError as error:  # a number of thousands of digits
            reason, at = str(error).partition(";")[0], begin
        except RecursionError:
            reason, at = "nested too deeply", begin
        else:
            return None
        if at >= len(self._text.rstrip()):
            return None
        place = f"line {self._line + self._text.count(chr(10), 0, at)}: {shorten(self._text[at:])}"
        if reason.startswith("Unterminated string"):
            return f"a string without an end begins on {place}"
        reason = reason.removesuffix(" at")
        return f"not JSON on {place}: {reason[:1].lower()}{reason[1:]}"

    def _find_begin(self) -> int:
        at = _skip_blanks(self._text, 1 if self._text.startswith(_BYTE_ORDER_MARK) else 0)
        if at == len(self._text):
            return 0
        if self._text[at] != "[":
            raise _item_error(self._reader, 1, f"{shorten(self._text[at:])} is no JSON array")
        self._begun = True
        return at + 1

    def _next_item(self, at: int, decode: Decode) -> tuple[list[Any], int] | None:
        """The next item, if it is whole and what follows it is there, and the place behind it."""
        if not self._begun:
            return None
        text, at = self._text, _skip_blanks(self._text, at)
        if at == len(text):
            return None
        if text[at] == "]":
            if not self._may_end:
                raise _item_error(self._reader, self.items + 1, "a comma stands before the array's end")
            self.ended = True
            return [], at + 1
        try:
            value, end = decode(text, at)
        except (ValueError, RecursionError):
            return None  # it may go on in the next piece; if there is none, or it grows too long, the caller says so
        end = _skip_blanks(text, end)
        if end == len(text):
            return None
        self._may_end = False
        if text[end] == "]":
            self.ended = True
        elif text[end] != ",":
            raise _item_error(
                self._reader, self.items + 1, f"{shorten(text[at:])}: no comma behind an item of the array"
            )
        return [value], end + 1


def _skip_blanks(text: str, at: int) -> int:
    return _BLANKS.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too


def _item_error(reader: ObjectReader, item: int, what: str) -> SourceError:
    return SourceError(f"{reader.name}, item {item}: {what}", hint=_HINT)
