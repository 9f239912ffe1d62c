"""Copies of files as `cp -a` makes them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def copy_with_times(path: Path, copy: Path) -> None:
    """Copies a file with its size and times. Only the entry is a younger one, which no program can choose."""
    shutil.copy2(path, copy)
    while copy.stat().st_ctime_ns == path.stat().st_ctime_ns:  # the kernel's clock ticks a few hundred times a second
        os.utime(copy, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
