"""Tells the process that holds a run other limits."""

from __future__ import annotations

import json
import time
from os import PathLike
from pathlib import Path

from classify_batch.errors import RunDirectoryError, StoreError, WorldError
from classify_batch.operations.status import no_run
from classify_batch.settings.limit_changes import Tuning
from classify_batch.store.holder import read_holder
from classify_batch.vocabulary import RUN_JSON, TUNE_JSON

PATIENCE_S = 10.0
_LOOK_EVERY_S = 0.05


def tune(run_dir: str | PathLike[str], tuning: Tuning, *, patience_s: float = PATIENCE_S) -> None:
    """Returns when the process that holds the run has obeyed, and written it down.

    Raises:
        RunDirectoryError: there is no run, or nobody holds it.
        WorldError: somebody else is telling it something, or it doesn't hear.
        StoreError: the directory can't be written.
    """
    path = Path(run_dir)
    if not (path / RUN_JSON).exists():
        raise no_run(path)
    holder = read_holder(path)
    if holder is None:
        raise RunDirectoryError(
            f"{path}: no process is at work on this run",
            hint="limits for the next start are given to it: as settings, or as options of `resume`",
        )
    ends_s = time.monotonic() + patience_s
    _put(path / TUNE_JSON, json.dumps(tuning.told()), ends_s)
    while (path / TUNE_JSON).exists():
        if time.monotonic() > ends_s:
            (path / TUNE_JSON).unlink(missing_ok=True)
            raise WorldError(
                f"process {holder.pid} on {holder.host} did not hear within {patience_s:g} seconds",
                hint="is it stopping, or busy with its input? `classify-batch status` tells; then the same command",
            )
        time.sleep(_LOOK_EVERY_S)


def _put(place: Path, text: str, ends_s: float) -> None:
    """Writes the file beside its place and links it there: what is read is whole, and nobody's words are lost."""
    beside = place.with_name(f"{place.name}.{time.time_ns()}")
    try:
        beside.write_text(text, "utf-8")
        while True:
            try:
                place.hardlink_to(beside)
                return
            except FileExistsError:
                if time.monotonic() > ends_s:
                    raise WorldError(
                        f"{place} is there already: somebody else is telling the run something",
                        hint="the same command again; take the file away if nobody is",
                    ) from None
            time.sleep(_LOOK_EVERY_S)
    except OSError as error:
        raise StoreError(f"{place} can't be written: {error.strerror}", hint="whose directory is it?") from None
    finally:
        beside.unlink(missing_ok=True)
