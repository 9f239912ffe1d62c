"""Which processes of this machine live, as the kernel says."""

from __future__ import annotations

import os
from pathlib import Path

_ENDED = frozenset("ZX")


def is_alive(pid: int) -> bool:
    """Whether there is a process of this number that can still do anything.

    One that has ended and was not asked for by its parent has its number for as long as that takes (a container whose
    first process asks for nobody's end keeps all of them): it is dead, once its last thread is.
    """
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return not _has_ended(pid)  # somebody else's
    return pid > 0 and not _has_ended(pid)


def start_of(pid: int) -> str:
    """When a process began, in ticks since the machine started; empty where there is none that lives, or nothing
    tells."""
    fields = _read_stat(pid)
    return fields[19] if len(fields) > 19 and not _has_ended(pid) else ""


def _has_ended(pid: int) -> bool:
    """Whether nothing of a process is left but its number. False where that is unknown."""
    fields = _read_stat(pid)
    if not fields or fields[0] not in _ENDED:
        return False
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir()) <= 1
    except OSError:  # its parent has just asked for it
        return True


def _read_stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on; none where there is no such file."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return []
