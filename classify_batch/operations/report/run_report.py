"""All that a report says of one run, gathered from its directory. Nothing in it is changed, and no lock is taken.

Every number comes from one reading of the journal, and the outcomes are read as far as that journal commits them: a run
that is on goes on meanwhile, and the numbers of the page still fit each other.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from classify_batch.errors import DamagedError, UsageError
from classify_batch.operations.open_run import open_run
from classify_batch.operations.report.event_log import EventTotals, read_event_log
from classify_batch.operations.report.next_commands import NextCommand, next_commands
from classify_batch.operations.report.outcome_totals import OutcomeTotals, ReportLine
from classify_batch.operations.report.timeline import Timeline
from classify_batch.operations.status import read_status
from classify_batch.ports import RunStore
from classify_batch.rundir.committed_outcomes import HINT, LineReader, committed_lines
from classify_batch.rundir.journal.reader import Reader
from classify_batch.rundir.manifest_json import Manifest, keys_of
from classify_batch.rundir.opened_run import RunOnDisk
from classify_batch.rundir.run_json import RunFile
from classify_batch.settings.sections import TriageSettings
from classify_batch.store import Location, place_of
from classify_batch.streams.closing import closing
from classify_batch.vocabulary import RUN_JSON, Log

_DOLLARS_PER_CREDIT = 0.00125
"""As the vendor publishes it, for a run whose settings don't say."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """One run, as a report shows it.

    Attributes:
        run_dir: absolute.
        manifest: the keys of manifest.json as they are now.
        max_credits: the bound that the last process had; None: without one.
        bound_holds: whether every credit that may have been spent is counted.
    """

    run_dir: Path
    run: RunFile
    manifest: Manifest
    outcomes: OutcomeTotals
    timeline: Timeline
    events: EventTotals
    commands: list[NextCommand]
    dollars_per_credit: float
    max_credits: float | None
    bound_holds: bool

    @property
    def done(self) -> int:
        """Files with an outcome."""
        return sum(self.manifest["counts"].values())

    @property
    def files_per_minute(self) -> float | None:
        """Of the files that were not reused, over the time in which processes were at work; None where unknown."""
        seconds = self.timeline.working_s()
        return 60 * sum(bucket.files for bucket in self.timeline.buckets) / seconds if seconds > 0 else None


def folder_of(location: Location) -> Path:
    """The absolute path of a run directory. Raises UsageError for a run that is not in a folder."""
    folder = place_of(location).folder
    if folder is None:
        raise UsageError("a report needs a run directory on a disk", hint="copy the run into a folder first")
    return Path(os.path.abspath(folder))  # noqa: PTH100 - a link in the path stays, as the user named it


async def gather_report(run_dir: Location, *, examples: bool = True) -> RunReport:
    """Reads a run for its report. Raises as `committed_lines`, and RunDirectoryError where there is no run."""
    folder = folder_of(run_dir)
    before = read_status(run_dir)  # who holds the run, and how the last process ended
    store, found = await open_run(run_dir)
    totals = OutcomeTotals(examples, _triage_of(found.run, store.where))
    for log in (Log.RESULTS, Log.FAILURES):
        async with closing(committed_lines(store, found, log, LineReader(ReportLine))) as stream:
            async for _, lines in stream:
                totals.add(lines)
    manifest = _manifest_now(found, before)
    limits = (found.snapshot.opened or {}).get("limits", {})
    price = cast("dict[str, Any]", found.run.settings).get("price") or {}
    return RunReport(
        folder,
        found.run,
        manifest,
        totals,
        await _read_timeline(store, found),
        await read_event_log(store),
        next_commands(found.run, manifest, folder),
        _number(price.get("dollars_per_credit")) or _DOLLARS_PER_CREDIT,
        _number(limits.get("max_credits")),
        found.snapshot.bound_holds,
    )


def _manifest_now(found: RunOnDisk, before: Manifest) -> Manifest:
    snapshot = found.snapshot
    state = "running" if "holder" in before else "complete" if snapshot.complete else "incomplete"
    manifest = keys_of(
        found.run,
        snapshot,
        state=state,
        requests=snapshot.requests,
        started_at=before["started_at"],
        stopped_at=before["stopped_at"],
        reason=before["reason"],
        exit_status=before["exit_status"],
    )
    manifest["waiting_s"] = before.get("waiting_s")
    if "holder" in before:
        manifest["holder"] = before["holder"]
    if "cancel" in before:
        manifest["cancel"] = before["cancel"]
    if "config" in before:
        manifest["config"] = before["config"]
    if before.get("trusted"):
        manifest["trusted"] = True
    return manifest


async def _read_timeline(store: RunStore, found: RunOnDisk) -> Timeline:
    """Reads the journal once more, as far as it was read before."""
    timeline, reader = Timeline(), Reader(f"{Log.JOURNAL} in {store.where}")
    if found.journal_end:
        async with closing(store.stream(Log.JOURNAL, 0, found.journal_end)) as blocks:
            async for block in blocks:
                for entry, _ in reader.feed(block):
                    timeline.add(entry)
    return timeline


def _triage_of(run: RunFile, where: str) -> TriageSettings | None:
    triage = run.settings.get("triage")
    try:
        return None if triage is None else TriageSettings.model_validate(triage)
    except ValidationError:
        raise DamagedError(f"{RUN_JSON} in {where} is damaged: settings.triage is invalid", hint=HINT) from None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
