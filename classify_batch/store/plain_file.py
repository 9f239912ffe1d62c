"""Opens a run's files to read: by whoever reads them, and only plain files.

A pipe would be waited for, and a device may be read without end, into memory. Both are found on the open file, since
what has a name may be exchanged between a look and the opening. Free of heavy imports: `status` comes by here.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from classify_batch.store.os_errors import not_plain_error


def open_plain_file(path: str, flags: int) -> int:
    """An `opener` for `open`, of files that are read. Raises RunDirectoryError for what is no plain file."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)  # else opening a pipe waits for its other end
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise not_plain_error(Path(path))
    return descriptor


def is_same_file(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether two looks were at the same file. Where a file system numbers a file anew at each look, its size tells,
    and when it and its entry were written: a copy that was given the file's own time has an entry of its own.
    """
    return os.path.samestat(one, other) or _signs_of(one) == _signs_of(other)


def has_lost_name(ours: os.stat_result, named: os.stat_result) -> bool:
    """Whether an open file is not the one that has its name by now. Some file systems count no links at all."""
    return bool(named.st_nlink and not ours.st_nlink) or not is_same_file(ours, named)


def _signs_of(look: os.stat_result) -> tuple[int, int, int]:
    return look.st_size, look.st_mtime_ns, look.st_ctime_ns
