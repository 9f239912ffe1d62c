"""How an input is read: what the caller says of it, what its content says, and what a run was planned with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import PurePath
from typing import NamedTuple, Self

from classify_batch.arguments import refuse_no_text
from classify_batch.errors import UsageError
from classify_batch.inputs.ids import COLUMN, to_plain_string

AUTO, TSV = "auto", "tsv"
_DELIMITERS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
"""Delimiters by name: a shell makes it hard to give a tab."""


class Format(StrEnum):
    """The formats of what holds file IDs: texts, and tables that are none."""

    LINES = "lines"
    CSV = "csv"
    JSONL = "jsonl"
    JSON = "json"
    PARQUET = "parquet"
    ARROW = "arrow"


FORMATS = (AUTO, Format.LINES, Format.CSV, TSV, Format.JSONL, Format.JSON, Format.PARQUET, Format.ARROW)
TABLES = (Format.PARQUET, Format.ARROW)
"""What `--format` takes; `tsv` is `csv` with tabs."""

TABLE_SUFFIXES = {".parquet": Format.PARQUET, ".arrow": Format.ARROW, ".feather": Format.ARROW}
_BY_SUFFIX = {".csv": Format.CSV, ".jsonl": Format.JSONL, ".ndjson": Format.JSONL}


@dataclass(frozen=True, slots=True)
class Reading:
    """How one input is read.

    Attributes:
        format: None: its content says.
        delimiter: what stands between the columns of a table; None: its header says.
        column: of the file IDs; None: "file_id".
        strict: of tables, and of lines that nobody called lines: quotes around a value are taken off, and what looks
            like something else (a row of a table, JSON, a spreadsheet's formula) is an error. None: not decided yet.
    """

    format: Format | None = None
    delimiter: str | None = None
    column: str | None = None
    strict: bool | None = None

    @property
    def id_column(self) -> str:
        """The column, or key, that holds the file IDs."""
        return COLUMN if self.column is None else self.column

    def filled_from(self, other: Reading) -> Reading:
        """This reading, and what it doesn't say from another one."""
        if self.format is not None and self.format is not other.format:
            return replace(self, column=self.column if self.column is not None else other.column)
        pairs = ((getattr(self, name), getattr(other, name)) for name in ("format", "delimiter", "column"))
        given, delimiter, column = (theirs if ours is None else ours for ours, theirs in pairs)
        return Reading(given, delimiter, column, None if self.format is Format.LINES else other.strict)

    def to_stored(self) -> dict[str, object]:
        """What run.json keeps of it."""
        given = {"format": self.format, "delimiter": self.delimiter, "column": self.column}
        stored: dict[str, object] = {name: str(value) for name, value in given.items() if value is not None}
        return stored | ({"strict": True} if self.strict else {})

    @classmethod
    def from_stored(cls, stored: Mapping[str, object]) -> Self:
        """Reads what run.json keeps; what a newer version may have added, or written otherwise, is left out."""
        known = {name: value for name in ("delimiter", "column") if isinstance(value := stored.get(name), str)}
        written = stored.get("format")
        read_as = Format(str(written)) if written in list(Format) else None
        return cls(read_as, **known, strict=stored.get("strict") is True)


def parse_reading(input_format: str | None, delimiter: str | None, column: str | None) -> Reading:
    """What a caller says of an input. Raises UsageError for what no input can be."""
    for name, given in (("input_format", input_format), ("delimiter", delimiter), ("column", column)):
        refuse_no_text(name, given)
    column, delimiter = to_plain_string(column), to_plain_string(delimiter)
    if input_format is not None and input_format not in FORMATS:
        raise UsageError(f"{input_format!r} is no format", hint=f"the formats are {', '.join(FORMATS)}")
    if column == "":
        raise UsageError("the name of the column is empty", hint="is a variable not set?")
    if column is not None and input_format == Format.LINES:
        raise UsageError("lines have no columns", hint="leave --column out, or give another --format")
    is_tsv = input_format == TSV
    named = None if input_format in (None, AUTO) else Format.CSV if is_tsv else Format(input_format)
    if delimiter is None:
        return Reading(named, "\t" if is_tsv else None, column)
    character = _DELIMITERS.get(delimiter, delimiter)
    if len(character) != 1 or character in '"\r\n' or (is_tsv and character != "\t"):
        raise UsageError(f"{delimiter!r} can't be the delimiter", hint="give one character, or tab")
    if named not in (None, Format.CSV):
        raise UsageError(f"the format {named} has no delimiter", hint="leave --delimiter out, or give --format csv")
    return Reading(Format.CSV, character, column)


class NamedReading(NamedTuple):
    """How the input of this name was read.

    Attributes:
        path: where a file is, from the root; None: it is no file.
    """

    name: str
    reading: Reading
    path: str | None = None

    def to_stored(self) -> dict[str, object]:
        """An item of `inputs` in run.json."""
        stored = {"source": self.name, **self.reading.to_stored()}
        if self.path is None or self.path == self.name or not self.path.isprintable():  # bytes that are no text
            return stored
        return stored | {"path": self.path}


OnReading = Callable[[NamedReading], object]
"""Hears how each input is read, as soon as that is known."""


def _real_path(path: str) -> str | None:
    """Which file it is, under whatever name; None for what can be none, or where the working directory is gone."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return None


class PlannedReadings:
    """How the inputs of a run were read when it was planned: they are read so again.

    Args:
        stored: `inputs` of run.json; None: a version planned the run that read by suffix only, and kept nothing.
    """

    def __init__(self, stored: Iterable[Mapping[str, object]] | None) -> None:
        self._by_suffix = stored is None
        self._readings: dict[str, Reading] = {}
        self._by_path: dict[str, Reading] = {}
        for each in stored or ():
            source, reading = str(each.get("source")), Reading.from_stored(each)
            self._readings[source] = reading
            # An older run kept the name alone, as it was given: it counts from the working directory.
            if (path := _real_path(str(each.get("path", source)))) is not None:
                self._by_path[path] = reading

    def reading_of(self, name: str, asked: Reading, path: str | None = None) -> Reading:
        """How an input is read: as the caller says, and otherwise as it was read before.

        `path`: of a file, from the root: it is the same file under whatever name.
        """
        if not self._by_suffix:
            known = self._readings.get(name)
            if known is None and path is not None:
                known = self._by_path.get(_real_path(path) or "")
            return asked.filled_from(known or Reading())
        planned = _BY_SUFFIX.get(PurePath(name).suffix.lower(), Format.LINES)
        return asked.filled_from(Reading(planned, "," if planned is Format.CSV else None, strict=False))
