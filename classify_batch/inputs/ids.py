"""What a file ID looks like, and how to say that something isn't one.

File IDs are opaque: 1 to 200 printable characters without spaces, never checked for being UUIDs. Whole
batches are judged by a few calls that run in C; only a batch with a fault in it is looked at one ID at a
time.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Number
from pathlib import PurePath
from typing import Any, NamedTuple, NoReturn
from uuid import UUID

from classify_batch.errors import SourceError
from classify_batch.vocabulary import FILE_ID_CHARACTERS_MAX

COLUMN = "file_id"
"""The column, or key, that holds the file IDs unless the caller names another."""

_SHOWN_CHARACTERS_MAX = 60


def all_valid(values: Sequence[object]) -> bool:
    """Whether every value is a file ID."""
    try:
        text = "".join(values)  # type: ignore[arg-type]  # a value that is no string is what TypeError is for
    except TypeError:
        return False
    if not is_printable(text) or " " in text:
        return False
    lengths = set(map(len, values))  # type: ignore[arg-type]  # they were all strings
    return not lengths or (min(lengths) > 0 and max(lengths) <= FILE_ID_CHARACTERS_MAX)


def to_plain_string(value: Any) -> Any:
    """A string of a subclass as `str` holds it; any other value as it is. A member of an enumeration prints as its
    name, and any subclass as it likes: what was judged must be what is planned."""
    return str.__str__(value) if isinstance(value, str) else value


def to_plain_strings(values: list[Any]) -> list[Any]:
    """The same for many values; these very values where all are of type `str`."""
    return values if set(map(type, values)) == {str} else list(map(to_plain_string, values))


_ASCII_CONTROLS = bytes(range(32)) + b"\x7f"


def is_printable(text: str) -> bool:
    """`str.isprintable`, which looks every character up; ASCII is judged by its bytes in a quarter of the time."""
    return len(text.encode().translate(None, _ASCII_CONTROLS)) == len(text) if text.isascii() else text.isprintable()


class Fault(NamedTuple):
    """A line, or an item, that holds no file ID, or can't carry what it should.

    Attributes:
        name: how a person names the source.
        place: the line or item in it.
    """

    name: str
    place: str
    what: str
    hint: str

    @property
    def as_error(self) -> SourceError:
        return SourceError(f"{self.name}, {self.place}: {self.what}", hint=self.hint)


OnFault = Callable[[Fault], object]
"""Hears of each fault, in their order. What it is in is left out, unless this raises."""


def raise_fault(fault: Fault) -> NoReturn:
    """Ends at the first fault: whoever writes a plan has no use for the rest."""
    raise fault.as_error


def check_file_id(name: str, number: int, value: object, unit: str = "line") -> Fault | None:
    """What is wrong with a value that should be a file ID; None where nothing is."""
    reason = reason_not_a_file_id(value)
    return None if reason is None else Fault(name, f"{unit} {number}", *reason)


def only_valid(
    name: str, numbered: Iterable[tuple[int, object]], on_fault: OnFault, *, unit: str = "line"
) -> list[str]:
    """The file IDs among values, each of which comes with the number of its line, or of its item."""
    valid: list[str] = []
    for number, value in numbered:
        if (fault := check_file_id(name, number, value, unit)) is not None:
            on_fault(fault)
        elif isinstance(value, str):
            valid.append(value)
    return valid


def shorten(value: object) -> str:
    """A value for a message: one short line, and no control character reaches the terminal."""
    plain = to_plain_string(value)
    text = repr(plain[: _SHOWN_CHARACTERS_MAX + 1]) if isinstance(plain, str) else _repr_as_line(value)
    return text if len(text) <= _SHOWN_CHARACTERS_MAX + 2 else text[:_SHOWN_CHARACTERS_MAX] + "…'"


def _repr_as_line(value: object) -> str:
    """The repr of a foreign object: numpy's has several lines, and anybody's may raise."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001 - the message is about something else
        text = ""
    return text if text.isprintable() and text else f"<{type(value).__name__}>"


def list_columns(columns: Sequence[object]) -> str:
    """The first few names, for a message."""
    return (", ".join(map(shorten, columns[:10])) + (", …" if len(columns) > 10 else "")) or "none"


def reason_not_a_file_id(value: object) -> tuple[str, str] | None:
    """What is wrong with a value, and what to do about it; None for a file ID."""
    if not isinstance(value, str):
        return f"{shorten(value)} is not a string", _hint_not_a_string(value)
    if not value:
        return "an empty file ID", "give every row a file ID, or leave the row out"
    if len(value) > FILE_ID_CHARACTERS_MAX:
        return (
            f"{shorten(value)} has {len(value)} characters; a file ID has at most {FILE_ID_CHARACTERS_MAX}",
            "is this a list of file IDs, one on each line?",
        )
    if " " in value:
        return f"{shorten(value)} has a space in it", "one file ID on each line, and nothing beside it"
    return None if value.isprintable() else _reason_not_printable(value)


def _reason_not_printable(value: str) -> tuple[str, str]:
    if value.endswith("\n"):  # as the lines of an open file do
        return (
            f"{shorten(value)} has a line end behind it",
            "take it off (line.strip() in Python), or give the path of the file itself",
        )
    if "\r" in value:
        return (
            f"{shorten(value)} has a carriage return in it",
            "end all lines alike: at a newline, or at CR and newline",
        )
    # No-break and zero-width spaces come with what is copied from a page or a document: their names say where to look.
    name = unicodedata.name(next(each for each in value if not each.isprintable()), "")
    what = f"{shorten(value)} has a character that can't be printed" + (f" ({name})" if name else "")
    return what, "remove it, or save the file as UTF-8"


_HINTS_OF_ROWS = (
    ("_asdict", "give row._asdict() for each row"),
    ("model_dump", "give item.model_dump() for each item"),
    ("__dataclass_fields__", "give dataclasses.asdict(item) for each item"),
    ("as_py", "give column.to_pylist()"),
    ("decode", "file IDs are strings: give id.decode()"),
    ("keys", "give dict(row) for each row"),
)
"""How rows and values of libraries become mappings and strings, by what their types have."""

_EMPTY_CELLS = ("NAType", "NaTType", "MaskedConstant")
"""Types of pandas and NumPy, beside NaN."""


def _hint_not_a_string(value: object) -> str:
    if isinstance(value, UUID):
        return "file IDs are strings: give str(id)"
    is_nan = isinstance(value, float) and value != value  # noqa: PLR0124 - what NaN is
    if value is None or is_nan or type(value).__name__ in _EMPTY_CELLS:
        return "leave rows without a file ID out"
    if not isinstance(value, Mapping):
        for name, hint in _HINTS_OF_ROWS:
            if hasattr(type(value), name):
                return hint
    if isinstance(value, tuple | list):
        return "give the file ID of each row alone: str(id) for (id,) in rows"
    if isinstance(value, Number | PurePath | Mapping):
        return "file IDs are strings: put them in quotes, or give str(id)"
    return f'give strings, or mappings such as {{"{COLUMN}": "…"}}'
