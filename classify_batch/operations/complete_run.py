"""A run that is complete already: found out, and answered, without a key, a call or a write to any of its files."""

from __future__ import annotations

from classify_batch.errors import DamagedError
from classify_batch.operations.plan import refuse_other_file_ids, refuse_unbounded_credits
from classify_batch.operations.result import RunResult
from classify_batch.operations.run_request import RunRequest
from classify_batch.ports import RunPlace, RunStore
from classify_batch.rundir.manifest_json import exit_status_of, read_manifest
from classify_batch.rundir.next_step import TOLERATED, add_next_step
from classify_batch.rundir.opened_run import RunOnDisk, read_run
from classify_batch.rundir.run_json import refuse_other_run
from classify_batch.store.disk import sweep_unless_held
from classify_batch.vocabulary import OutcomeKind, RunState


async def claims_complete(place: RunPlace, *, retry_failed: bool) -> bool:
    """Whether a run's manifest says that it is complete: then no key and no call is needed. With `retry_failed`, failed
    files need both."""
    manifest = await read_manifest(place.open())
    if manifest is None or manifest["state"] != RunState.COMPLETE:
        return False
    return not retry_failed or manifest["counts"].get(OutcomeKind.FAILED) == 0


async def read_complete_run(request: RunRequest) -> RunResult | None:
    """The result of a run that is complete already; None of any other. It is not locked: its disk may be read-only.
    Only what a killed process left half-written is removed, under the lock, where that can be had.

    Raises:
        RunDirectoryError: the request's input has other IDs, or its settings are another run's.
    """
    place, settings = request.place, request.settings
    store = place.open()
    found = await read_run(store)
    if found is None:
        return None
    refuse_other_run(found.run, settings.identity(), store.where)
    if request.slice is not None:
        request.slice.refuse_other(found.run, store.where)
    refuse_unbounded_credits(found, settings)
    result = await result_if_complete(found, store, request)
    if result is not None and request.source is not None:
        await refuse_other_file_ids(found.run, store, None, request)
    if result is not None and place.folder is not None:
        await sweep_unless_held(place.folder)
    return result


async def result_if_complete(found: RunOnDisk, store: RunStore, request: RunRequest) -> RunResult | None:
    """The result of a run that is complete already, without any call or write; None of any other. Its exit status is
    by the tolerance of these settings, which may differ at each start.

    Raises:
        DamagedError: outcomes that were committed are gone.
    """
    closed, manifest = found.snapshot.closed, found.manifest
    if closed is None or closed.get("state") != RunState.COMPLETE:
        return None
    if manifest is None or not found.manifest_complete:
        return None  # a process was killed between the journal's last line and the manifest
    # Sizes only: hashing the outputs of a big run would take minutes, and `verify` does it.
    for name, output in (manifest.get("outputs") or {}).items():
        if (size := await store.size(name) or 0) != output["bytes"]:
            raise DamagedError(
                f"{name} in {store.where} has {size} bytes, and the manifest says {output['bytes']}",
                hint="restore the file from a copy, or begin again in a new run directory",
            )
    tolerated = request.settings.limits.tolerated_failure_percentage
    status = exit_status_of(found.snapshot.outcomes, tolerated)
    manifest = {**manifest, "exit_status": int(status), "limits": {**manifest.get("limits", {}), TOLERATED: tolerated}}
    add_next_step(manifest, found.run, store.where)
    return RunResult(request.place, RunState.COMPLETE, status, "", "", manifest, called=False)
