"""What came of a run's shards, as the result of one run."""

from __future__ import annotations

from collections.abc import Sequence

from classify_batch.engine.shutdown import Stop
from classify_batch.errors import ExitStatus
from classify_batch.operations.result import RunResult
from classify_batch.operations.shards.ending import ShardEnding
from classify_batch.operations.shards.whole import ShardedRun
from classify_batch.operations.status import read_shards
from classify_batch.rundir.manifest_json import exit_status_of
from classify_batch.rundir.next_step import TOLERATED, add_next_step
from classify_batch.rundir.sum_of_shards import sum_of_shards
from classify_batch.settings import Settings
from classify_batch.vocabulary import RunState

LATER = "the same command goes on"


def result_of_shards(
    whole: ShardedRun, settings: Settings, endings: Sequence[ShardEnding], stop: Stop | None = None
) -> RunResult:
    """The whole run as it is when its shards have ended for now.

    Args:
        endings: of those that were begun or tried.
        stop: why no more of them were.
    """
    manifest = sum_of_shards(whole.run, read_shards(whole.place, whole.run), whole.place.where)
    called = any(ending.called for ending in endings)
    if manifest["state"] == RunState.COMPLETE:
        tolerated = settings.limits.tolerated_failure_percentage
        status = exit_status_of(manifest["counts"], tolerated)
        manifest["exit_status"] = int(status)
        manifest["limits"] = {**manifest.get("limits", {}), TOLERATED: tolerated}
        add_next_step(manifest, whole.run, whole.place.where)
        return RunResult(whole.place, RunState.COMPLETE, status, "", "", manifest, called=called)
    status, reason, hint = why_incomplete(endings, stop)
    manifest.pop("holder", None)
    manifest.update({"state": RunState.INCOMPLETE, "exit_status": int(status), "reason": reason, "hint": hint})
    add_next_step(manifest, whole.run, whole.place.where)
    return RunResult(whole.place, RunState.INCOMPLETE, status, reason, hint, manifest, called=called)


def why_incomplete(endings: Sequence[ShardEnding], stop: Stop | None) -> tuple[ExitStatus, str, str]:
    """The status of the whole run, why, and what to do: what a person must see to comes first."""
    unfinished = [ending for ending in endings if not ending.complete]
    for ending in sorted(unfinished, key=lambda ending: ending.exit_status is not ExitStatus.PERSON):
        return ending.exit_status, f"shard {ending.shard}: {ending.reason}", ending.hint
    if stop is not None:
        return stop.status, stop.reason, stop.hint
    return ExitStatus.INCOMPLETE, "another process works on some of its shards", LATER
