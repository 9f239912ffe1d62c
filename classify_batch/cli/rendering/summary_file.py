"""How a command ended, in one small JSON object: for Airflow's XCom and for the termination message of Kubernetes.

Kubernetes takes 4,096 bytes, and mounts the file itself, so that no other file can be given its name: then it is
written in place. Otherwise it is whole or not at all.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from classify_batch.cli.rendering.output_file import overwrite_output, replace_output

if TYPE_CHECKING:
    from classify_batch.errors import ClassifyBatchError
    from classify_batch.operations.result import RunResult

BYTES_MAX = 4096

_WORDS_MAX = 1000
_TYPES_MAX = 20

log = logging.getLogger("classify_batch")


class SummaryFile:
    """Writes how a command ended. `run_dir`: as the command names it."""

    def __init__(self, path: Path, run_dir: Path) -> None:
        self._path = path
        self._run_dir = str(run_dir)

    def write_end(self, result: RunResult) -> None:
        """Writes how the run stands."""
        manifest = result.manifest
        summary: dict[str, object] = {
            "state": result.state.value,
            "exit_status": int(result.exit_status),
            "reason": result.reason or None,
            "hint": result.hint or None,
            "run_id": manifest["run_id"],
            "run_dir": self._run_dir,
            "files": manifest["files"],
            "counts": result.counts,
            "failure_codes": manifest["failure_codes"],
            "types": dict(list(result.types.items())[:_TYPES_MAX]),
            "type_count": len(result.types),
        }
        self._write_file(summary)

    def end_with_error(self, error: ClassifyBatchError) -> None:
        """Writes what ended the command."""
        status = int(error.exit_status)
        words = {"reason": str(error), "hint": error.hint or None}
        self._write_file({"state": "error", "exit_status": status, **words, "run_dir": self._run_dir})

    def _write_file(self, summary: dict[str, object]) -> None:
        data = encode_summary(summary)
        try:
            try:
                replace_output(self._path, data)
            except OSError:
                overwrite_output(self._path, data)
        except OSError as error:
            log.warning("%s can't be written: %s", self._path, error.strerror or error)


def encode_summary(summary: dict[str, object]) -> bytes:
    """The summary as one line of at most `BYTES_MAX` bytes: long words are cut, and then the types are left out."""
    cut = {name: value[:_WORDS_MAX] if isinstance(value, str) else value for name, value in summary.items()}
    for left_out in ((), ("types",), ("types", "hint"), ("types", "hint", "reason", "run_dir")):
        kept = {name: value for name, value in cut.items() if name not in left_out}
        data = json.dumps(kept).encode() + b"\n"  # ASCII: a lone surrogate, too
        if len(data) <= BYTES_MAX:
            break
    return data
