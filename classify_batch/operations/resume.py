"""Goes on with a run from what its directory says."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from classify_batch.limits.shared_limits import SharedLimits
from classify_batch.operations.function_observer import Observe
from classify_batch.operations.new_loop import refuse_no_asyncio, run_in_new_loop
from classify_batch.operations.open_run import read_run_settings
from classify_batch.operations.public_run import arun
from classify_batch.operations.result import RunResult
from classify_batch.operations.run_request import Executor, OnProgress
from classify_batch.ports import Observer
from classify_batch.settings import Settings
from classify_batch.store import Location, anchored


def resume(
    run_dir: Location,
    settings: Settings | None = None,
    *,
    on_progress: OnProgress | None = None,
    retry_failed: bool = False,
    until_s: float | None = None,
    max_runtime_s: float | None = None,
    submit_only: bool = False,
    observer: Observe | None = None,
    observers: Sequence[Observer] = (),
    shared_limits: SharedLimits | None = None,
    trust_run_dir: bool = False,
    executor: Executor | None = None,
) -> RunResult:
    """Goes on with the run in a directory, and waits for the end. The plan is the one that is there.

    Args:
        run_dir: the run directory.
        settings: None: those of its run.json. Only a run that has webhooks with secrets needs them; and who wants other
            limits.
        on_progress, retry_failed, until_s, max_runtime_s, submit_only, observer, observers, shared_limits,
            trust_run_dir, executor: see `run`.

    Raises:
        UsageError: there is no run, the settings don't fit, or it was called inside a running event loop (use `await
            aresume(…)` there).
        WorldError: another process holds the run, or the disk refuses a write; the same call goes on later.
    """
    return run_in_new_loop(
        "resume",
        partial(
            aresume,
            run_dir,
            settings,
            on_progress=on_progress,
            retry_failed=retry_failed,
            until_s=until_s,
            max_runtime_s=max_runtime_s,
            submit_only=submit_only,
            observer=observer,
            observers=observers,
            shared_limits=shared_limits,
            trust_run_dir=trust_run_dir,
            executor=executor,
        ),
    )


async def aresume(
    run_dir: Location,
    settings: Settings | None = None,
    *,
    on_progress: OnProgress | None = None,
    retry_failed: bool = False,
    until_s: float | None = None,
    max_runtime_s: float | None = None,
    submit_only: bool = False,
    observer: Observe | None = None,
    observers: Sequence[Observer] = (),
    shared_limits: SharedLimits | None = None,
    trust_run_dir: bool = False,
    executor: Executor | None = None,
) -> RunResult:
    """`resume` inside an event loop."""
    refuse_no_asyncio("aresume")
    place = anchored(run_dir, trusted=trust_run_dir)
    if settings is None:
        settings = Settings.from_stored(await read_run_settings(place))
    return await arun(
        settings,
        None,
        place,
        on_progress=on_progress,
        retry_failed=retry_failed,
        until_s=until_s,
        max_runtime_s=max_runtime_s,
        submit_only=submit_only,
        observer=observer,
        observers=observers,
        shared_limits=shared_limits,
        executor=executor,
    )
