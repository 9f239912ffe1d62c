"""Reads how far a run is, fast enough for a dashboard that asks again and again.

This imports nothing that only a run needs, and of a big journal it reads the last lines only: they hold the sums of all
lines before them. So `status` reports what the journal says, and doesn't verify it: damage further back is found by
`verify` and by the next start, which read every line.
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

    Adds `holder` (host, pid, since) while a process holds the run's lock.

    Raises:
        RunDirectoryError: there is no run, or one of a newer version.
        DamagedError: run.json or the journal's end is not as it was written.
    """
    path = Path(run_dir)
    data = read_if_exists(path / RUN_JSON)
    if data is None:
        raise no_run_error(path)
    run = parse_run_file(data, f"{RUN_JSON} in {path}")
    holder = read_holder(path)
    manifest = read_manifest_values(path)  # read before the journal, so that the journal can't be older than it
    totals = read_journal_totals(path, run, manifest)
    complete = sum(totals.outcomes.values()) == run.files
    state = "running" if holder else "complete" if complete else "incomplete"
    now = keys.keys_of(
        run, totals, state=state, requests=totals.requests, started_at=manifest.get("started_at") if manifest else None
    )
    if manifest and not holder:
        now |= {key: manifest.get(key) for key in ("reason", "exit_status", "stopped_at")}
        if manifest.get("state") != "running":  # written when the run began; after a kill the files have changed since
            now["outputs"] = manifest.get("outputs")
    if holder:
        now["holder"] = {"host": holder.host, "pid": holder.pid, "since": holder.since}
    return now


def no_run_error(path: Path) -> RunDirectoryError:
    """The error of a directory without a run."""
    return RunDirectoryError(f"{path} holds no run", hint="name the directory of a run")


def read_journal_totals(path: Path, run: RunFile, manifest: dict[str, Any] | None) -> Totals:
    """The sums of the whole journal, read from its end; with what the run reused."""
    totals = Totals()
    if run.reused is not None:
        totals.begin_with(run.reused.counts, run.reused.types, run.reused.accepted)
    # The manifest says how far the journal was: a shorter journal is damaged.
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


def read_manifest_values(path: Path) -> dict[str, Any] | None:
    """The manifest; None where it is missing or can't be read: it only repeats what the journal says."""
    try:
        manifest = json.loads(read_if_exists(path / MANIFEST_JSON) or b"")
    except ValueError:
        return None
    return manifest if isinstance(manifest, dict) else None


def read_if_exists(path: Path) -> bytes | None:
    """A file's bytes; None where there is no such file."""
    with refusals(path, but=(FileNotFoundError, NotADirectoryError)):
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
