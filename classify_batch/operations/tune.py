"""Sends changed limits to the process that runs a run, through a file in the run directory."""

from __future__ import annotations

import anyio

from classify_batch.errors import RunDirectoryError, WorldError
from classify_batch.operations.open_run import refuse_no_run
from classify_batch.operations.shards.whole import ShardedRun, read_whole
from classify_batch.ports import RunPlace, RunStore
from classify_batch.run_records import Holder
from classify_batch.rundir.requests import encode_request, is_open, take_back
from classify_batch.settings.limit_changes import Tuning
from classify_batch.store import Location, place_of
from classify_batch.vocabulary import TUNE_JSON

TIMEOUT_S = 10.0
_POLL_EVERY_S = 0.05


async def tune(run_dir: Location, tuning: Tuning, *, trust_run_dir: bool = False, timeout_s: float = TIMEOUT_S) -> None:
    """Returns when the process that runs the run has applied the limits, and written them to the journal.

    That process removes the file then; so the absence of our file is its answer, whatever file stands there since.

    Raises:
        RunDirectoryError: there is no run, or no process runs it; or it has shards, and other users could misuse their
            place (`trust_run_dir`: as in `run`).
        WorldError: another `tune` is waiting, or the process is just planning the run, ends, or doesn't answer in
            time.
        StoreError: the directory can't be written.
    """
    place = place_of(run_dir, trusted=trust_run_dir)
    ends_s = anyio.current_time() + timeout_s  # one timeout for all waits
    if (whole := await read_whole(place)) is not None:
        held = await _held_shards(whole, ends_s)
        await whole.refuse_untrusted()
        for index in held:
            await _tune_process(whole.shard_place(index), _share_of_shard(tuning, whole, index), ends_s, timeout_s)
    else:
        await _tune_process(place, tuning, ends_s, timeout_s)


def _share_of_shard(tuning: Tuning, whole: ShardedRun, index: int) -> Tuning:
    """What is changed for one shard: of credits it has a share that is as large as its share of the files."""
    if tuning.max_credits is None:
        return tuning
    share = whole.slice_of_shard(index).share_of_credits(tuning.max_credits)
    return tuning.model_copy(update={"max_credits": share})


async def _held_shards(whole: ShardedRun, ends_s: float) -> list[int]:
    """The shards that processes are at work on. One that carries out all of them may just be between two."""
    while True:
        indexes = range(len(whole.ranges))
        held = [index for index in indexes if whole.shard_place(index).reader().holder() is not None]
        if held:
            return held
        if whole.place.reader().holder() is None or anyio.current_time() > ends_s:
            raise nobody_at_work(whole.place.where)
        await anyio.sleep(_POLL_EVERY_S)


def nobody_at_work(where: str) -> RunDirectoryError:
    return RunDirectoryError(
        f"{where}: no process is at work on this run",
        hint="give the limits to the next start, as settings or as options of `resume`",
    )


async def _tune_process(place: RunPlace, tuning: Tuning, ends_s: float, timeout_s: float) -> None:
    store = place.open()
    await refuse_no_run(store)
    holder = await store.holder()
    if holder is None:
        raise nobody_at_work(store.where)
    data = encode_request(tuning.changed_limits())
    placed = False
    try:
        await _put_in_place(store, data, ends_s)
        placed = True
        while await is_open(store, TUNE_JSON, data):
            if anyio.current_time() > ends_s:
                raise WorldError(
                    f"{holder} did not answer within {timeout_s:g} seconds",
                    hint="it may be stopping, or reading its input: see `classify-batch status`, then try again",
                )
            await anyio.sleep(_POLL_EVERY_S)
    except BaseException:  # an interruption, too: nothing must be applied after the error
        with anyio.CancelScope(shield=True):
            taken_back = await take_back(store, TUNE_JSON, data)
            if taken_back or not placed or await is_open(store, TUNE_JSON, data):
                raise
            await _refuse_ended(store, holder)
        return  # the process had begun to take them up: the limits are changed, whatever interrupted this
    await _refuse_ended(store, holder)


async def _refuse_ended(store: RunStore, holder: Holder) -> None:
    """Raises WorldError where the process that was asked has ended: one that starts removes the file, too."""
    if holder.pid and await store.holder() != holder:
        raise WorldError(
            f"{holder} has ended, perhaps before it took the limits up",
            hint="if another process is at work now, give the same command; else give the limits to the next start",
        )


async def _put_in_place(store: RunStore, data: bytes, ends_s: float) -> None:
    """Writes the file whole, and never in place of that of another `tune` which is still waiting there."""
    while True:
        try:
            await store.create(TUNE_JSON, data)
            return
        except FileExistsError:
            if anyio.current_time() > ends_s:
                raise WorldError(
                    f"{TUNE_JSON} is in {store.where} already: another `tune` is waiting for its answer",
                    hint="give the same command again; remove the file if no other command is running",
                ) from None
        await anyio.sleep(_POLL_EVERY_S)
