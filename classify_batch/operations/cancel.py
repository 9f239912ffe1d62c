"""Cancels a run: asks the process that runs it, through a file in the run directory, or takes the run over itself."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio

from classify_batch.arguments import refuse_no_function
from classify_batch.engine.canceller import describe_cancelled
from classify_batch.engine.shutdown import Shutdown, following
from classify_batch.errors import ExitStatus, InterruptedEarlyError, LockedError, WorldError, the_cause
from classify_batch.operations.complete_run import claims_complete
from classify_batch.operations.function_observer import all_observers
from classify_batch.operations.new_loop import refuse_no_asyncio, run_in_new_loop
from classify_batch.operations.open_run import refuse_no_run
from classify_batch.operations.own_task import run_in_own_task
from classify_batch.operations.result import RunResult
from classify_batch.operations.run import carry_out_request, interruptible, refuse_no_settings
from classify_batch.operations.run_request import OnProgress, RunRequest
from classify_batch.operations.shard_account import owners_of, take_account
from classify_batch.operations.shards.ending import ShardEnding
from classify_batch.operations.shards.results import result_of_shards
from classify_batch.operations.shards.run_shards import run_shard
from classify_batch.operations.shards.whole import ShardedRun, read_whole
from classify_batch.operations.status import no_run_error
from classify_batch.operations.tune import TIMEOUT_S
from classify_batch.ports import Observer, RunPlace, RunStore
from classify_batch.run_records import Holder
from classify_batch.rundir.manifest_json import read_manifest
from classify_batch.rundir.opened_run import RunOnDisk, read_run
from classify_batch.rundir.requests import encode_request, forget_requests, take_back
from classify_batch.rundir.run_json import read_run_file, refuse_other_run
from classify_batch.settings import Settings
from classify_batch.shell_words import command_of
from classify_batch.store import Location, anchored
from classify_batch.vocabulary import CANCEL_JSON, RUN_JSON, CancelState, RunState

_POLL_EVERY_S = 0.1

OnAsked = Callable[[Holder], None]
"""Is given the process that was asked, once it has written down that the run is cancelled."""


def cancel(
    run_dir: Location,
    settings: Settings | None = None,
    *,
    trust_run_dir: bool = False,
    on_progress: OnProgress | None = None,
    observers: Sequence[Observer] = (),
) -> RunResult:
    """Cancels a run, and waits for the end: no more jobs are created, and those in flight are cancelled (on v2; on v1,
    which can't, they are collected for at most `limits.drain_s`). What had finished is collected.

    Where a process runs the run, it is asked, and this returns when it has ended. Otherwise the run is taken over here.
    `run` goes on with a cancelled run.

    Args:
        run_dir: the run directory.
        settings: None: those of its run.json. Only a run that has webhooks with secrets needs them.
        trust_run_dir, on_progress, observers: see `run`; for a run that is taken over here.

    Returns:
        How the run has ended: incomplete with status 77; or complete, if nothing was left to cancel.

    Raises:
        UsageError: there is no run, the settings don't fit, or it was called inside a running event loop (use `await
            acancel(…)` there).
        WorldError: the process that runs the run doesn't answer, or is just planning it, or another one took the run
            up again.
    """
    return run_in_new_loop(
        "cancel",
        partial(acancel, run_dir, settings, trust_run_dir=trust_run_dir, on_progress=on_progress, observers=observers),
    )


async def acancel(
    run_dir: Location,
    settings: Settings | None = None,
    *,
    trust_run_dir: bool = False,
    on_progress: OnProgress | None = None,
    observers: Sequence[Observer] = (),
) -> RunResult:
    """Like `cancel`, inside a running asyncio loop."""
    refuse_no_asyncio("acancel")
    place = anchored(run_dir, trusted=trust_run_dir)
    if settings is not None:
        refuse_no_settings(settings)
    if on_progress is not None:
        refuse_no_function("on_progress", on_progress, "a function that is given a Progress")
    kept = all_observers(None, observers)
    return await cancel_run(place, settings, Shutdown(), on_progress=on_progress, observers=kept)


async def cancel_run(
    place: RunPlace,
    settings: Settings | None,
    shutdown: Shutdown,
    *,
    on_asked: OnAsked = lambda _: None,
    on_progress: OnProgress | None = None,
    observers: Sequence[Observer] = (),
) -> RunResult:
    """Cancels a run, or stops doing so when `shutdown` is asked to: the same call goes on with it then."""
    whole = await read_whole(place)
    if whole is None:
        return await _cancel_one(place, settings, shutdown, on_asked, on_progress, observers)
    if settings is None:
        settings = Settings.from_stored(whole.run.settings)
    refuse_other_run(whole.run, settings.identity(), place.where)
    endings: dict[int, ShardEnding] = {}

    def take_result(index: int, result: RunResult) -> None:
        endings[index] = ShardEnding(index, result.exit_status, result.reason, result.hint, result.called)

    async def cancel_shard(index: int) -> None:
        shard = whole.shard_place(index)
        take_result(index, await _cancel_one(shard, settings, shutdown, on_asked, on_progress, observers))

    await _cancel_shards_at_work(whole, cancel_shard, shutdown)
    if left := [index for index in await _unfinished_shards(whole) if index not in endings]:
        await whole.refuse_untrusted()
    for index in left:
        if shutdown.stop is None:
            await cancel_shard(index)
    none_cancelled = shutdown.stop is None and all(ending.complete for ending in endings.values())
    if none_cancelled and (unbegun := await _find_never_begun(whole)) is not None:
        # The whole run has no journal, so this shard's says that it was cancelled, to whoever asks later.
        request = RunRequest(settings, None, whole.place, cancel=True, on_progress=on_progress, observers=observers)
        take_result(unbegun, await run_shard(whole, request, unbegun, shutdown))
    return result_of_shards(whole, settings, [endings[index] for index in sorted(endings)], stop=shutdown.stop)


async def _cancel_shards_at_work(
    whole: ShardedRun, cancel_shard: Callable[[int], Coroutine[None, None, None]], shutdown: Shutdown
) -> None:
    """Cancels the shards that processes hold, all at the same time. Returns when no process carries out all shards: one
    that is between two of them can't be asked, and would begin the next.

    Raises:
        WorldError: such a process neither begins a shard nor ends.
    """
    ends_s = anyio.current_time() + TIMEOUT_S
    while True:
        if held := await _shards_at_work(whole):
            await whole.refuse_untrusted()
            try:
                async with anyio.create_task_group() as tasks:
                    for index in held:
                        tasks.start_soon(cancel_shard, index)
            except BaseExceptionGroup as group:
                raise the_cause(group) from group
            ends_s = anyio.current_time() + TIMEOUT_S
        holder = whole.place.reader().holder()
        if holder is None or shutdown.stop is not None:
            return
        if anyio.current_time() > ends_s:
            raise _no_answer_error(holder)
        await anyio.sleep(_POLL_EVERY_S)


async def _unfinished_shards(whole: ShardedRun) -> list[int]:
    """The shards that were begun and are not complete."""
    places = {index: whole.shard_place(index) for index in range(len(whole.ranges))}
    begun = {index: place for index, place in places.items() if place.reader().size(RUN_JSON) is not None}
    return [index for index, place in begun.items() if not await claims_complete(place, retry_failed=False)]


async def _shards_at_work(whole: ShardedRun) -> list[int]:
    """Those of them that a process holds."""
    unfinished = await _unfinished_shards(whole)
    return [index for index in unfinished if whole.shard_place(index).reader().holder() is not None]


async def _find_never_begun(whole: ShardedRun) -> int | None:
    """The first shard that has files and was never begun; None while a process is at work on any."""
    if await _shards_at_work(whole):
        return None
    indexes = (index for index, each in enumerate(whole.ranges) if each["files"])
    return next((index for index in indexes if whole.shard_place(index).reader().size(RUN_JSON) is None), None)


async def _cancel_one(
    place: RunPlace,
    settings: Settings | None,
    shutdown: Shutdown,
    on_asked: OnAsked,
    on_progress: OnProgress | None,
    observers: Sequence[Observer],
) -> RunResult:
    store = place.open()
    await refuse_no_run(store)
    while True:
        holder = await store.holder()
        if holder is None:
            try:
                return await _take_over(place, settings, shutdown, on_progress, observers)
            except LockedError:
                if await store.holder() is None:
                    raise
                continue

        async def ask(holder: Holder = holder) -> RunResult | None:
            try:
                async with interruptible(shutdown):
                    return await _ask_process_to_cancel(store, place, holder, on_asked)
            except InterruptedEarlyError as error:
                raise await _interrupted_error(error, store, holder) from None

        if (result := await run_in_own_task(ask)) is not None:
            return result


async def _take_over(
    place: RunPlace,
    settings: Settings | None,
    shutdown: Shutdown,
    on_progress: OnProgress | None,
    observers: Sequence[Observer],
) -> RunResult:
    if settings is None:
        found = await read_run_file(place.open())
        if found is None:
            raise no_run_error(place.where, place.reader().holder())
        settings = Settings.from_stored(found[0].settings)
    request = RunRequest(settings, None, place, cancel=True, on_progress=on_progress, observers=observers)
    asked = set[str]()
    while True:  # each account that has jobs in it cancels its own
        one = await take_account(request, without=asked)
        async with following(shutdown) as own:  # what it stops by must not keep others from being cancelled
            result = await carry_out_request(one, own)
        if one.account is not None:
            asked.add(one.account.name)
        others = {each.name for each in settings.accounts} & owners_of(result.manifest) - asked
        if not others or shutdown.stop is not None:
            return result


# --- Asking the process that runs the run ---------------------------------------------------------------------------


async def _ask_process_to_cancel(
    store: RunStore, place: RunPlace, holder: Holder, on_asked: OnAsked
) -> RunResult | None:
    """Asks a process, and waits until it has ended. None: it ended without carrying the cancel out."""
    data = encode_request({})
    try:
        obeys = await _request_cancel(store, holder, data)
    except BaseException:  # an interruption, too: nothing must be obeyed after the error
        with anyio.CancelScope(shield=True):
            await take_back(store, CANCEL_JSON, data)
        raise
    if obeys:
        on_asked(holder)
    while await _is_held_by(store, holder):  # noqa: ASYNC110 - another process sets no event
        await anyio.sleep(_POLL_EVERY_S)
    found, next_holder = await read_run(store), await store.holder()
    if next_holder is None:
        await forget_requests(store)
        return None if found is None else _result_of(place, found)
    if obeys and found is not None and found.snapshot.cancel is None:
        raise WorldError(
            f"{next_holder} took the run up again",
            hint="stop what starts it, then give the same command",
        )
    return None


async def _request_cancel(store: RunStore, holder: Holder, data: bytes) -> bool:
    """Returns whether the process has written down that the run is cancelled; it has ended otherwise.

    Raises:
        WorldError: it doesn't answer.
    """
    ends_s = anyio.current_time() + TIMEOUT_S
    while not (obeys := await _is_cancelling(store)) and await _is_held_by(store, holder):
        if anyio.current_time() > ends_s:
            raise _no_answer_error(holder)
        with suppress(FileExistsError):  # also where it is gone again: a process that begins forgets old requests
            await store.create(CANCEL_JSON, data)
        await anyio.sleep(_POLL_EVERY_S)
    return obeys


async def _interrupted_error(error: InterruptedEarlyError, store: RunStore, holder: Holder) -> InterruptedEarlyError:
    """What an interruption means: the process that was asked may have obeyed already."""
    manifest = await read_manifest(store)
    if manifest is None or "cancel" not in manifest:
        return error
    return InterruptedEarlyError(
        f"{error}; the run is cancelled all the same, by {holder}",
        hint=f"`{command_of('status', Path(store.where).absolute())}` says how far that is",
    )


def _no_answer_error(holder: Holder) -> WorldError:
    return WorldError(
        f"{holder} did not answer within {TIMEOUT_S:g} seconds",
        hint="it may be stopping, or reading its input: see `classify-batch status`, then try again",
    )


async def _is_cancelling(store: RunStore) -> bool:
    """Whether a process has written down that the run is cancelled, and is at it."""
    manifest = await read_manifest(store)
    return manifest is not None and (manifest["state"], manifest.get("cancel")) == (RunState.RUNNING, CancelState.ASKED)


async def _is_held_by(store: RunStore, holder: Holder) -> bool:
    now = await store.holder()
    return now is not None and (now.host, now.pid, now.since) == (holder.host, holder.pid, holder.since)


def _result_of(place: RunPlace, found: RunOnDisk) -> RunResult | None:
    """How a process has ended the run; None where it had not cancelled it."""
    manifest, snapshot = found.manifest, found.snapshot
    if manifest is None or manifest["exit_status"] is None:
        return None
    status = ExitStatus(manifest["exit_status"])
    if found.manifest_complete:
        return RunResult(place, RunState.COMPLETE, status, "", "", manifest)
    if snapshot.cancel is not CancelState.DONE:
        return None
    reason, hint = describe_cancelled(snapshot)
    return RunResult(place, RunState.INCOMPLETE, status, reason, hint, manifest)
