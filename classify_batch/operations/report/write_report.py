"""Writes the report of a run, or of two. Nothing in their directories is changed, but for the report itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import overload

from classify_batch.arguments import refuse_no_flag, refuse_no_iterable
from classify_batch.clock import SystemClock, to_iso
from classify_batch.errors import UsageError
from classify_batch.operations.diff.diff_runs import diff_runs
from classify_batch.operations.diff.summary import summarize_diff
from classify_batch.operations.export.target import FileTarget, ObjectTarget, Target, target_of
from classify_batch.operations.new_loop import refuse_no_asyncio, run_in_new_loop
from classify_batch.operations.part_tails import read_run_json
from classify_batch.operations.report.next_commands import compare_commands
from classify_batch.operations.report.run_report import folder_of, gather_report
from classify_batch.store import place_of
from classify_batch.streams.single_block import single_block

REPORT_HTML = "report.html"
SUFFIXES = (".html", ".htm")

RunDirs = str | PathLike[str] | Sequence[str | PathLike[str]]


@overload
def report(run_dirs: RunDirs, output: PathLike[str] | None = None, examples: bool = True) -> Path: ...
@overload
def report(run_dirs: RunDirs, output: str | PathLike[str] | None, examples: bool = True) -> Path | str: ...
def report(run_dirs: RunDirs, output: str | PathLike[str] | None = None, examples: bool = True) -> Path | str:
    """Writes the report of a run, or of two and what changed between them, as one HTML page.

    A run may be incomplete, or still running. The page is written whole or not at all, only its owner can read it, and
    an existing one is replaced.

    Args:
        run_dirs: a run directory, or two: the earlier run first.
        output: where to write the page, with the suffix .html: a path or the URL of an object (`s3://bucket/key.html`);
            `report.html` in the (later) run directory if None.
        examples: whether the page names files and repeats the server's words; False leaves out what may be
            confidential.

    Returns:
        The absolute path of the page, or its URL.

    Raises:
        UsageError: `output` has another suffix or can't be a file; a directory holds no run, or a damaged one; or there
            are not one or two directories; or it was called inside a running event loop.
        WorldError: a process is just planning a run, or `retry_failed` reopened it meanwhile; or
            the page can't be written.
        ObjectAccessError: the store of the object wants other credentials.
    """
    return run_in_new_loop("report", partial(areport, run_dirs, output, examples))


@overload
async def areport(run_dirs: RunDirs, output: PathLike[str] | None = None, examples: bool = True) -> Path: ...
@overload
async def areport(run_dirs: RunDirs, output: str | PathLike[str] | None, examples: bool = True) -> Path | str: ...
async def areport(run_dirs: RunDirs, output: str | PathLike[str] | None = None, examples: bool = True) -> Path | str:
    """`report` inside an event loop."""
    refuse_no_asyncio("areport")
    from classify_batch.operations.report.page import make_page  # noqa: PLC0415 - jinja2 is for this alone

    refuse_no_flag("examples", examples)
    places = [run_dirs] if isinstance(run_dirs, str | PathLike) else run_dirs
    refuse_no_iterable("run_dirs", places, "name one or two directories")
    places = list(places)
    if len(places) not in (1, 2):
        raise UsageError(f"a report is of one run or of two, not of {len(places)}", hint="name one or two directories")
    for place in places:
        read_run_json(place_of(place).reader(), takes_shards=True)  # says at once where there is no run
    folders = [folder_of(place) for place in places]
    target = _report_target(output, folders[-1])
    reports = [await gather_report(place, examples=examples) for place in places]
    changes = None
    if len(places) == 2:
        found = await diff_runs(places[0], places[1])
        changes = summarize_diff(found, (str(folders[0]), str(folders[1])))
    page = make_page(
        reports,
        made_at=to_iso(SystemClock().wall_s()),
        version=version("classify-batch"),
        examples=examples,
        changes=changes,
        commands=compare_commands(folders[0], folders[1]) if changes else reports[0].commands,
    )
    await target.write(single_block(page))
    return target.name


def _report_target(output: str | PathLike[str] | None, folder: Path) -> Target:
    target = target_of(folder / REPORT_HTML if output is None else output)
    if not isinstance(target, ObjectTarget):
        target = FileTarget(Path(target.name).absolute())
    if target.suffix not in SUFFIXES:
        raise UsageError(f"{target.name}: a report is a page of HTML", hint=f"name a file that ends with {SUFFIXES[0]}")
    target.refuse_if_bad()
    return target
