"""Compares two run directories. Nothing in them is changed, and the runs may be running."""

from __future__ import annotations

import os
from collections.abc import Callable
from os import PathLike
from pathlib import Path

from classify_batch.operations.diff.changes import Change, Diff, compare_runs
from classify_batch.operations.open_run import open_run


async def diff_runs(
    before: str | PathLike[str],
    after: str | PathLike[str],
    *,
    min_confidence_change: float = 0.1,
    only: Change | None = None,
    sink: Callable[[bytes], object] | None = None,
) -> Diff:
    """What changed from the run in `before` to the one in `after`; see `operations.diff.changes`.

    Calls `sink` with the lines (JSONL) of the files with the change `only`, some at a time.

    Raises:
        RunDirectoryError: one of the directories holds no run, or one of a newer version.
        DamagedError: what was committed is not there as it was written.
        WorldError: `retry_failed` reopened a run while it was read, or temporary files can't be written.
    """
    directories = [Path(before), Path(after)]
    first, second = [await open_run(path) for path in directories]
    writable = (path for path in reversed(directories) if os.access(path, os.W_OK))
    return await compare_runs(
        first,
        second,
        min_confidence_change=min_confidence_change,
        only=only,
        sink=sink,
        directory=next(writable, None),  # the system's temporary directory may be in memory
    )
