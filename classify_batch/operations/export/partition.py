"""Partitions of a table that is a directory, as Hive, Spark, DuckDB, polars and pyarrow read it: `dt=2026-11-22/`.

The file in it has the name of the run (and of the selection): exporting the run again replaces it, and the files of
other runs stay.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from classify_batch.arguments import path_text, refuse_no_iterable, refuse_no_text
from classify_batch.errors import UsageError
from classify_batch.object_store.url import is_object_url, parse_object_url, refuse_other_url
from classify_batch.operations.export.selection import Only
from classify_batch.operations.export.target import FileTarget, ObjectTarget, Target

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_VALUE = re.compile(r"[A-Za-z0-9_.+-]{1,200}")
"""What every reader takes as it is: others are written with escapes, which readers undo differently."""

_HINT = "give it as KEY=VALUE, such as dt=2026-11-22; a value has letters, digits and - _ . +"


class Partition(NamedTuple):
    """One level of directories."""

    key: str
    value: str

    @property
    def directory(self) -> str:
        return f"{self.key}={self.value}"


def parse_partitions(texts: Sequence[str]) -> list[Partition]:
    """The levels of a partition, from the outermost on. Raises UsageError."""
    partitions: list[Partition] = []
    levels = [texts] if isinstance(texts, str) else texts
    refuse_no_iterable("partition", levels, _HINT)
    for text in levels:
        if text is None:
            raise UsageError("partition=None is no string", hint=_HINT)
        refuse_no_text("partition", text)
        key, _, value = text.partition("=")
        if not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
            raise UsageError(f"{text!r} can't be a partition", hint=_HINT)
        if key in (each.key for each in partitions):
            raise UsageError(f"the partition key {key!r} is given twice", hint="give each key once")
        partitions.append(Partition(key, value))
    return partitions


def refuse_columns(partitions: Sequence[Partition], columns: Sequence[str]) -> None:
    """Raises UsageError where a key is a column of the table, too: readers take either, or fail."""
    names = {name.casefold() for name in columns}
    if taken := [each.key for each in partitions if each.key.casefold() in names]:
        raise UsageError(
            f"the partition key {taken[0]!r} is a column of the table", hint="give the key another name, such as dt"
        )


def directory_of(partitions: Sequence[Partition]) -> str:
    """The directory of a partition in that of the table."""
    return "/".join(each.directory for each in partitions)


def target_in_partition(table: str | PathLike[str], partitions: Sequence[Partition], name: str) -> Target:
    """The file of a partition, or its object. Raises UsageError where it can't be one."""
    text = path_text(table, "the target")
    refuse_other_url(text)
    if is_object_url(text):
        return ObjectTarget(parse_object_url(text, folder=True).inside(f"{directory_of(partitions)}/{name}"))
    return FileTarget(make_partition(Path(text), partitions) / name)


def make_partition(table: Path, partitions: Sequence[Partition]) -> Path:
    """Creates the directory of a partition; that of the table, too, if only it is missing. Raises UsageError."""
    directory = table / directory_of(partitions)
    try:
        if not table.parent.is_dir():
            raise UsageError(f"there is no directory {table.parent}", hint="create it first, or name another target")
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{directory}: {error.strerror or error}", hint="name a directory as the target") from None
    return directory


def file_name(run_id: str, only: Only | None) -> str:
    """The name of the file in a partition."""
    return f"{run_id}.parquet" if only is None else f"{run_id}.{only.value}.parquet"
