"""`run`, and its twin for running event loops: what programs call first."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from classify_batch.engine.shutdown import Shutdown
from classify_batch.inputs.open import SourceSpec, anchored_source
from classify_batch.inputs.reading import parse_reading
from classify_batch.limits.shared_limits import SharedLimits
from classify_batch.operations.folder_request import as_globs
from classify_batch.operations.function_observer import Observe, all_observers
from classify_batch.operations.new_loop import refuse_no_asyncio, run_in_new_loop
from classify_batch.operations.result import RunResult
from classify_batch.operations.reuse.earlier_runs import Reuse
from classify_batch.operations.run import refuse_no_settings
from classify_batch.operations.run_request import Executor, OnProgress, RunRequest
from classify_batch.operations.shards.carry_out import carry_out
from classify_batch.operations.shards.choice import Shard, parse_shards
from classify_batch.ports import Observer
from classify_batch.settings import Settings
from classify_batch.store import Location, anchored


def run(
    settings: Settings,
    file_ids: SourceSpec | None = None,
    run_dir: Location = "run",
    *,
    column: str | None = None,
    input_format: str | None = None,
    delimiter: str | None = None,
    on_progress: OnProgress | None = None,
    retry_failed: bool = False,
    until_s: float | None = None,
    max_runtime_s: float | None = None,
    reuse: Reuse = (),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    submit_only: bool = False,
    observer: Observe | None = None,
    observers: Sequence[Observer] = (),
    shared_limits: SharedLimits | None = None,
    trust_run_dir: bool = False,
    shards: int | None = None,
    shard: Shard = None,
    executor: Executor | None = None,
) -> RunResult:
    """Classifies files and waits for the end; the same call resumes an interrupted run.

    Args:
        settings: see `Settings.load`.
        file_ids: an iterable (asynchronous or not) of IDs or of mappings that have them, or a source as on the command
            line: a path, the URL of an object, "-" or "project:". None: the run in the directory goes on.
        run_dir: the run directory; created if it doesn't exist.
        column: the column or key of the IDs; "file_id" if None.
        input_format: "lines", "csv", "tsv", "jsonl" or "json"; None: the content says.
        delimiter: what stands between the columns of a table; None: its header says.
        on_progress: called every half second, and awaited if it returns an awaitable. What it raises is logged once,
            and the run goes on.
        retry_failed: tries the failed files of the run again first.
        until_s: when creating jobs ends, in seconds since the epoch; jobs in flight are collected for
            `limits.drain_s` more.
        max_runtime_s: the same, as a span in seconds from now: it doesn't follow a clock that is set. Whichever of the
            two comes first ends creating.
        reuse: run directories, and folders of them, whose outcomes a new run reuses if their rules, mode and parsing
            configuration are the same; only the other files are sent. An existing run keeps its plan.
        include, exclude: where `file_ids` is a folder: globs, held against a document's name and its path in the
            folder. Only what one of `include` matches is taken (all, if there are none), and nothing that one of
            `exclude` matches. An existing run keeps those that it was planned with.
        submit_only: creates as many jobs as `limits.jobs_in_flight` allows (0: all) and returns; a later call without
            it collects them.
        observer: a function that is given every event of the run (`classify_batch.events`), one after the other. A
            coroutine function is awaited; a plain one is called in a thread of its own, and may block. What it raises
            is logged once, and it is not called any more. Of an observer that is more than 10,000 events behind,
            further ones are dropped and counted: nothing waits for it.
        observers: each is given every event, like `observer`, by its coroutine `observe`.
        shared_limits: the rate and the requests in flight that this run shares with others; see `SharedLimits`.
        trust_run_dir: uses the directory also where other users could misuse it: where it is another user's and every
            user may write to it, and where links stand in the place of its files.
        shards: into how many shards a new run is divided, each with a run directory of its own inside of `run_dir`;
            they are carried out one after the other. An existing run must have as many. None: as it was planned.
        shard: carries out this shard alone, from 0 on, or "auto": the one that the environment names. Another process
            may carry out another one at the same time; whichever comes first plans the run.
        executor: carries out all shards of a run that has some. None: this process, one after the other.

    Raises:
        UsageError: settings, input or directory don't fit, or it was called inside a running event loop (use
            `await arun(…)` there); nothing was sent.
        WorldError: another process holds the run, or the disk refuses a write; the same call goes on later.
    """
    return run_in_new_loop(
        "run",
        partial(
            arun,
            settings,
            file_ids,
            run_dir,
            column=column,
            input_format=input_format,
            delimiter=delimiter,
            on_progress=on_progress,
            retry_failed=retry_failed,
            until_s=until_s,
            max_runtime_s=max_runtime_s,
            reuse=reuse,
            include=include,
            exclude=exclude,
            submit_only=submit_only,
            observer=observer,
            observers=observers,
            shared_limits=shared_limits,
            trust_run_dir=trust_run_dir,
            shards=shards,
            shard=shard,
            executor=executor,
        ),
    )


async def arun(
    settings: Settings,
    file_ids: SourceSpec | None = None,
    run_dir: Location = "run",
    *,
    column: str | None = None,
    input_format: str | None = None,
    delimiter: str | None = None,
    on_progress: OnProgress | None = None,
    retry_failed: bool = False,
    until_s: float | None = None,
    max_runtime_s: float | None = None,
    reuse: Reuse = (),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    submit_only: bool = False,
    observer: Observe | None = None,
    observers: Sequence[Observer] = (),
    shared_limits: SharedLimits | None = None,
    trust_run_dir: bool = False,
    shards: int | None = None,
    shard: Shard = None,
    executor: Executor | None = None,
) -> RunResult:
    """Like `run`, inside a running asyncio loop. After a cancellation, the same call resumes the run."""
    refuse_no_asyncio("arun")
    refuse_no_settings(settings)
    chosen = parse_shards(shards, shard)
    return await carry_out(
        RunRequest(
            settings,
            None if file_ids is None else anchored_source(file_ids),
            anchored(run_dir, trusted=trust_run_dir),
            parse_reading(input_format, delimiter, column),
            reuse,
            retry_failed,
            until_s,
            max_runtime_s,
            submit_only=submit_only,
            on_progress=on_progress,
            observers=all_observers(observer, observers),
            shared_limits=shared_limits,
            include=as_globs(include),
            exclude=as_globs(exclude),
            shards=chosen.shards,
            shard=chosen.shard,
            executor=executor,
        ),
        Shutdown(),
    )
