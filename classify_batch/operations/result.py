"""The result of a run: how far it is when `run` returns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classify_batch.errors import ExitStatus
from classify_batch.vocabulary import Log, RunState


@dataclass(frozen=True, slots=True)
class RunResult:
    """How far a run is when `run` returns.

    Attributes:
        state: complete or incomplete.
        exit_status: the status for a scheduler.
        reason, hint: why it is incomplete, and what to do; empty when complete.
        manifest: the keys of manifest.json.
        called: False if the run was complete already, so that nothing was called or written.
    """

    run_dir: Path
    state: RunState
    exit_status: ExitStatus
    reason: str
    hint: str
    manifest: dict[str, Any]
    called: bool = True

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
        return read_json_lines(self.run_dir / Log.RESULTS)

    def failures(self) -> Iterator[dict[str, Any]]:
        """The failed files: the lines of failures.jsonl, read one after the other."""
        return read_json_lines(self.run_dir / Log.FAILURES)


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a JSONL file; none where there is no file."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        for line in file:
            yield json.loads(line)
