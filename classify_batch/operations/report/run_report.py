"""All that a report says of one run, gathered from its directory. Nothing in it is changed, and no lock is taken.

Every number comes from one reading of the journal, and the outcomes are read as far as that journal commits them: a run
that is on goes on meanwhile, and the numbers of the page still fit each other. Of a run with shards, so it is of each.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from classify_batch.errors import DamagedError, UsageError
from classify_batch.operations.open_run import OpenedRun, open_with_shards
from classify_batch.operations.report.event_log import EventTotals, read_event_log
from classify_batch.operations.report.journals import read_journals
from classify_batch.operations.report.next_commands import NextCommand, next_commands
from classify_batch.operations.report.outcome_totals import OutcomeTotals, ReportLine
from classify_batch.operations.report.shard_rows import ShardTable, shard_table
from classify_batch.operations.report.timeline import Timeline
from classify_batch.operations.shards.whole import read_whole
from classify_batch.operations.status import read_shards, read_status
from classify_batch.ports import RunPlace
from classify_batch.rundir.committed_outcomes import HINT, LineReader, committed_lines
from classify_batch.rundir.manifest_json import Manifest, manifest_keys
from classify_batch.rundir.opened_run import RunOnDisk
from classify_batch.rundir.run_json import RunFile
from classify_batch.rundir.shards import ShardSlice
from classify_batch.rundir.sum_of_shards import sum_of_shards
from classify_batch.settings.sections import TriageSettings
from classify_batch.store import Location, place_of
from classify_batch.streams.closing import closing
from classify_batch.vocabulary import RUN_JSON, Log, RunState

_DOLLARS_PER_CREDIT = 0.00125
"""As the vendor publishes it, for a run whose settings don't say."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """One run, as a report shows it.

    Attributes:
        run_dir: absolute.
        manifest: the keys of manifest.json as they are now.
        max_credits: the bound that the last process had; None: without one.
        credits_all_journalled: whether every credit that may have been spent is counted.
        shards: how far each of them is; None of a run without shards.
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
    credits_all_journalled: bool
    shards: ShardTable | None = None

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
    """Reads a run for its report, with all its shards if it has some. Raises as `committed_lines`, and
    RunDirectoryError where there is no run."""
    folder = folder_of(run_dir)
    before = await _read_before(place_of(run_dir))
    opened = await open_with_shards(run_dir)
    totals = OutcomeTotals(examples, _triage_of(opened.run, opened.where))
    for part, log in product(opened.parts, (Log.RESULTS, Log.FAILURES)):
        async with closing(committed_lines(part.store, part, log, LineReader(ReportLine))) as stream:
            async for _, lines in stream:
                totals.add_lines(lines)
    manifest, begun = _manifest_of(opened, before)
    price = cast("dict[str, Any]", opened.run.settings).get("price") or {}
    journals = opened.shards if opened.run.shards is not None else opened.parts
    timeline, events = Timeline(), EventTotals()
    async with closing(read_journals(journals)) as lines_of_all:
        async for entry, shard in lines_of_all:
            timeline.add_entry(entry, shard)
    for part in journals:
        await read_event_log(part.store, events, _shard_index(part))
    return RunReport(
        folder,
        opened.run,
        manifest,
        totals,
        timeline,
        events,
        next_commands(opened.run, manifest, folder),
        _number_or_none(price.get("dollars_per_credit")) or _DOLLARS_PER_CREDIT,
        _credits_bound(opened),
        all(part.snapshot.credits_all_journalled for part in journals),
        shard_table(manifest, begun),
    )


@dataclass(frozen=True, slots=True)
class _Before:
    """Who held the run before its journals were read, and how the last process ended.

    Attributes:
        statuses: what `status` says of the run, or of each of its shards; None of one that was never begun.
        whole_is_held: whether a process carries out one shard after the other.
    """

    statuses: Sequence[Manifest | None]
    whole_is_held: bool = False


async def _read_before(place: RunPlace) -> _Before:
    whole = await read_whole(place)
    if whole is None:
        return _Before([read_status(place)])
    return _Before(read_shards(place, whole.run), place.reader().holder() is not None)


def _manifest_of(opened: OpenedRun, before: _Before) -> tuple[Manifest, list[bool]]:
    """The keys of manifest.json as the journals say, and of each shard, whether it was begun."""
    if opened.run.shards is None:
        return _manifest_now(opened.parts[0], before.statuses[0] or _NO_STATUS), []
    begun = {_shard_index(shard): shard for shard in opened.shards}
    manifests = [
        None if (shard := begun.get(index)) is None else _manifest_now(shard, status or _NO_STATUS)
        for index, status in enumerate(before.statuses)
    ]
    manifest = sum_of_shards(opened.run, manifests, opened.where)
    if before.whole_is_held and manifest["state"] == RunState.INCOMPLETE:  # it is between two shards
        manifest.update({"state": RunState.RUNNING, "reason": None, "exit_status": None, "stopped_at": None})
    manifest.update({"discovered": {}, "waiting_s": None})  # of each process: they can't be added up
    return manifest, [each is not None for each in manifests]


_NO_STATUS = cast("Manifest", {"started_at": None, "stopped_at": None, "reason": None, "exit_status": None})
"""Of a shard that began only after the statuses were read."""


def _shard_index(part: RunOnDisk) -> int | None:
    return None if part.run.shard is None else part.run.shard["index"]


def _credits_bound(opened: OpenedRun) -> float | None:
    """What the last processes were bound to, all shards together; None without a bound."""
    if opened.run.shards is None:
        return _max_credits(opened.parts[0])
    begun = {_shard_index(shard): _max_credits(shard) for shard in opened.shards}
    planned = _number_or_none(opened.run.settings.get("limits", {}).get("max_credits"))
    slices = [ShardSlice(opened.parts[0].store, opened.run, "", index) for index in range(len(opened.run.shards))]
    bounds = [
        begun[each.index] if each.index in begun else None if planned is None else each.share_of_credits(planned)
        for each in slices
        if each.chunk_range["files"]
    ]
    known = [bound for bound in bounds if bound is not None]
    return round(sum(known), 4) if known and len(known) == len(bounds) else None


def _max_credits(part: RunOnDisk) -> float | None:
    return _number_or_none((part.snapshot.opened or {}).get("limits", {}).get("max_credits"))


def _manifest_now(found: RunOnDisk, before: Manifest) -> Manifest:
    snapshot = found.snapshot
    state = "running" if "holder" in before else "complete" if snapshot.complete else "incomplete"
    manifest = manifest_keys(
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


def _triage_of(run: RunFile, where: str) -> TriageSettings | None:
    triage = run.settings.get("triage")
    try:
        return None if triage is None else TriageSettings.model_validate(triage)
    except ValidationError:
        raise DamagedError(f"{RUN_JSON} in {where} is damaged: settings.triage is invalid", hint=HINT) from None


def _number_or_none(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
