"""What `run.json` says, apart from how it is written: `status` reads it without loading what a run needs."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

from classify_batch.errors import DamagedError, RunDirectoryError

NAME = "run.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class RunFile:
    """The contents of run.json. Readers ignore keys they don't know.

    Attributes:
        settings: as used when the run was planned, without secrets.
        identity: what a command must share with the run to go on with it.
        files: distinct file IDs; duplicates: repeated ones that were left out.
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


_KINDS = {"int": int, "str": str, "dict[str, Any]": dict}
_TYPES = {field.name: _KINDS[str(field.type)] for field in fields(RunFile)}


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
    for name, kind in _TYPES.items():
        if not isinstance(values.get(name), kind):
            raise _damaged(where, f"{name}: {'missing' if name not in values else 'not what it must be'}")
    return RunFile(**{name: values[name] for name in _TYPES})


def _damaged(where: str, why: str) -> DamagedError:
    return DamagedError(
        f"{where} is damaged: {why}", hint="put the file back from a copy, or begin a new run directory"
    )
