"""Reads how far a run is, fast enough for a dashboard that asks again and again.

This imports nothing that only a run needs, and of a big journal it reads the last lines only: they hold the sums of all
lines before them. So `status` reports what the journal says, and doesn't verify it: damage further back is found by
`verify` and by the next start, which read every line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from classify_batch.clock import SystemClock, from_iso
from classify_batch.errors import RunDirectoryError, WorldError
from classify_batch.rundir.failure_messages import READ_BYTES_MAX
from classify_batch.rundir.journal.starts import PAUSED
from classify_batch.rundir.journal.totals import Totals, read_totals
from classify_batch.rundir.manifest_json import Manifest, add_failure_messages, manifest_keys, parse_manifest
from classify_batch.rundir.next_step import KILLED_HINT, OLDER_MANIFEST_HINT, add_next_step, next_command
from classify_batch.rundir.run_json import RunFile, parse_run_file, shard_place
from classify_batch.rundir.sum_of_shards import sum_of_shards
from classify_batch.store import Location, needs_trust, open_reader, place_of
from classify_batch.vocabulary import MANIFEST_JSON, RUN_JSON, Log, OutcomeKind, RunState

if TYPE_CHECKING:
    from classify_batch.ports import Clock, RunPlace, RunReader
    from classify_batch.run_records import Holder


def read_status(run_dir: Location, clock: Clock | None = None) -> Manifest:
    """The keys of manifest.json as they stand now, read from the directory only; safe while a run is on.

    Adds `holder` (host, pid, since) and `time_left_s` while a process holds the run's lock. `clock`: None takes the
    machine's.

    Raises:
        RunDirectoryError: there is no run, or one of a newer version.
        WorldError: a process is just planning it.
        DamagedError: run.json or the journal's end is not as it was written.
    """
    reader = open_reader(run_dir)
    data = reader.read(RUN_JSON)
    if data is None:
        raise no_run_error(reader.where, reader.holder())
    run = parse_run_file(data, f"{RUN_JSON} in {reader.where}", takes_shards=True)
    if run.shards is not None:
        return _read_status_of_all(place_of(run_dir), run, reader.holder(), clock)
    holder = reader.holder()
    # Read before the journal, so that the journal can't be older than it.
    manifest = _read_own_manifest(reader, run)
    totals = read_journal_totals(reader, run, manifest)
    complete = sum(totals.outcomes.values()) == run.files
    state = "running" if holder else "complete" if complete else "incomplete"
    started_at = manifest["started_at"] if manifest else None
    now = manifest_keys(run, totals, state=state, requests=totals.requests, started_at=started_at)
    if manifest and "cancel" in manifest and (not holder or manifest["state"] == "running"):
        now["cancel"] = manifest["cancel"]
    older = manifest is not None and _is_older(manifest, totals)
    if manifest:
        _add_what_only_the_manifest_says(now, manifest, held=holder is not None or older)
    if holder:
        now["holder"] = {"host": holder.host, "pid": holder.pid, "since": holder.since}
        now["time_left_s"] = _time_left_s(now, clock or SystemClock())
    elif manifest and manifest["state"] == "running" and state == "incomplete":
        now["hint"] = KILLED_HINT
    if state != "running" or now["counts"][OutcomeKind.FAILED]:
        add_failure_messages(now, reader.read(Log.FAILURES, 0, READ_BYTES_MAX) or b"")
    if needs_trust(run_dir):
        now["trusted"] = True
    add_next_step(now, run, reader.where)
    if older and not holder:
        now["hint"] = OLDER_MANIFEST_HINT
        now["next"] = next_command({**now, "state": RunState.INCOMPLETE}, run, reader.where)
    return now


def _read_own_manifest(reader: RunReader, run: RunFile) -> Manifest | None:
    """None also for one of another run: `verify` says so."""
    manifest = parse_manifest(reader.read(MANIFEST_JSON) or b"")
    return manifest if manifest is not None and manifest["run_id"] == run.run_id else None


def _is_older(manifest: Manifest, totals: Totals) -> bool:
    """Whether the journal went on after a manifest that tells how a process ended. (A process that is on, and one that
    was killed, has one that says "running".)"""
    return manifest["state"] != RunState.RUNNING and manifest["journal_seq"] < totals.seq


def _read_status_of_all(place: RunPlace, run: RunFile, holder: Holder | None, clock: Clock | None) -> Manifest:
    now = sum_of_shards(run, read_shards(place, run, clock), place.where)
    if needs_trust(place):  # by a link in the place of a shard, for one
        now["trusted"] = True
        add_next_step(now, run, place.where)
    if holder is not None:  # one process carries out one shard after the other
        now["holder"] = {"host": holder.host, "pid": holder.pid, "since": holder.since}
        if now["state"] == RunState.INCOMPLETE:
            now.update({"state": RunState.RUNNING, "reason": None, "exit_status": None, "stopped_at": None})
            add_next_step(now, run, place.where)
    return now


def read_shards(place: RunPlace, run: RunFile, clock: Clock | None = None) -> list[Manifest | None]:
    """The status of each shard of the run in a place; None of one that was never begun. Raises as `read_status`."""
    places = [shard_place(place, index) for index in range(len(run.shards or ()))]
    return [None if each.reader().size(RUN_JSON) is None else read_status(each, clock) for each in places]


def _add_what_only_the_manifest_says(now: Manifest, manifest: Manifest, *, held: bool) -> None:
    """The journal's end has its sums, and nothing about single processes."""
    if "starts" in manifest:
        now["starts"], now["start_count"] = manifest["starts"], manifest.get("start_count", len(manifest["starts"]))
        now["limits"] = manifest.get("limits", {})
    if "config" in manifest:
        now["config"] = manifest["config"]
    for name, share in manifest.get("accounts", {}).items():
        if name in (accounts := now.get("accounts", {})):
            accounts[name]["open"] = share["open"]
    if held:
        return
    now["reason"], now["exit_status"] = manifest["reason"], manifest["exit_status"]
    now["stopped_at"] = manifest["stopped_at"]
    if manifest["state"] != "running":  # written when the run began; after a kill the files have changed since
        now["outputs"] = manifest.get("outputs")
        now["hint"] = manifest.get("hint")
        now["waiting_s"] = manifest.get("waiting_s")
        now["job_s"] = manifest.get("job_s", now.get("job_s"))


def _time_left_s(now: Manifest, clock: Clock) -> float | None:
    """Seconds that the rest takes at the pace of the process that is at work; None where there is no pace yet."""
    starts, holder = now.get("starts"), now["holder"]
    if not starts or (last := starts[-1])["stopped_at"] is not None or last["pid"] != holder["pid"]:
        return None  # it is still opening the run
    if (started_s := from_iso(last["started_at"])) is None or now.get("limits", {}).get(PAUSED):
        return None
    done, took_s = sum(now["counts"].values()), clock.wall_s() - started_s
    if done <= last["done"] or took_s <= 0:
        return None
    return round((now["files"] - done) * took_s / (done - last["done"]), 1)


def no_run_error(where: str, holder: Holder | None) -> RunDirectoryError | WorldError:
    """The error of a directory without a run. `holder`: the process that has it, which is about to write one."""
    if holder is None:
        return RunDirectoryError(f"{where} holds no run", hint="name the directory of a run")
    return WorldError(
        f"{holder} is just planning the run in {where}, and nothing can be said of it, or to it, before that is done",
        hint="give the same command later; that process has sent nothing yet",
    )


def read_journal_totals(reader: RunReader, run: RunFile, manifest: Manifest | None) -> Totals:
    """The sums of the whole journal, read from its end; with what the run reused."""
    totals = Totals()
    if run.reused is not None:
        totals.begin_with(run.reused.counts, run.reused.types, run.reused.accepted)
    size = reader.size(Log.JOURNAL)
    if size is None:
        return totals
    return read_totals(
        lambda start, end: reader.read(Log.JOURNAL, start, end) or b"",
        size,
        f"{Log.JOURNAL} in {reader.where}",
        manifest["journal_seq"] if manifest else 0,  # says how far the journal was: a shorter one is damaged
        totals,
    )
