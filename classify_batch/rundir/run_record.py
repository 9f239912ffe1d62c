"""What `run.json` says, apart from how it is written: `status` reads it without loading what a run needs."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

from classify_batch.errors import DamagedError, RunDirectoryError

FORMAT = 3
"""What this version reads. 2 is written where whoever knows 1 only would go wrong: where outcomes were reused, which it
would cut off, and where there are second looks, which it would take for first ones. 3 is written for v1: one line of
its journal may name several jobs for one attempt, which whoever knows 2 only would forget."""


@dataclass(frozen=True, slots=True)
class Reused:
    """What a run took over from earlier ones when it was planned.

    Attributes:
        chunks: the plan's first ones, which hold the reused files and are done from the beginning.
        bytes: of results.jsonl, which begins with their outcomes; crc: the CRC-32 of these.
        counts, types: files by outcome, and by type; accepted: those that triage accepts, where it was asked for.
        runs: whose outcomes they were: `run_id`, `run_dir`, `files`.
    """

    chunks: int
    files: int
    bytes: int
    crc: int
    counts: dict[str, int]
    types: dict[str, int]
    accepted: int
    runs: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class RunFile:
    """The contents of run.json. Readers ignore keys they don't know.

    Attributes:
        settings: as used when the run was planned, without secrets.
        identity: what a command must share with the run to go on with it.
        files: distinct file IDs; duplicates: repeated ones that were left out.
        reused: what was taken over from earlier runs; None where nothing was.
    """

    format: int
    run_id: str
    created_at: str
    settings: dict[str, Any]
    identity: dict[str, Any]
    files: int
    duplicates: int
    chunks: int
    plan_sha256: str
    reused: Reused | None = None

    @property
    def reused_files(self) -> int:
        """Files whose outcomes were taken over."""
        return 0 if self.reused is None else self.reused.files

    @property
    def reused_bytes(self) -> int:
        """With how much of results.jsonl the run began."""
        return 0 if self.reused is None else self.reused.bytes


_KINDS = {"int": int, "str": str, "dict[str, Any]": dict, "dict[str, int]": dict, "list[dict[str, Any]]": list}
_TYPES = {field.name: _KINDS[str(field.type)] for field in fields(RunFile) if field.name != "reused"}
_REUSED_TYPES = {field.name: _KINDS[str(field.type)] for field in fields(Reused)}


def parse_run_file(data: bytes, where: str) -> RunFile:
    """The run in the bytes of a run.json. `where`: the file's name for messages.

    Raises:
        DamagedError: the file is not what was written.
        RunDirectoryError: it was written by a newer version.
    """
    try:
        values = json.loads(data)
        written_format = values["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(where, str(error)) from None
    if isinstance(written_format, int) and written_format > FORMAT:
        raise RunDirectoryError(
            f"{where} has format {written_format}, and this version reads up to {FORMAT}",
            hint="go on with the version of classify-batch that began the run, or a newer one",
        )
    told = _checked(values, _TYPES, where)
    reused = values.get("reused")
    if reused is None:
        return RunFile(**told)
    if not isinstance(reused, dict):
        raise _damaged(where, "reused: not what it must be")
    return RunFile(**told, reused=Reused(**_checked(reused, _REUSED_TYPES, where, "reused.")))


def _checked(values: dict[str, Any], kinds: dict[str, type], where: str, prefix: str = "") -> dict[str, Any]:
    for name, kind in kinds.items():
        if not isinstance(values.get(name), kind):
            raise _damaged(where, f"{prefix}{name}: {'missing' if name not in values else 'not what it must be'}")
    return {name: values[name] for name in kinds}


def _damaged(where: str, why: str) -> DamagedError:
    return DamagedError(
        f"{where} is damaged: {why}", hint="put the file back from a copy, or begin a new run directory"
    )
