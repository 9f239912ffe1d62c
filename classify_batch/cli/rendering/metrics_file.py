"""How far a run is, in Prometheus' text format, for the textfile collector of a node exporter.

The file is whole at any time: it is written beside, under a name that the collector doesn't take, and renamed. It can
be read by everybody, since the exporter is another user. Its samples name the run directory, so that many runs can
write to one folder, each to its own file.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from classify_batch.cli.rendering.output_file import replace_output
from classify_batch.vocabulary import OutcomeKind, RunState

if TYPE_CHECKING:
    from classify_batch.engine.progress import Progress
    from classify_batch.errors import ClassifyBatchError
    from classify_batch.operations.result import RunResult

EVERY_S = 15.0
"""As often as Prometheus usually asks."""

log = logging.getLogger("classify_batch")


@dataclass(slots=True)
class Numbers:
    """A run at one point in time. What is None isn't known, and not written."""

    files: int | None = None
    outcomes: Mapping[str, int] = field(default_factory=dict)
    jobs: int | None = None
    requests: int | None = None
    in_flight: int | None = None
    ambiguous: int | None = None
    waiting_s: float | None = None
    credits: float | None = None
    state: str = RunState.RUNNING.value
    exit_status: int | None = None


class MetricsFile:
    """Writes the numbers of one run to a file. What can't be written is said once, and the run goes on."""

    def __init__(self, path: Path, run_dir: Path) -> None:
        self._path = path
        self._run_dir = str(run_dir)
        self._numbers = Numbers()
        self._written_s = -EVERY_S
        self._failed = False

    async def update(self, progress: Progress) -> None:
        """Takes how far the run is, and writes it if it is time to."""
        self._numbers = numbers_of(progress)
        if time.monotonic() - self._written_s >= EVERY_S:
            self._written_s = time.monotonic()
            await anyio.to_thread.run_sync(self._replace_file, self._numbers)

    def write_end(self, result: RunResult) -> None:
        """Writes how the run stands when this process leaves it."""
        manifest = result.manifest
        numbers = Numbers(manifest["files"], manifest["counts"], manifest["jobs"], manifest["requests"], 0, 0, 0.0)
        credits = manifest.get("credits")
        numbers.credits = None if credits is None else credits["reserved"]
        numbers.state, numbers.exit_status = result.state.value, int(result.exit_status)
        self._replace_file(numbers)

    def end_with_error(self, error: ClassifyBatchError) -> None:
        """Writes what is known, and the exit status."""
        self._numbers.state, self._numbers.exit_status = RunState.INCOMPLETE.value, int(error.exit_status)
        self._replace_file(self._numbers)

    def _replace_file(self, numbers: Numbers) -> None:
        words = format_metrics(numbers, self._run_dir, time.time())
        try:
            replace_output(self._path, words.encode("utf-8", "replace"))
        except OSError as error:
            if not self._failed:
                log.warning("%s can't be written: %s; the run goes on without it", self._path, error.strerror or error)
            self._failed = True


def numbers_of(progress: Progress) -> Numbers:
    """The numbers of a run that is on."""
    return Numbers(
        progress.files,
        progress.outcomes,
        progress.jobs,
        progress.requests,
        progress.in_flight,
        progress.ambiguous,
        progress.waiting_s,
        progress.credits.reserved,
    )


def format_metrics(numbers: Numbers, run_dir: str, now_s: float) -> str:
    """The metrics in Prometheus' text format, version 0.0.4."""
    lines: list[str] = []
    for name, kind, words, samples in _make_metrics(numbers, now_s):
        known = [(labels, value) for labels, value in samples if value is not None]
        if known:
            lines += [f"# HELP classify_batch_{name} {words}", f"# TYPE classify_batch_{name} {kind}"]
        for labels, value in known:
            named = ",".join(f'{key}="{_escape_label(text)}"' for key, text in {"run_dir": run_dir, **labels}.items())
            lines.append(f"classify_batch_{name}{{{named}}} {value!r}")
    return "\n".join(lines) + "\n"


Samples = list[tuple[dict[str, str], float | None]]


def _make_metrics(numbers: Numbers, now_s: float) -> Iterator[tuple[str, str, str, Samples]]:
    outcomes: Samples = [({"outcome": kind}, numbers.outcomes.get(kind, 0)) for kind in map(str, OutcomeKind)]
    states: Samples = [({"state": state}, int(state == numbers.state)) for state in map(str, RunState)]
    yield "files", "gauge", "Files of the run.", [({}, numbers.files)]
    yield "outcomes", "gauge", "Files that have their outcome.", outcomes if numbers.files is not None else []
    yield "jobs_total", "counter", "Jobs that the API accepted.", [({}, numbers.jobs)]
    yield "requests_total", "counter", "Requests that were sent.", [({}, numbers.requests)]
    yield "jobs_in_flight", "gauge", "Jobs in flight.", [({}, numbers.in_flight)]
    yield "ambiguous_creates", "gauge", "Creates that may have been accepted.", [({}, numbers.ambiguous)]
    yield "waiting_seconds", "gauge", "Seconds for which nothing will be sent.", [({}, numbers.waiting_s)]
    yield "credits_reserved", "gauge", "The most that was spent.", [({}, numbers.credits)]
    yield "state", "gauge", "1 for the state of the run.", states
    yield "exit_status", "gauge", "The exit status, once the command has ended.", [({}, numbers.exit_status)]
    yield "updated_timestamp_seconds", "gauge", "When this was written.", [({}, round(now_s, 3))]


def _escape_label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
