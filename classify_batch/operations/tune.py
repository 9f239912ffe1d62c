"""Sends changed limits to the process that runs a run, through a file in the run directory."""

from __future__ import annotations

import json
import time
from os import PathLike
from pathlib import Path

from classify_batch.errors import RunDirectoryError, StoreError, WorldError
from classify_batch.operations.status import no_run_error
from classify_batch.settings.limit_changes import Tuning
from classify_batch.store.holder import read_holder
from classify_batch.vocabulary import RUN_JSON, TUNE_JSON

TIMEOUT_S = 10.0
_POLL_EVERY_S = 0.05


def tune(run_dir: str | PathLike[str], tuning: Tuning, *, timeout_s: float = TIMEOUT_S) -> None:
    """Returns when the process that runs the run has applied the limits, and written them to the journal.

    That process removes the file then; so the file's absence is its answer.

    Raises:
        RunDirectoryError: there is no run, or no process runs it.
        WorldError: another `tune` is waiting, or the process doesn't answer in time.
        StoreError: the directory can't be written.
    """
    path = Path(run_dir)
    if not (path / RUN_JSON).exists():
        raise no_run_error(path)
    holder = read_holder(path)
    if holder is None:
        raise RunDirectoryError(
            f"{path}: no process is at work on this run",
            hint="give the limits to the next start, as settings or as options of `resume`",
        )
    # One timeout for both waits: for another `tune` to finish, and for the answer.
    ends_s = time.monotonic() + timeout_s
    _link_into_place(path / TUNE_JSON, json.dumps(tuning.changes()), ends_s)
    while (path / TUNE_JSON).exists():
        if time.monotonic() > ends_s:
            (path / TUNE_JSON).unlink(missing_ok=True)  # it must not be applied after the error
            raise WorldError(
                f"process {holder.pid} on {holder.host} did not answer within {timeout_s:g} seconds",
                hint="it may be stopping, or reading its input: see `classify-batch status`, then try again",
            )
        time.sleep(_POLL_EVERY_S)


def _link_into_place(place: Path, text: str, ends_s: float) -> None:
    """Writes a file beside its place, then links it there: the reader sees it whole, and a file of another `tune` that
    is still waiting there is never replaced."""
    beside = place.with_name(f"{place.name}.{time.time_ns()}")
    try:
        beside.write_text(text, "utf-8")
        while True:
            try:
                place.hardlink_to(beside)  # unlike a rename, it fails where the name is taken
                return
            except FileExistsError:
                if time.monotonic() > ends_s:
                    raise WorldError(
                        f"{place} is there already: another `tune` is waiting for its answer",
                        hint="give the same command again; remove the file if no other command is running",
                    ) from None
            time.sleep(_POLL_EVERY_S)
    except OSError as error:
        raise StoreError(
            f"{place} can't be written: {error.strerror}", hint="check who owns the directory, and its free space"
        ) from None
    finally:
        beside.unlink(missing_ok=True)
