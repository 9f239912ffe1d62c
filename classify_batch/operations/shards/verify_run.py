"""Verifies a run, with all its shards if it has some.

Each shard proves that it has one outcome for each file of its own plan. That these plans are the pieces of the whole
plan, each once and in order, is proven here: so each file of the run has one outcome.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from classify_batch.errors import ClassifyBatchError, DamagedError
from classify_batch.operations.reuse.check_reused import check_reused
from classify_batch.operations.shards.whole import ShardedRun, read_whole
from classify_batch.operations.status import no_run_error
from classify_batch.operations.temporary_files import folder_for_temporary_files
from classify_batch.operations.verify import Verification, verify_store
from classify_batch.ports import RunPlace, RunStore
from classify_batch.rundir.plan import PlanReader
from classify_batch.rundir.run_json import read_run_file
from classify_batch.rundir.shards import find_chunks
from classify_batch.store import Location, open_store, place_of
from classify_batch.vocabulary import PLAN_JSONL, RUN_JSON, Log


async def verify_run(run_dir: Location) -> Verification:
    """Verifies a run directory. Raises RunDirectoryError where there is no run."""
    place = place_of(run_dir)
    temporary = folder_for_temporary_files([place])
    try:
        whole = await read_whole(place)
    except DamagedError as error:
        return Verification(errors=[str(error)])
    if whole is not None:
        return await verify_whole(whole, temporary)
    found = await verify_store(open_store(place), temporary)
    if found is None:
        raise no_run_error(place.where, place.reader().holder())
    return found


async def verify_whole(whole: ShardedRun, temporary: Path | None) -> Verification:
    """Verifies a run with shards. `temporary`: where temporary files may go."""
    found = Verification(files=whole.run.files, complete=True)
    counts = Counter({} if whole.run.reused is None else whole.run.reused.counts)
    store = whole.place.open()
    plan = await _check_plan(whole, store, found)
    await _check_reused(whole, store, plan, found)
    for index, planned in enumerate(whole.ranges):
        part = await _verify_shard(whole, index, temporary)
        if part is None:
            found.complete = found.complete and not planned["files"]
            if planned["files"]:
                found.notes.append(f"shard {index} was never begun")
            continue
        found.complete = found.complete and part.complete
        counts.update(part.counts)
        for error in part.errors:
            found.add_error(f"shard {index}: {error}")
        found.notes += [f"shard {index}: {note}" for note in part.notes]
    found.counts = dict(counts)
    return found


async def _check_plan(whole: ShardedRun, store: RunStore, found: Verification) -> PlanReader | None:
    """Checks the whole plan, and that the shards' pieces of it are what run.json says: each chunk in one of them."""
    plan = PlanReader(store)
    try:
        await plan.scan_whole_file(whole.run.plan_sha256)
    except DamagedError as error:
        found.add_error(str(error))
        return None
    ranges = whole.ranges
    firsts = [each["first_chunk"] for each in ranges]
    ends = [each["first_chunk"] + each["chunks"] for each in ranges]
    reused_chunks = 0 if whole.run.reused is None else whole.run.reused.chunks
    if [reused_chunks, *ends] != [*firsts, whole.run.chunks] or plan.chunks != whole.run.chunks:
        found.add_error(f"{RUN_JSON}: the chunks of the shards are not those of {PLAN_JSONL}, each once")
        return plan
    if whole.run.reused_files + sum(each["files"] for each in ranges) != whole.run.files:
        found.add_error(f"{RUN_JSON}: the shards have not as many files as the run")
    offsets, hashes = await find_chunks(store, [*firsts, whole.run.chunks])
    measured = list(zip(offsets, offsets[1:], hashes, strict=False))
    for index, each in enumerate(ranges):
        if measured[index] != (each["start"], each["end"], each["sha256"]):
            found.add_error(f"{RUN_JSON}: shard {index} is another piece of {PLAN_JSONL} than its chunks")
    return plan


async def _check_reused(whole: ShardedRun, store: RunStore, plan: PlanReader | None, found: Verification) -> None:
    if (reused := whole.run.reused) is None:
        return
    for error in await check_reused(store, reused, plan, lambda _file_ids: None):
        found.add_error(error)
    if (spare := (await store.size(Log.RESULTS) or 0) - reused.bytes) > 0:
        found.add_error(f"{Log.RESULTS}: {spare} bytes behind the reused outcomes")


async def _verify_shard(whole: ShardedRun, index: int, temporary: Path | None) -> Verification | None:
    """None: it was never begun."""
    place: RunPlace = whole.shard_place(index)
    part = await verify_store(place.open(), temporary)
    if part is None or part.errors:
        return part
    try:
        run = await read_run_file(place.open())
        if run is not None:
            whole.slice_of_shard(index).refuse_other(run[0], place.where)
    except ClassifyBatchError as error:
        part.add_error(str(error))
    return part
