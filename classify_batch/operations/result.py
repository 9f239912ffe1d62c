"""How a run stands when it was left."""

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
    """How a run stands when it was left.

    Attributes:
        state: complete or incomplete.
        exit_status: what a scheduler should be told.
        reason, hint: why it is incomplete, and what to do; empty when complete.
        manifest: the keys of manifest.json.
        called: whether anything was done; False where the run was complete already.
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
        """The answered files, one line of results.jsonl after the other; nothing is held in memory."""
        return _read_lines(self.run_dir / Log.RESULTS)

    def failures(self) -> Iterator[dict[str, Any]]:
        """The failed files, one line of failures.jsonl after the other."""
        return _read_lines(self.run_dir / Log.FAILURES)


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    with suppress(FileNotFoundError), path.open("rb") as file:
        for line in file:
            yield json.loads(line)
