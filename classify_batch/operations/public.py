"""What programs call besides `run`: each command as a function, and its twin for running event loops.

`X` runs `aX` in a new event loop, and refuses to inside a running one. Both have their arguments written out, though
they are the same: an editor shows them where the function is called, and a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from classify_batch.arguments import (
    path_text,
    refuse_no_flag,
    refuse_no_function,
    refuse_no_iterable,
    refuse_no_number,
    whole_number,
)
from classify_batch.errors import UsageError
from classify_batch.inputs.open import SourceSpec, anchored_source
from classify_batch.inputs.reading import parse_reading
from classify_batch.operations.check.check_input import Report, check_run
from classify_batch.operations.diff.changes import Change, Diff
from classify_batch.operations.diff.diff_runs import diff_runs
from classify_batch.operations.export.export_run import Exported, export_run
from classify_batch.operations.export.selection import Only
from classify_batch.operations.folder_request import as_globs
from classify_batch.operations.make_plan import make_plan
from classify_batch.operations.new_loop import refuse_no_asyncio, run_in_new_loop
from classify_batch.operations.option_words import word_of
from classify_batch.operations.reuse.earlier_runs import Reuse
from classify_batch.operations.run import refuse_no_settings
from classify_batch.operations.shards.choice import parse_shards
from classify_batch.operations.shards.verify_run import verify_run
from classify_batch.operations.uploads import NotUploaded, Uploaded, upload_files
from classify_batch.operations.verify import Verification
from classify_batch.rundir.cost import estimate_cost_max
from classify_batch.rundir.planned_parse_jobs import count_planned_parse_jobs
from classify_batch.settings import Settings
from classify_batch.store import Location, anchored

UPLOADS_IN_FLIGHT_MAX = 64

CheckReport: TypeAlias = Report


def _ignore(_looked_up: int, _files: int) -> None:
    """The `on_progress` of a check for which none was given."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A run that is planned, and not begun.

    Attributes:
        files: different file IDs; duplicates: repeated ones, left out.
        reused: files whose outcome was taken over from earlier runs; chunks: jobs that the others take.
        credits_max, dollars_max: the most that these can cost.
    """

    run_dir: Path
    run_id: str
    files: int
    duplicates: int
    reused: int
    chunks: int
    credits_max: float
    dollars_max: float


# --- Before a run -------------------------------------------------------------------------------------------------


def plan(
    settings: Settings,
    file_ids: SourceSpec,
    run_dir: Location,
    *,
    column: str | None = None,
    input_format: str | None = None,
    delimiter: str | None = None,
    reuse: Reuse = (),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    trust_run_dir: bool = False,
    shards: int | None = None,
) -> Planned:
    """Writes the plan of a run, and sends nothing; `run` or `resume` then carries it out. Arguments as for `run`.

    Raises:
        UsageError: settings, input or directory don't fit; or it was called inside a running event loop.
        WorldError: another process holds the run, or the disk refuses a write.
        ApiError: the input is `project:`, and its files can't be listed.
    """
    return run_in_new_loop(
        "plan",
        partial(
            aplan,
            settings,
            file_ids,
            run_dir,
            column=column,
            input_format=input_format,
            delimiter=delimiter,
            reuse=reuse,
            include=include,
            exclude=exclude,
            trust_run_dir=trust_run_dir,
            shards=shards,
        ),
    )


async def aplan(
    settings: Settings,
    file_ids: SourceSpec,
    run_dir: Location,
    *,
    column: str | None = None,
    input_format: str | None = None,
    delimiter: str | None = None,
    reuse: Reuse = (),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    trust_run_dir: bool = False,
    shards: int | None = None,
) -> Planned:
    """`plan` inside an event loop."""
    refuse_no_asyncio("aplan")
    refuse_no_settings(settings)
    place = anchored(run_dir, trusted=trust_run_dir)
    reading = parse_reading(input_format, delimiter, column)
    run = await make_plan(
        settings,
        anchored_source(file_ids),
        place,
        reading=reading,
        reuse=reuse,
        include=as_globs(include),
        exclude=as_globs(exclude),
        shards=parse_shards(shards, None).shards,
    )
    done = 0 if run.reused is None else run.reused.chunks
    takes_parse_jobs = settings.api.capabilities.takes_parse_jobs
    parse_jobs = await count_planned_parse_jobs(place.open(), done) if takes_parse_jobs else 0
    cost = estimate_cost_max(run.files - run.reused_files, settings, parse_jobs=parse_jobs)
    return Planned(
        Path(place.where),
        run.run_id,
        run.files,
        run.duplicates,
        run.reused_files,
        run.chunks - done,
        cost.credits,
        cost.dollars,
    )


def check(
    settings: Settings,
    file_ids: SourceSpec,
    run_dir: str | PathLike[str] | None = None,
    *,
    column: str | None = None,
    input_format: str | None = None,
    delimiter: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    on_progress: Callable[[int, int], None] = _ignore,
) -> CheckReport:
    """Finds out what will go wrong with a run, before a credit is spent: settings, input, key, files, time, cost, disk.

    Args:
        file_ids, column, input_format, delimiter, include, exclude: as for `run`.
        run_dir: where the run will be, for its disk space. None: in the working directory.
        on_progress: called every five seconds with how many files were looked up, and of how many.

    Returns:
        The `findings`, the number of `files` and `duplicates`, the plan's `size`; and the `exit_status`, which is 0 if
        nothing stops a run. Errors in the input and of the API are findings.

    Raises:
        UsageError: globs were given, and the input is no folder; or it was called inside a running event loop.
        WorldError: temporary files can't be written.
    """
    return run_in_new_loop(
        "check",
        partial(
            acheck,
            settings,
            file_ids,
            run_dir,
            column=column,
            input_format=input_format,
            delimiter=delimiter,
            include=include,
            exclude=exclude,
            on_progress=on_progress,
        ),
    )


async def acheck(
    settings: Settings,
    file_ids: SourceSpec,
    run_dir: str | PathLike[str] | None = None,
    *,
    column: str | None = None,
    input_format: str | None = None,
    delimiter: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    on_progress: Callable[[int, int], None] = _ignore,
) -> CheckReport:
    """`check` inside an event loop."""
    refuse_no_asyncio("acheck")
    refuse_no_settings(settings)
    refuse_no_function("on_progress", on_progress, "a function that is given two numbers")
    reading = parse_reading(input_format, delimiter, column)
    folder = None if run_dir is None else Path(path_text(run_dir, "the run directory"))
    return await check_run(
        settings,
        anchored_source(file_ids),
        reading=reading,
        run_dir=folder,
        include=as_globs(include),
        exclude=as_globs(exclude),
        on_progress=on_progress,
    )


def upload(
    settings: Settings, paths: Sequence[str | PathLike[str]], *, recursive: bool = False, concurrency: int = 4
) -> list[Uploaded | NotUploaded]:
    """Uploads files to the project, each content once; the same call again sends only what is missing.

    Args:
        paths: files, and with `recursive` folders: all files in them, except hidden ones; links to folders aren't
            followed.
        concurrency: files in flight, 1 to 64.

    Returns:
        For each file an `Uploaded` (`path`, `stored.id`, `external_file_id`, `sent`) or a `NotUploaded` (`path`,
        `reason`), in the order in which they ended.

    Raises:
        UsageError: a path doesn't exist, or is a folder without `recursive`; nothing was sent. Or it was called inside
            a running event loop.
        ApiError: the API is down, or a person must act.
    """
    return run_in_new_loop("upload", partial(aupload, settings, paths, recursive=recursive, concurrency=concurrency))


async def aupload(
    settings: Settings, paths: Sequence[str | PathLike[str]], *, recursive: bool = False, concurrency: int = 4
) -> list[Uploaded | NotUploaded]:
    """`upload` inside an event loop."""
    refuse_no_asyncio("aupload")
    refuse_no_settings(settings)
    hint = f"a number from 1 to {UPLOADS_IN_FLIGHT_MAX}"
    if not 1 <= whole_number("concurrency", concurrency, hint) <= UPLOADS_IN_FLIGHT_MAX:
        raise UsageError(f"concurrency={concurrency}", hint=hint)
    if isinstance(paths, str | PathLike):
        paths = [paths]
    refuse_no_iterable("paths", paths, "a list of paths")
    refuse_no_flag("recursive", recursive)
    ends: list[Uploaded | NotUploaded] = []
    files = [Path(path_text(each, "a path to upload")) for each in paths]
    await upload_files(settings, files, recursive=recursive, concurrency=concurrency, on_end=ends.append)
    return ends


# --- After a run --------------------------------------------------------------------------------------------------


def verify(run_dir: Location) -> Verification:
    """Proves that a run is sound: one outcome per file ID, every committed byte as it was written.

    Returns:
        `errors` (damage, each with file and line; empty if it is sound), `notes`, and whether it is `complete`.

    Raises:
        UsageError: there is no run, or it was called inside a running event loop.
        WorldError: a process is just planning the run.
    """
    return run_in_new_loop("verify", partial(averify, run_dir))


async def averify(run_dir: Location) -> Verification:
    """`verify` inside an event loop."""
    refuse_no_asyncio("averify")
    return await verify_run(anchored(run_dir))


def export(
    run_dir: Location,
    target: str | PathLike[str],
    *,
    only: Only | str | None = None,
    partition: Sequence[str] = (),
) -> Exported:
    """Writes the committed outcomes of a run to a file: JSONL, CSV, Parquet or Arrow, by its suffix; whole or not at
    all.

    Args:
        target: a path, or the URL of an object: `s3://bucket/key.parquet`, `gs://…`, `az://…`.
        only: those that are `classified`, `unmatched` or `failed`; or, as the run's `[triage]` says, `accepted` or
            `review`.
        partition: such as `["dt=2026-11-22"]`: then `target` is a directory, and the file
            `target/dt=2026-11-22/RUN_ID.parquet`.

    Raises:
        UsageError: the target has another suffix, or is a run's own file; there is no run, no such `only`, no triage,
            no bucket, or no extra `parquet` or `s3`; or it was called inside a running event loop.
        WorldError: a process is just planning the run, or `retry_failed` reopened it meanwhile; or
            the target can't be written.
        ObjectAccessError: the store of the object wants other credentials.
    """
    return run_in_new_loop("export", partial(aexport, run_dir, target, only=only, partition=partition))


async def aexport(
    run_dir: Location,
    target: str | PathLike[str],
    *,
    only: Only | str | None = None,
    partition: Sequence[str] = (),
) -> Exported:
    """`export` inside an event loop."""
    refuse_no_asyncio("aexport")
    return await export_run(anchored(run_dir), target, only=word_of(Only, "only", only), partition=partition)


def diff(
    before: Location,
    after: Location,
    *,
    min_confidence_change: float = 0.1,
    only: Change | str | None = None,
    sink: Callable[[bytes], object] | None = None,
) -> Diff:
    """What changed from one run to another: how many files by change (`counts`), and by old and new answer (`pairs`).

    Args:
        min_confidence_change: how far a confidence must move to count, from 0 to 1.
        only, sink: `sink` is called with the lines (JSONL) of the files with the change `only`, some at a time: `new`,
            `gone`, `outcome`, `type` or `confidence`.

    Raises:
        UsageError: one of the directories holds no run; or it was called inside a running event loop.
        WorldError: a process is just planning the run, or `retry_failed` reopened it meanwhile; or
            temporary files can't be written.
    """
    return run_in_new_loop(
        "diff", partial(adiff, before, after, min_confidence_change=min_confidence_change, only=only, sink=sink)
    )


async def adiff(
    before: Location,
    after: Location,
    *,
    min_confidence_change: float = 0.1,
    only: Change | str | None = None,
    sink: Callable[[bytes], object] | None = None,
) -> Diff:
    """`diff` inside an event loop."""
    refuse_no_asyncio("adiff")
    refuse_no_number("min_confidence_change", min_confidence_change, "a number from 0 to 1")
    if sink is not None:
        refuse_no_function("sink", sink, "a function that is given lines")
    if not 0 <= min_confidence_change <= 1:
        raise UsageError(f"min_confidence_change={min_confidence_change}", hint="a number from 0 to 1")
    change = word_of(Change, "only", only)
    return await diff_runs(
        anchored(before), anchored(after), min_confidence_change=min_confidence_change, only=change, sink=sink
    )
