"""Plans a new run, or makes sure that the run in the directory is the one that the caller means."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

from classify_batch.errors import RunDirectoryError
from classify_batch.inputs.compare import compare_ids
from classify_batch.inputs.dedupe import distinct
from classify_batch.inputs.open import (
    InputOptions,
    is_read_once,
    is_repeatable,
    name_of,
    needs_project,
    open_source,
)
from classify_batch.inputs.parse_jobs import refuse_parse_jobs
from classify_batch.inputs.reading import NamedReading, PlannedReadings
from classify_batch.operations.document_names import name_given, name_planned
from classify_batch.operations.folder_request import (
    absolute_folder,
    folder_options,
    planned_folder,
    take_planned_globs,
)
from classify_batch.operations.reuse.earlier_runs import find_earlier_runs
from classify_batch.operations.reuse.plan_reusing import plan_reusing
from classify_batch.operations.run_request import RunRequest
from classify_batch.operations.run_resources import RunResources
from classify_batch.ports import RunPlace, RunStore
from classify_batch.protocol.sanitize import printable_line
from classify_batch.rundir.next_step import RETRY_IN_PARTS, merge_command
from classify_batch.rundir.opened_run import RunOnDisk, read_run
from classify_batch.rundir.paths_jsonl import FurtherPaths
from classify_batch.rundir.plan import PlanReader, hash_file_ids
from classify_batch.rundir.run_json import RunFile, refuse_other_run, write_run_file
from classify_batch.rundir.shards import SHARDS_MAX, cut_plan_into_shards
from classify_batch.settings import Settings
from classify_batch.shell_words import command_of
from classify_batch.vocabulary import RUN_JSON, SHARDS_FOLDER, Log

_LAST_LINE_BYTES_MAX = 1 << 20

SHARDS_PER_ACCOUNT = 8
"""Where nobody says how many: so many let accounts of unlike speeds end within an eighth of each other's share."""

log = logging.getLogger("classify_batch")


async def plan_if_new(resources: RunResources, store: RunStore, request: RunRequest) -> RunOnDisk | None:
    """Plans a new run, or refuses a run in the directory that doesn't fit the request.

    Returns the existing run, so that it needn't be read twice: nobody else writes while the lock is held. It keeps its
    plan, so `request.reuse` counts for a new run only. None: the run is new.
    """
    found = await read_run(store)
    if found is not None:
        refuse_merged_run(found, store.where)
        refuse_other_run(found.run, request.settings.identity(), store.where)
        if request.slice is not None:
            request.slice.refuse_other(found.run, store.where)
        if request.source is not None:
            await refuse_other_file_ids(found.run, store, request.place.folder, request)
        return found
    if request.slice is not None:
        await refuse_orphaned_files(store)
        await request.slice.write_shard(store)
    else:
        await plan_new_run(resources, store, request)
    return None


async def plan_new_run(resources: RunResources, store: RunStore, request: RunRequest) -> None:
    """Writes the plan and run.json of a directory that holds no run."""
    settings, place, file_ids = request.settings, request.place, request.source
    if file_ids is None:
        raise RunDirectoryError(
            f"{store.where} holds no run", hint="name the directory of a run, or give its input to begin one"
        )
    await refuse_orphaned_files(store)
    refuse_orphaned_shards(place)
    # Only `project:` needs the API for its plan; every other input is planned without a key.
    readings: list[NamedReading] = []
    options = InputOptions(
        request.reading, settings.plan.carry, on_reading=readings.append, folder=folder_options(request)
    )
    if needs_project(file_ids):
        from classify_batch.llamacloud.file_client import FileList  # noqa: PLC0415 - slow to import, and rarely needed

        files = FileList((await resources.connect_client())[0])
        options = replace(options, pages=files.read_objects if options.wants_columns else files.read_page)
    batches = open_source(file_ids, options)
    if not settings.api.capabilities.takes_parse_jobs:
        batches = refuse_parse_jobs(batches)
    earlier = await find_earlier_runs(request.reuse, place, settings.identity())
    folder = planned_folder(request)
    with FurtherPaths(place.folder) as further:
        planned = await plan_reusing(
            store,
            batches,
            earlier,
            settings.files_per_job,
            triage=settings.triage,
            directory=place.folder,
            on_further=None if folder is None else further.add_paths,
            name=name_of(file_ids),
        )
        await further.write_file(store)
    shards, count = None, request.shards
    if count is None and settings.accounts:
        chunks = planned.plan.chunks - (0 if planned.reused is None else planned.reused.chunks)
        count = max(1, min(SHARDS_PER_ACCOUNT * len(settings.accounts), chunks, SHARDS_MAX))
    if count is not None:
        shards = await cut_plan_into_shards(store, planned.plan, planned.reused, settings.files_per_job, count)
    # Last: without run.json there is no run, so a planning that is killed before is simply repeated.
    inputs = [each.to_stored() for each in readings]
    await write_run_file(
        store, settings, planned.plan, planned.duplicates, resources.clock, planned.reused, inputs, folder, shards
    )


def refuse_merged_run(found: RunOnDisk, where: str) -> None:
    """Raises RunDirectoryError for a run that was merged of others: it has nothing to send, and where a create of one
    of these was ambiguous, only that run can find out what became of it."""
    if found.run.merged is None:
        return
    if found.manifest_complete:
        raise RunDirectoryError(f"{where} was merged of other runs, and calls nothing itself", hint=RETRY_IN_PARTS)
    raise RunDirectoryError(
        f"{where} is being merged of other runs, and that isn't finished",
        hint=f"go on with {merge_command(found.run.merged, where)}",
    )


def refuse_unbounded_credits(found: RunOnDisk, settings: Settings) -> None:
    """Raises RunDirectoryError where limits.max_credits can't be kept: the first jobs were not counted, or a killed
    process may have sent creates that are not in the journal."""
    run = found.run
    bounded, idempotent = settings.limits.max_credits is not None, settings.api.capabilities.idempotent_creates
    if bounded and idempotent and not found.snapshot.credits_all_journalled:
        raise RunDirectoryError(
            "a process of version 0.2 was killed in this run, and had no limits.max_credits: it may have sent creates "
            "that it had not written down, so the bound can't be held",
            hint="go on without it, or begin a new run directory with the files that are left",
        )
    if bounded and "escalation" not in run.identity:
        raise RunDirectoryError(
            "the run was begun by a version that counted no credits, so limits.max_credits can't be held",
            hint="go on without it, or begin a new run directory with the files that are left",
        )


async def refuse_orphaned_files(store: RunStore) -> None:
    """Raises RunDirectoryError for outcomes or a journal without run.json: they belong to a run, and stay."""
    orphans = sorted(await store.names() & {log.value for log in Log})
    if orphans == [Log.RESULTS] and await _is_left_by_planning(store):
        return
    if orphans:
        raise RunDirectoryError(
            f"{store.where} has {', '.join(orphans)}, but no run.json",
            hint="put run.json back from a copy, or name a new run directory",
        )


def refuse_orphaned_shards(place: RunPlace) -> None:
    """Raises RunDirectoryError for shards without the run.json of the whole run: another plan would pay for their files
    once more."""
    if any(each.reader().size(RUN_JSON) is not None for each in place.child(SHARDS_FOLDER).inside() or ()):
        raise RunDirectoryError(
            f"{place.where} has shards, but no run.json",
            hint="put run.json and plan.jsonl back from a copy, or name a new run directory",
        )


async def _is_left_by_planning(store: RunStore) -> bool:
    """Whether results.jsonl was left by a killed planning: then it holds reused outcomes only, or nothing."""
    size = await store.size(Log.RESULTS) or 0
    # The last line is enough: reused outcomes come first, so one of the run itself would be behind them.
    tail = await store.read(Log.RESULTS, max(0, size - _LAST_LINE_BYTES_MAX))
    try:
        last = json.loads(tail.splitlines()[-1]) if tail else {"reused_from": None}
    except ValueError:
        return False
    return isinstance(last, dict) and "reused_from" in last


async def refuse_other_file_ids(run: RunFile, store: RunStore, directory: Path | None, request: RunRequest) -> None:
    """Raises RunDirectoryError where the input has other IDs than the plan. Stdin is not read: it can be read once.

    `directory`: where temporary files go.
    """
    file_ids = request.source
    if file_ids is None:
        return
    request = take_planned_globs(request, run, store.where)
    if not is_repeatable(file_ids):
        log.warning(
            "%s: going on with its plan; the input is not read again (a new input needs a new run directory)",
            store.where,
        )
        return
    if (folder := absolute_folder(file_ids)) != run.folder and None not in (folder, run.folder):
        log.warning("the run was begun with the folder %s: its documents are read from there", run.folder)
    options = InputOptions(request.reading, planned=PlannedReadings(run.inputs), folder=folder_options(request))
    if not is_read_once(file_ids):  # it can be read twice: a hash takes a third of the time of a comparison
        same_order = await hash_file_ids(aiter(distinct(open_source(file_ids, options), directory=directory)))
        if same_order == run.identity.get("ids_sha256"):
            return
    plan = PlanReader(store, run.first_chunk)
    await plan.scan_whole_file(run.plan_sha256)
    given = aiter(distinct(open_source(file_ids, options), directory=directory))
    difference = await compare_ids(plan.file_id_batches(), given, directory=directory)
    if difference and folder is not None and run.folder is not None:
        new = await name_given(Path(folder), options.folder, difference.new_examples)
        gone = await name_planned(plan, difference.gone_examples)
        again = command_of("resume", store.where)
        raise RunDirectoryError(
            f"{store.where} holds a run of other documents: {difference.new:,} in the folder are new or changed"
            f"{format_examples(new)}, {difference.gone:,} of its plan are changed or gone{format_examples(gone)}",
            hint=f"`{again}` goes on with the documents as they were planned; once it is complete, a new run directory "
            f"with `--reuse {store.where}` takes the folder as it is now, and pays for what is new only",
        )
    if difference:
        raise RunDirectoryError(
            f"{store.where} holds a run of other file IDs: {difference.new} of the given ones are not in its plan"
            f"{format_examples(difference.new_examples)}, {difference.gone} of its plan are not given"
            f"{format_examples(difference.gone_examples)}",
            hint="give the input that the run was begun with, or name a new run directory",
        )


def format_examples(file_ids: tuple[str, ...]) -> str:
    """The first few IDs or paths, for a message."""
    return f" ({', '.join(map(printable_line, file_ids))}{', …' if len(file_ids) > 2 else ''})" if file_ids else ""


async def read_existing_run(store: RunStore) -> RunOnDisk:
    """The run in a directory. Raises RunDirectoryError where there is none."""
    found = await read_run(store)
    if found is None:
        raise RunDirectoryError(f"{store.where} holds no run", hint="give an input to begin one")
    return found
