"""A directory as a place for a run.

Apart from `disk.py`, and free of heavy imports (anyio, aiofiles, filelock), which are only loaded where a store is
opened: `status` reads by `DiskReader`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from classify_batch.run_records import Holder
from classify_batch.store.holder import read_holder
from classify_batch.store.os_errors import refusals
from classify_batch.store.plain_file import open_plain_file

if TYPE_CHECKING:
    from classify_batch.ports import RunStore

_MISSING = (FileNotFoundError, NotADirectoryError)


@dataclass(frozen=True, slots=True)
class DiskPlace:
    """`ports.RunPlace` on a disk.

    Attributes:
        trusted: whether who runs the command trusts everybody who may write there (see `trust.py`).
    """

    path: Path
    trusted: bool = False

    @property
    def where(self) -> str:
        return str(self.path)

    @property
    def canonical(self) -> str:
        return str(self.path.resolve())

    @property
    def folder(self) -> Path:
        return self.path

    def open(self) -> RunStore:
        from classify_batch.store.disk import DiskStore  # noqa: PLC0415 - see the head of this file

        return DiskStore(self.path, trusted=self.trusted)

    def reader(self) -> DiskReader:
        return DiskReader(self.path)

    def is_trusted_already(self) -> bool:
        from classify_batch.store.trust import is_trusted_already  # noqa: PLC0415 - see the head of this file

        return self.trusted or is_trusted_already(self.path)

    def child(self, name: str) -> DiskPlace:
        return DiskPlace(self.path / name, self.trusted)

    def sibling(self, name: str) -> DiskPlace:
        return DiskPlace(self.path.parent / name, self.trusted)

    def inside(self) -> Sequence[DiskPlace] | None:
        if not self.path.is_dir():
            return None
        with refusals(self.path):
            return [DiskPlace(each) for each in sorted(self.path.iterdir())]


@dataclass(frozen=True, slots=True)
class DiskReader:
    """`ports.RunReader` on a directory."""

    path: Path

    @property
    def where(self) -> str:
        return str(self.path)

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes | None:
        path = self.path / name
        with refusals(path, but=_MISSING):
            try:
                with open(path, "rb", buffering=0, opener=open_plain_file) as file:
                    file.seek(start)
                    return file.readall() if end is None else file.read(max(0, end - start))
            except _MISSING:
                return None

    def size(self, name: str) -> int | None:
        path = self.path / name
        with refusals(path, but=_MISSING):
            try:
                return path.stat().st_size
            except _MISSING:
                return None

    def holder(self) -> Holder | None:
        return read_holder(self.path)
