"""Writes the plan of a run, and does nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from classify_batch.clock import SystemClock
from classify_batch.inputs.folder import FolderScan
from classify_batch.inputs.open import SourceSpec, needs_project
from classify_batch.inputs.reading import Reading
from classify_batch.operations.folder_request import take_folder
from classify_batch.operations.own_task import run_in_own_task
from classify_batch.operations.plan import plan_if_new, read_existing_run
from classify_batch.operations.reuse.earlier_runs import Reuse
from classify_batch.operations.run_request import RunRequest
from classify_batch.operations.run_resources import RunResources, lock_run_directory, refuse_missing_documents
from classify_batch.operations.shards.plan_shards import plan_sharded
from classify_batch.operations.shards.whole import read_whole
from classify_batch.rundir.run_json import RunFile
from classify_batch.settings import Settings, read_api_key
from classify_batch.store import Location, place_of


async def make_plan(
    settings: Settings,
    file_ids: SourceSpec,
    run_dir: Location,
    *,
    reading: Reading | None = None,
    reuse: Reuse = (),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    on_scan: Callable[[FolderScan], None] = lambda _scan: None,
    shards: int | None = None,
) -> RunFile:
    """Writes the plan and run.json. It calls nothing but, for `project:`, the file list.

    `on_scan`: is called with what a folder was found to hold. `shards`: into how many the run is divided; None: it
        isn't.
    """
    asked = RunRequest(
        settings,
        file_ids,
        place_of(run_dir),
        reading or Reading(),
        reuse,
        include=include,
        exclude=exclude,
        on_scan=on_scan,
        shards=shards,
    )
    request = take_folder(asked)
    settings = request.settings

    async def plan_in_directory() -> RunFile:
        if shards is not None or settings.accounts or await read_whole(request.place) is not None:
            return (await plan_sharded(request)).run
        async with AsyncExitStack() as stack:
            if needs_project(file_ids):
                read_api_key(settings)  # a missing key is an error before anything is created
            resources = RunResources(settings, None, request.place.folder, SystemClock(), stack)
            refuse_missing_documents(settings)
            store = await lock_run_directory(request.place, stack)
            found = await plan_if_new(resources, store, request) or await read_existing_run(store)
            return found.run

    return await run_in_own_task(plan_in_directory)
