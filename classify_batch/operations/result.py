"""The result of a run: how far it is when `run` returns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classify_batch.errors import ExitStatus
from classify_batch.ports import RunPlace, RunReader
from classify_batch.rundir.manifest_json import Manifest
from classify_batch.vocabulary import Log, RunState

_BLOCK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class RunResult:
    """How far a run is when `run` returns.

    Attributes:
        place: where the run is.
        state: complete or incomplete.
        exit_status: the status for a scheduler.
        reason, hint: why it is incomplete, and what to do; empty when complete.
        manifest: the keys of manifest.json.
        called: False if the run was complete already, so that nothing was called or written.
    """

    place: RunPlace
    state: RunState
    exit_status: ExitStatus
    reason: str
    hint: str
    manifest: Manifest
    called: bool = True

    @property
    def run_dir(self) -> Path:
        """The run directory."""
        return Path(self.place.where)

    @property
    def counts(self) -> dict[str, int]:
        """Files by outcome: classified, unmatched, failed."""
        return dict(self.manifest["counts"])

    @property
    def types(self) -> dict[str, int]:
        """Classified files by type."""
        return dict(self.manifest["types"])

    def results(self) -> Iterator[dict[str, Any]]:
        """The answered files: the lines of results.jsonl, read one after the other."""
        return read_json_lines(self.place.reader(), Log.RESULTS)

    def failures(self) -> Iterator[dict[str, Any]]:
        """The failed files: the lines of failures.jsonl, read one after the other."""
        return read_json_lines(self.place.reader(), Log.FAILURES)


def read_json_lines(reader: RunReader, name: str) -> Iterator[dict[str, Any]]:
    """The lines of a JSONL file; none where there is no file."""
    start, rest = 0, b""
    while block := reader.read(name, start, start + _BLOCK_BYTES):
        start += len(block)
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield json.loads(line)
    if rest:
        yield json.loads(rest)
