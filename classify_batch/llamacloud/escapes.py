"""How a character may stand in a text: as it is, or escaped as in JSON, Python, HTML or a URL, up to several times.

Each time that escaped text is escaped again, only backslashes, `25` behind a percent sign and `amp;` behind an
ampersand are added. So a character's spellings are few, but for how often these come; and what stands at a place may be
read in several ways: `%2541` is a percent sign and `41`, and it is an `A`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

BEGINS_AN_ESCAPE = re.compile(r"[\\%&]")

_BACKSLASH = re.compile(r"\\|%(?:25)*5c", re.IGNORECASE)
_PERCENT = re.compile(r"%((?:25)*)([0-9a-f]{2})", re.IGNORECASE)
_AMPERSAND = re.compile(r"&|%(?:25)*26")
_AMPERSAND_AGAIN = re.compile(r"amp(?:;|%(?:25)*3b)", re.IGNORECASE)
_REFERENCE = re.compile(
    r"(?:(?:#|%(?:25)*23)(?:0{0,4}([0-9]{1,7})|x0{0,4}([0-9a-f]{1,6}))|(lt|gt|quot|apos))(?:;|%(?:25)*3b)",
    re.IGNORECASE,
)
_UNIT = re.compile(r"u([0-9a-f]{4})", re.IGNORECASE)
_LOW_UNIT = re.compile(r"(?:\\|%(?:25)*5c){1,15}u(d[c-f][0-9a-f]{2})", re.IGNORECASE)
_CODE = re.compile(r"u([0-9a-f]{8})|x([0-9a-f]{2})", re.IGNORECASE)

_NAMED = {"lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_CONTROLS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_CODE_MAX = 0x10FFFF


class Spelled(NamedTuple):
    """A character, and where in the text its spelling ends."""

    character: str
    end: int


def end_of_backslash(text: str, start: int) -> int | None:
    """Where a backslash ends that begins at `start`, if there is one."""
    found = _BACKSLASH.match(text, start)
    return None if found is None else found.end()


def spelled_at(text: str, start: int) -> Iterator[Spelled]:
    """All that may be spelled from `start` on, backslashes before it aside."""
    first = text[start]
    yield Spelled(first, start + 1)
    if first == "%":
        yield from _spelled_by_percent(text, start)
    if (ampersand := _AMPERSAND.match(text, start)) is not None:
        yield from _spelled_by_reference(text, ampersand.end())


def spelled_behind_backslash(text: str, start: int) -> Iterator[Spelled]:
    """What may be spelled from `start` on where a backslash stands before it."""
    first = text[start].lower()
    if (control := _CONTROLS.get(first)) is not None:
        yield Spelled(control, start + 1)
    if first not in ("u", "x"):
        return
    if (code := _CODE.match(text, start)) is not None:
        yield from _spelled_by_code(int(code[1] or code[2], 16), code.end())
    if (unit := _UNIT.match(text, start)) is not None:
        high = int(unit[1], 16)
        yield Spelled(chr(high), unit.end())
        # Characters beyond U+FFFF are two UTF-16 units in JSON, each with its own backslash.
        if 0xD800 <= high < 0xDC00 and (low := _LOW_UNIT.match(text, unit.end())) is not None:
            yield Spelled(chr(0x10000 + ((high - 0xD800) << 10) + int(low[1], 16) - 0xDC00), low.end())


def _spelled_by_code(code: int, end: int) -> Iterator[Spelled]:
    if code <= _CODE_MAX:
        yield Spelled(chr(code), end)


def _spelled_by_percent(text: str, start: int) -> Iterator[Spelled]:
    found = _PERCENT.match(text, start)
    if found is None:
        return
    for again in range(0, len(found[1]), 2):
        yield Spelled("%", start + 3 + again)
    byte, end = int(found[2], 16), found.end()
    if byte < 0x80:
        yield Spelled(chr(byte), end)
        return
    data = bytearray([byte])
    for _ in range(1 if byte < 0xE0 else 2 if byte < 0xF0 else 3):
        further = _PERCENT.match(text, end)
        if further is None:
            return
        data.append(int(further[2], 16))
        end = further.end()
    try:
        yield Spelled(data.decode("utf-8", "surrogatepass"), end)
    except UnicodeDecodeError:
        return


def _spelled_by_reference(text: str, end: int) -> Iterator[Spelled]:
    """Behind an ampersand, which may have been escaped again and again."""
    while True:
        if (found := _REFERENCE.match(text, end)) is not None:
            decimal, hexadecimal, name = found.groups()
            if name is not None:
                yield Spelled(_NAMED[name.lower()], found.end())
            else:
                yield from _spelled_by_code(int(decimal) if decimal is not None else int(hexadecimal, 16), found.end())
        again = _AMPERSAND_AGAIN.match(text, end)
        if again is None:
            return
        end = again.end()
        yield Spelled("&", end)
