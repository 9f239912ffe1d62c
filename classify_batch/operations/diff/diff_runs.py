"""Compares two run directories, with all their shards. Nothing in them is changed, and the runs may be running."""

from __future__ import annotations

from collections.abc import Callable

from classify_batch.operations.diff.changes import Change, Diff, compare_runs
from classify_batch.operations.open_run import open_with_shards
from classify_batch.operations.temporary_files import folder_for_temporary_files
from classify_batch.store import Location, place_of


async def diff_runs(
    before: Location,
    after: Location,
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
        WorldError: a process is just planning a run, or `retry_failed` reopened it meanwhile; or
            temporary files can't be written.
    """
    places = [place_of(before), place_of(after)]
    first, second = [await open_with_shards(place) for place in places]
    return await compare_runs(
        first,
        second,
        min_confidence_change=min_confidence_change,
        only=only,
        sink=sink,
        directory=folder_for_temporary_files(reversed(places)),
    )
