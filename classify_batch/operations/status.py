"""How a run stands, read from its directory in the blink that a person, or a dashboard, gives it.

Nothing here loads what a run needs, and of a big journal only the last lines are read: they tell the sums of all lines
before them. So `status` tells what the journal says, and doesn't prove it: damage further back is found by `verify`
and by the next start, which read every line.
"""

from __future__ import annotations

import json
import os
from os import PathLike
from pathlib import Path
from typing import Any

from classify_batch.errors import RunDirectoryError
from classify_batch.rundir import manifest_json as keys
from classify_batch.rundir.journal.totals import Totals, read_totals
from classify_batch.rundir.run_json import RunFile, parse_run_file
from classify_batch.store.holder import read_holder
from classify_batch.store.os_errors import refusals
from classify_batch.vocabulary import MANIFEST_JSON, RUN_JSON, Log


def read_status(run_dir: str | PathLike[str]) -> dict[str, Any]:
    """The keys of manifest.json as they stand now, read from the directory only; safe while a run is on.

    Adds `holder` (host, pid, since) while a process holds the run.

    Raises:
        RunDirectoryError: there is no run, or one of a newer version.
        DamagedError: run.json or the journal's end is not as it was written.
    """
    path = Path(run_dir)
    data = _read(path / RUN_JSON)
    if data is None:
        raise no_run(path)
    run = parse_run_file(data, f"{RUN_JSON} in {path}")
    holder = read_holder(path)
    manifest = _manifest(path)  # before the journal, which then can't be behind it
    totals = _totals(path, run, manifest)
    complete = sum(totals.outcomes.values()) == run.files
    state = "running" if holder else "complete" if complete else "incomplete"
    now = keys.keys_of(
        run, totals, state=state, requests=totals.requests, started_at=manifest.get("started_at") if manifest else None
    )
    if manifest and not holder:
        now |= {key: manifest.get(key) for key in ("reason", "exit_status", "stopped_at")}
        if manifest.get("state") != "running":  # after a kill the files are no longer what they were at its start
            now["outputs"] = manifest.get("outputs")
    if holder:
        now["holder"] = {"host": holder.host, "pid": holder.pid, "since": holder.since}
    return now


def no_run(path: Path) -> RunDirectoryError:
    """What is said of a directory without a run."""
    return RunDirectoryError(f"{path} holds no run", hint="name the directory of a run")


def _totals(path: Path, run: RunFile, manifest: dict[str, Any] | None) -> Totals:
    totals = Totals()
    if run.reused is not None:
        totals.begin_with(run.reused.counts, run.reused.types, run.reused.accepted)
    known = manifest.get("journal_seq") if manifest else None
    try:
        with refusals(path / Log.JOURNAL, but=FileNotFoundError), (path / Log.JOURNAL).open("rb", buffering=0) as file:
            descriptor = file.fileno()
            return read_totals(
                lambda start, end: os.pread(descriptor, end - start, start),
                os.fstat(descriptor).st_size,
                f"{Log.JOURNAL} in {path}",
                known if isinstance(known, int) else 0,
                totals,
            )
    except FileNotFoundError:
        return totals


def _manifest(path: Path) -> dict[str, Any] | None:
    """The manifest; None where there is none, or none that can be read (it only repeats what the journal says)."""
    try:
        manifest = json.loads(_read(path / MANIFEST_JSON) or b"")
    except ValueError:
        return None
    return manifest if isinstance(manifest, dict) else None


def _read(path: Path) -> bytes | None:
    with refusals(path, but=(FileNotFoundError, NotADirectoryError)):
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
