"""Objects (of JSON, of the file list, of a program) → rows: the file ID under one key, the carried under others."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from classify_batch.inputs.formats.repeated_keys import RepeatingObject
from classify_batch.inputs.ids import (
    COLUMN,
    Fault,
    OnFault,
    all_valid,
    check_file_id,
    list_columns,
    raise_fault,
    shorten,
    to_plain_string,
    to_plain_strings,
)
from classify_batch.inputs.rows import Line, rows_from_lines
from classify_batch.spelling import suggest

CARRY_HINT = "name columns that are there with --carry"
COLUMN_HINT = "name the column of the file IDs with --column"
REPEATED_HINT = "leave all but one out: nobody can tell which one is meant"
FOLDER_HINT = "give the folder itself"
SENT_HINT = f"{FOLDER_HINT}; or, with --column sent_id, the files that were sent, until they expire"
SURPLUS_HINT = 'quote a value that holds the delimiter: "…"'

_DOCUMENT_ID = re.compile("(?:sha256|unread):[0-9a-f]{64}")
"""How a run over a folder names its documents (see folder.py)."""
_OF_OUTCOMES = ("outcome", "change")
"""Keys of the outcomes of a run, and of what `diff` says of them."""

Numbered = Iterable[tuple[int, Any]]
"""Values, each with the number of its line or item."""


@dataclass(frozen=True, slots=True)
class ObjectReader:
    """Reads the file IDs of objects, and what is carried.

    Attributes:
        name: of the input, for messages.
        unit: what the numbers count: lines or items.
        bare: whether a string may stand in the place of an object: it is the file ID itself, and carries nothing.
        optional: keys that an object may leave out: they are carried as null.
    """

    name: str
    column: str = COLUMN
    carry: Sequence[str] = ()
    on_fault: OnFault = raise_fault
    unit: str = "line"
    bare: bool = False
    optional: frozenset[str] = frozenset()

    @property
    def wanted_keys(self) -> tuple[str, ...]:
        """The keys that are read."""
        return (self.column, *self.carry)

    def read_plain_ids(self, values: Sequence[Any]) -> list[str] | None:
        """The file IDs of values that all are as they should be, else None. Nothing may be carried."""
        try:
            ids = [value if type(value) is str and self.bare else value[self.column] for value in values]
        except (TypeError, KeyError, IndexError, LookupError, ValueError):
            return None
        file_ids = to_plain_strings(ids)
        return file_ids if all_valid(file_ids) and not has_documents(file_ids) else None

    def read_rows(self, values: Numbered) -> list[str]:
        """The rows of those values that are as they should be; a fault for each other one."""
        lines = self._read_lines(values)
        if self.carry:
            return rows_from_lines(lines, self.name, self.on_fault, self.unit)
        return [line.file_id for line in lines]

    def _read_lines(self, values: Numbered) -> Iterator[Line]:
        for number, value in values:
            if isinstance(value, Mapping):
                yield from self._lines_of_object(number, value)
            elif not self.bare:
                self.on_fault(self.make_fault(number, f"{shorten(value)} is not a JSON object", self._object_hint))
            elif (fault := check_file_id(self.name, number, file_id := to_plain_string(value), self.unit)) is not None:
                self.on_fault(fault)
            elif self.carry:
                what = f"{shorten(value)} is a file ID alone, and carries no {', '.join(map(shorten, self.carry))}"
                self.on_fault(self.make_fault(number, what, self._object_hint))
            else:
                yield Line(number, file_id, {})

    def _lines_of_object(self, number: int, value: Mapping[str, object]) -> Iterator[Line]:
        if (fault := self._fault_of_object(number, value)) is not None:
            self.on_fault(fault)
            return
        file_id = to_plain_string(value[self.column])
        for record in _records_of(value):
            if missing := [each for each in self.carry if each not in record and each not in self.optional]:
                self.on_fault(self._missing_column_fault(number, missing[0], record, CARRY_HINT))
                return
            yield Line(number, file_id, {each: record.get(each) for each in self.carry})
            if not self.carry:
                return

    def _fault_of_object(self, number: int, value: Mapping[str, object]) -> Fault | None:
        """Why an object gives no file ID; None where it gives one."""
        if (cells := _count_surplus(value)) > 0:
            what = f"{len(value) - 1 + cells} cells under a header of {len(value) - 1}"
            return self.make_fault(number, what, SURPLUS_HINT)
        repeated = value.repeated if isinstance(value, RepeatingObject) else ()
        if twice := [each for each in self.wanted_keys if each in repeated]:
            what = f"the key {shorten(twice[0])} comes more than once in one object"
            return self.make_fault(number, what, REPEATED_HINT)
        if self.column not in value:
            return self._missing_column_fault(number, self.column, value, COLUMN_HINT)
        file_id = to_plain_string(value[self.column])
        return self.find_fault_of_id(number, file_id, value, self.unit)

    def find_fault_of_id(self, number: int, file_id: object, keys: Container[str], unit: str) -> Fault | None:
        """Why a value is no file ID; None if it is one. `keys`: what stands beside it, by which outcomes are known."""
        if (fault := check_file_id(self.name, number, file_id, unit)) is not None:
            return fault
        if not _DOCUMENT_ID.fullmatch(str(file_id)) or not any(each in keys for each in _OF_OUTCOMES):
            return None
        what = f"{shorten(file_id)} is what a run over a folder calls a document, and no file of the project"
        return Fault(self.name, f"{unit} {number}", what, SENT_HINT if "sent_id" in keys else FOLDER_HINT)

    def make_fault(self, number: int, what: str, hint: str) -> Fault:
        """A fault of one line, or item."""
        return Fault(self.name, f"{self.unit} {number}", what, hint)

    def _missing_column_fault(self, number: int, key: str, value: Mapping[str, object], hint: str) -> Fault:
        names: list[object] = list(value)  # a table without names numbers its columns
        like = suggest(key, [each for each in names if isinstance(each, str)])
        return self.make_fault(number, f"no column {shorten(key)}; there is {list_columns(names)}{like}", hint)

    @property
    def _object_hint(self) -> str:
        return f'every {self.unit} is an object such as {{"{self.column}": "…"}}'


def has_documents(file_ids: Iterable[str]) -> bool:
    """Whether one of the file IDs may be what a run over a folder calls a document."""
    return _DOCUMENT_ID.search("".join(file_ids)) is not None


def has_text(cells: Iterable[str]) -> bool:
    """Whether not all cells are empty, as spreadsheets end their rows with."""
    return any(map(str.strip, cells))


def _count_surplus(value: Mapping[Any, object]) -> int:
    """How many cells of a row stand under no column: csv.DictReader has them under None, and the cells before them
    under other columns' names."""
    surplus = value.get(None) if isinstance(value, dict) else None
    return len(surplus) if isinstance(surplus, list) and has_text(map(str, surplus)) else 0


def _records_of(value: Mapping[str, object]) -> Sequence[Mapping[str, object]]:
    """What can be carried from an object: its keys, and in the outcomes of a run also what that run carried. A file
    that came several times in its input carries several objects."""
    carried = value.get("carried")
    if isinstance(carried, Mapping):
        return [{**carried, **value}]
    if isinstance(carried, list) and carried and all(isinstance(each, Mapping) for each in carried):
        return [{**each, **value} for each in carried]
    return [value]
