"""Finds earlier runs, and selects those whose outcomes a new run may reuse."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from os import PathLike
from pathlib import PurePosixPath
from typing import TypeAlias

from classify_batch.arguments import path_text, refuse_no_iterable
from classify_batch.clock import from_iso
from classify_batch.errors import UsageError
from classify_batch.operations.open_run import open_with_shards
from classify_batch.operations.reuse.earlier_outcomes import EarlierRun
from classify_batch.ports import RunPlace
from classify_batch.run_records import RunIdentity
from classify_batch.rundir.identity import differing_for_answers
from classify_batch.rundir.opened_run import RunOnDisk
from classify_batch.rundir.run_json import read_run_file
from classify_batch.shell_words import command_of
from classify_batch.store import Location, open_store, place_of
from classify_batch.vocabulary import RUN_JSON

Reuse: TypeAlias = "Location | Iterable[Location]"
"""Run directories, and folders of run directories."""

log = logging.getLogger("classify_batch")


def refuse_no_runs(reuse: object) -> None:
    """Raises UsageError for what names no runs. What can be read once, a generator, is left for who reads it."""
    if isinstance(reuse, str | PathLike) or hasattr(reuse, "reader"):
        reuse = [reuse]
    refuse_no_iterable("reuse", reuse, "a run directory, or a list of them; for none, leave it out")
    if isinstance(reuse, Collection):
        for each in reuse:
            if not hasattr(each, "reader"):
                path_text(each, "reuse")


async def find_earlier_runs(reuse: Reuse, new_run: Location, identity: RunIdentity) -> list[EarlierRun]:
    """The runs whose outcomes a run of this identity may reuse, the newest first. Logs a warning for each other
    run, and for those that have jobs in flight.

    Raises:
        UsageError: a directory is neither a run nor a folder of runs.
        DamagedError: a run's run.json or journal is not there as it was written.
    """
    found: list[EarlierRun] = []
    for place in find_run_places(reuse, place_of(new_run)):
        store = open_store(place)
        run_file = await read_run_file(store, takes_shards=True)
        if run_file is not None and (differing := differing_for_answers(identity, run_file[0].identity)):
            names = ", ".join(part.name for part in differing)
            log.warning("%s is not reused: it differs in %s", place.where, names)
        elif run_file is not None:
            parts = (await open_with_shards(place)).parts
            _warn_of_open_jobs(place, parts)
            found += [EarlierRun(part.store, part) for part in parts]
    return sorted(found, key=lambda earlier: from_iso(earlier.run.run.created_at) or 0.0, reverse=True)


def _warn_of_open_jobs(place: RunPlace, parts: Sequence[RunOnDisk]) -> None:
    """A file that has no answer yet is sent, whatever the earlier run has out for it: only that run knows its job."""
    snapshots = [part.snapshot for part in parts]
    jobs = sum(len(each.open_attempts) for each in snapshots)
    if jobs or any(each.pending_retries for each in snapshots):
        log.warning(
            "%s has %s in flight, whose answers it hasn't collected: those of its files that are in this input are "
            "sent, and paid, once more. To pay once, end this, and let it go on first: `%s`",
            place.where,
            "one job" if jobs == 1 else f"{jobs:,} jobs" if jobs else "some jobs",
            command_of("resume", place.where),
        )


def find_run_places(reuse: Reuse, new_run: RunPlace) -> list[RunPlace]:
    """Each given run directory once, without that of the new run."""
    given = list(reuse) if isinstance(reuse, Iterable) and not isinstance(reuse, str) else [reuse]
    found: dict[str, RunPlace] = {}
    for place in map(place_of, given):
        for each in runs_in_folder(place, new_run):
            found.setdefault(each.canonical, each)  # links to one run count once, as it was named first
    found.pop(new_run.canonical, None)
    return list(found.values())


def runs_in_folder(place: RunPlace, new_run: RunPlace) -> list[RunPlace]:
    """The run directories that a place means: itself, or all in it."""
    if holds_run(place):
        return [place]
    inside = place.inside()
    if inside is None:
        raise no_runs_error(place)
    runs = [each for each in inside if holds_run(each)]
    if not runs and PurePosixPath(new_run.canonical).parent != PurePosixPath(place.canonical):
        raise no_runs_error(place)  # but the folder of the new run may be empty: it is the first
    return runs


def holds_run(place: RunPlace) -> bool:
    return place.reader().size(RUN_JSON) is not None


def no_runs_error(place: RunPlace) -> UsageError:
    return UsageError(
        f"{place.where} is neither a run directory nor a folder of run directories",
        hint="name a run directory, or a folder that holds some",
    )
