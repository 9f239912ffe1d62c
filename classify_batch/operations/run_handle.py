"""A run directory as an object to read: how far the run is, its outcomes, a table of them, a report.

Nothing is locked and nothing is changed, so a process may be running the run meanwhile. Each property reads anew.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, cast, overload

import anyio

from classify_batch.arguments import refuse_no_number
from classify_batch.errors import ExitStatus
from classify_batch.operations.export.selection import Only, make_selection
from classify_batch.operations.new_loop import run_in_thread_with_loop
from classify_batch.operations.option_words import word_of
from classify_batch.operations.outcome import Outcome, decode_outcomes
from classify_batch.operations.part_tails import PartTails, read_run_json
from classify_batch.operations.status import read_status
from classify_batch.ports import RunPlace, RunReader
from classify_batch.rundir.manifest_json import Manifest
from classify_batch.rundir.outcome_tail import OutcomeTail
from classify_batch.rundir.run_json import RunFile, shard_place
from classify_batch.store import Location, anchored
from classify_batch.vocabulary import RUN_JSON, RunState

if TYPE_CHECKING:
    from arro3.core import Table

POLL_EVERY_S = 0.25
"""How often who follows a run looks for new outcomes."""
_PAUSE_S_MAX = 5.0


def open_run(run_dir: Location) -> RunHandle:
    """A run to read, also while it is on, and also one of an older version. Nothing is locked or changed.

    Raises:
        UsageError: there is no run, or one of a newer version.
        WorldError: a process is just planning it.
    """
    handle = RunHandle(anchored(run_dir))
    read_parts(handle.place)
    return handle


class RunHandle:
    """A run in a directory, to be read. `run` returns one, too: a `RunResult`, which knows how the run ended.

    Attributes:
        place: where the run is.
    """

    def __init__(self, place: RunPlace) -> None:
        self.place = place

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.place.where}>"

    # --- How far it is ----------------------------------------------------------------------------------------------

    @property
    def run_dir(self) -> Path:
        """The run directory."""
        return Path(self.place.where)

    @property
    def status(self) -> Manifest:
        """The keys of manifest.json as they are now, with `holder` and `time_left_s` while the run is on.

        Raises:
            UsageError: there is no run any more, or a damaged one.
        """
        return read_status(self.place)

    @property
    def manifest(self) -> Manifest:
        """The keys of manifest.json."""
        return self.status

    @property
    def state(self) -> RunState:
        """Running, incomplete or complete."""
        return RunState(self.manifest["state"])

    @property
    def exit_status(self) -> ExitStatus | None:
        """The status for a scheduler; None while the run is on, and after a kill."""
        status = self.manifest["exit_status"]
        return None if status is None else ExitStatus(status)

    @property
    def reason(self) -> str:
        """Why it is incomplete; empty where nobody said."""
        return self.manifest["reason"] or ""

    @property
    def hint(self) -> str:
        """What to do about it."""
        return self.manifest.get("hint") or ""

    @property
    def counts(self) -> dict[str, int]:
        """Files by outcome: classified, unmatched, failed."""
        return dict(self.manifest["counts"])

    @property
    def types(self) -> dict[str, int]:
        """Classified files by type."""
        return dict(self.manifest["types"])

    # --- Its outcomes -----------------------------------------------------------------------------------------------

    def outcomes(self, only: Only | str | None = None) -> Iterator[Outcome]:
        """The outcomes that are committed, in the order of their commits, in memory that doesn't grow with the run.

        `only`: those that are `classified`, `unmatched` or `failed`; or, as the run's `[triage]` says, `accepted` or
        `review`.

        Raises:
            UsageError: there is no such `only`, or the run has no triage.
            DamagedError: what was committed is not there as it was written.
            WorldError: `retry_failed` reopened the run while it was read.
        """
        return read_outcomes(self.place, only)

    def results(self) -> Iterator[Outcome]:
        """The answered files, read one after the other."""
        return (each for each in read_outcomes(self.place, None) if not each.failed)

    def failures(self) -> Iterator[Outcome]:
        """The failed files, read one after the other."""
        return read_outcomes(self.place, Only.FAILED)

    def follow(self, *, poll_every_s: float = POLL_EVERY_S) -> Following:
        """The outcomes that are committed, and then those that are as the run goes on, in whatever process: an
        iterator for `for` and for `async for`. It ends when no process holds the run, or any shard of it, complete or
        not. Those of shards come in the order in which they are found.

        Where failed files are retried meanwhile, each comes again with its new outcome: the last one counts.
        """
        return Following(self.place, poll_every_s)

    # --- For people and for tables ----------------------------------------------------------------------------------

    def to_arrow(self, only: Only | str | None = None) -> Table:
        """The outcomes as an Arrow table, whose columns are those of an export to CSV; also where there are none yet.

        Raises:
            UsageError: the extra `parquet` isn't installed; or as `outcomes`.
        """
        from classify_batch.operations.arrow_table import read_batches  # noqa: PLC0415 - an extra

        return read_batches(self.place, only).read_all()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The outcomes for whatever reads Arrow: `polars.DataFrame(run)`, `pyarrow.table(run)`, DuckDB. They are read
        while they are taken."""
        from classify_batch.operations.arrow_table import read_batches  # noqa: PLC0415 - an extra

        return read_batches(self.place, None).__arrow_c_stream__(requested_schema)

    @overload
    def report(self, output: PathLike[str] | None = None, *, examples: bool = True) -> Path: ...
    @overload
    def report(self, output: str | PathLike[str] | None, *, examples: bool = True) -> Path | str: ...
    def report(self, output: str | PathLike[str] | None = None, *, examples: bool = True) -> Path | str:
        """Writes the report of the run, one HTML page; returns its path, or its URL. See `classify_batch.report`."""
        from classify_batch.operations.report.write_report import areport  # noqa: PLC0415 - seldom wanted

        return run_in_thread_with_loop(partial(areport, self.run_dir, output, examples))

    def _repr_html_(self) -> str:
        """The run in a notebook: how far it is, and what it found."""
        manifest = self.manifest
        done, files = sum(manifest["counts"].values()), manifest["files"]
        rows = [("state", manifest["state"]), ("files", f"{done:,} of {files:,} have their outcome")]
        rows += [(name, f"{count:,}") for name, count in manifest["counts"].items() if count]
        rows += [(f"type {name}", f"{count:,}") for name, count in manifest["types"].items()]
        rows += [("reason", manifest["reason"])] if manifest["reason"] else []
        cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in rows)
        return f"<table><caption>{escape(self.place.where)}</caption>{cells}</table>"


class Following:
    """The outcomes of a run as they are committed; see `RunHandle.follow`. It can be iterated over once."""

    def __init__(self, place: RunPlace, poll_every_s: float) -> None:
        refuse_no_number("poll_every_s", poll_every_s, "a number of seconds")
        self._poll_every_s = poll_every_s
        self._tails = PartTails(place)

    def _is_over(self) -> bool:
        """Asked before the outcomes are read: what a process committed last is read then."""
        return not self._tails.is_held()

    def __iter__(self) -> Iterator[Outcome]:
        while True:
            began_s, over = time.monotonic(), self._is_over()
            for found in self._tails.poll_committed():
                yield from found.decode()
            if over:
                return
            time.sleep(self._pause_s(began_s))

    async def __aiter__(self) -> AsyncIterator[Outcome]:
        while True:
            began_s, over = time.monotonic(), await anyio.to_thread.run_sync(self._is_over)
            batches = self._tails.poll_committed()
            while (found := await anyio.to_thread.run_sync(next, batches, None)) is not None:
                for outcome in found.decode():
                    yield outcome
            if over:
                return
            await anyio.sleep(self._pause_s(began_s))

    def _pause_s(self, began_s: float) -> float:
        """To look for what thousands of shards have committed takes its time: at least half of it is rest."""
        return max(self._poll_every_s, min(_PAUSE_S_MAX, time.monotonic() - began_s))


def read_parts(place: RunPlace) -> list[tuple[RunReader, RunFile]]:
    """Where the outcomes of a run are: in its place; of one with shards also in those that were begun. Raises
    RunDirectoryError where there is no run, or one of a newer version."""
    reader = place.reader()
    run = read_run_json(reader, takes_shards=True)
    readers = [shard_place(place, index).reader() for index in range(len(run.shards or ()))]
    begun = [each for each in readers if each.size(RUN_JSON) is not None]
    return [(reader, run), *((each, read_run_json(each)) for each in begun)]


def read_outcomes(place: RunPlace, only: Only | str | None) -> Iterator[Outcome]:
    """The committed outcomes that `only` selects; see `RunHandle.outcomes`. What is wrong with `only` is said at once,
    and not by the first step."""
    parts = read_parts(place)
    selection = make_selection(word_of(Only, "only", only), parts[0][1], place.where)
    is_selected = cast("Callable[[Outcome], bool]", selection.includes)  # which asks for the same attributes

    tails = [(reader, OutcomeTail(reader, run, selection.needed_logs)) for reader, run in parts]

    def read() -> Iterator[Outcome]:
        for reader, tail in tails:
            for log, data in tail.poll_committed(follows=False):
                outcomes = decode_outcomes(data, f"{log} in {reader.where}")
                yield from outcomes if selection.only is None else filter(is_selected, outcomes)

    return read()
