"""Writes a small file for other programs: whole or not at all, where that can be."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from classify_batch.store.atomic_file import beside

Write = Callable[[Path, bytes], None]

_OF_THE_SYSTEM = tuple(map(Path, ("/dev", "/proc")))


def replace_output(path: Path, data: bytes) -> None:
    """Writes a file in place of an older one, readable by everybody. Raises OSError.

    A device, a pipe and `/dev/stdout` are written to, and never replaced: root could, and nobody would have them any
    more. A pipe that nobody reads is an error, and isn't waited for.
    """
    if _is_written_to(path):
        _write(path, data, os.O_APPEND | os.O_NONBLOCK)
        return
    temporary = beside(path)
    try:
        _write(temporary, data, os.O_CREAT | os.O_EXCL)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def overwrite_output(path: Path, data: bytes) -> None:
    """The same for a file that can't be replaced: one that is mounted, or in a folder where no other may be made."""
    _write(path, data, os.O_APPEND | os.O_NONBLOCK if _is_written_to(path) else os.O_CREAT | os.O_TRUNC)


def _is_written_to(path: Path) -> bool:
    """Whether it is there, and no plain file, or leads to one by a link of the system."""
    if not path.exists():
        return False
    return not path.is_file() or (path.is_symlink() and path.absolute().parent in _OF_THE_SYSTEM)


def _write(path: Path, data: bytes, flags: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | flags, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
