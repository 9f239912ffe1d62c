"""Where an export, or a report, is written: a file or an object in a store. It never replaces a file of a run."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Protocol

from classify_batch.arguments import path_text
from classify_batch.errors import UsageError
from classify_batch.object_store.connect import connect_to_bucket
from classify_batch.object_store.url import ObjectUrl, is_object_url, parse_object_url, refuse_other_url
from classify_batch.object_store.write import write_object
from classify_batch.operations.own_files import is_file_of_run
from classify_batch.store.atomic_file import replace_file

JSONL, CSV, PARQUET, ARROW, FEATHER = SUFFIXES = (".jsonl", ".csv", ".parquet", ".arrow", ".feather")
"""The suffixes of a target, which decide its format; Feather is another name for an Arrow file."""
TEXT_SUFFIXES = (JSONL, CSV)


class Target(Protocol):
    """Something that is written whole or not at all."""

    @property
    def name(self) -> Path | str:
        """The path, or the URL."""

    @property
    def suffix(self) -> str:
        """What its name ends with, in lower case."""

    def refuse_if_bad(self) -> None:
        """Raises UsageError where nothing can be written, or where it would replace a file of a run."""

    async def write(self, blocks: AsyncIterator[bytes]) -> None:
        """Writes it whole, in place of an older one."""


@dataclass(frozen=True, slots=True)
class FileTarget:
    """A file. It is written where its name led when it was named: programs may change the working directory."""

    name: Path
    path: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", self.name.absolute())

    @property
    def suffix(self) -> str:
        return self.name.suffix.lower()

    def refuse_if_bad(self) -> None:
        refuse_bad_target(self.name)

    async def write(self, blocks: AsyncIterator[bytes]) -> None:
        await replace_file(self.path, blocks)


@dataclass(frozen=True, slots=True)
class ObjectTarget:
    """An object in a store."""

    url: ObjectUrl

    @property
    def name(self) -> str:
        return str(self.url)

    @property
    def suffix(self) -> str:
        return self.url.suffix

    def refuse_if_bad(self) -> None:
        connect_to_bucket(self.url, reading=False)  # says at once what is missing

    async def write(self, blocks: AsyncIterator[bytes]) -> None:
        await write_object(self.url, blocks)


def target_of(place: str | PathLike[str]) -> Target:
    """What a path or a URL names. Raises UsageError for the empty path, and for a URL that names no object."""
    text = path_text(place, "the target")
    refuse_other_url(text)
    return ObjectTarget(parse_object_url(text)) if is_object_url(text) else FileTarget(Path(text))


def export_suffix(target: Target) -> str:
    """The suffix of a target. Raises UsageError for one that is no format."""
    suffix = target.suffix
    if suffix not in SUFFIXES:
        raise UsageError(
            f"{target.name}: an export is written as JSONL, CSV, Parquet or Arrow, by the suffix of its name",
            hint=f"name a file that ends with {', '.join(SUFFIXES[:3])} or {ARROW}, or `-` for JSONL on stdout",
        )
    return suffix


def refuse_bad_target(target: Path) -> None:
    """Raises UsageError where no file can be written, or where the export would replace a file of any run."""
    try:
        if target.exists() and not target.is_file():
            raise UsageError(f"{target} is not a file", hint="name a file; it is replaced if it is there")
        if not target.parent.is_dir():
            raise UsageError(f"there is no directory {target.parent}", hint="create it first, or name another target")
        if not os.access(target.parent, os.W_OK):
            raise UsageError(
                f"{target} can't be written: {target.parent} is read-only, or not this user's",
                hint="name another target, or make the directory writable",
            )
        if is_file_of_run(target):
            raise UsageError(f"{target} is a file of the run itself", hint="name another target")
    except OSError as error:  # the name is too long, or the directory may not be read
        raise UsageError(f"{target}: {error.strerror or error}", hint="name another target") from None
