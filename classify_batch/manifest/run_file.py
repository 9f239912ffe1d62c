"""`run.json`: what a run is. Written once, last of all that planning writes: without it there is no run."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from classify_batch.clock import to_iso
from classify_batch.errors import DamagedError, RunDirectoryError
from classify_batch.manifest.plan import PlanSummary
from classify_batch.ports import Clock, RunStore
from classify_batch.settings import Settings

NAME = "run.json"
FORMAT = 1

_WHAT_DIFFERS = {
    "api_version": "API version (api.version)",
    "base_url": "base URL (api.base_url)",
    "project_id": "project (api.project_id)",
    "mode": "mode (job.mode)",
    "rules": "rules (job.rules)",
    "parsing_configuration": "parsing configuration (job.parsing_configuration)",
}


class RunFile(BaseModel):
    """The contents of run.json. Readers ignore keys they don't know.

    Attributes:
        settings: as used when the run was planned, without secrets.
        identity: what a command must share with the run to go on with it.
        files: distinct file IDs; duplicates: repeated ones that were left out.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int
    run_id: str
    created_at: str
    settings: dict[str, Any]
    identity: dict[str, Any]
    files: int
    duplicates: int
    chunks: int
    plan_sha256: str


async def write_run_file(
    store: RunStore, settings: Settings, plan: PlanSummary, duplicates: int, clock: Clock
) -> tuple[RunFile, str]:
    """Makes the run be. Returns it with the SHA-256 of its file."""
    run = RunFile(
        format=FORMAT,
        run_id=str(uuid.uuid4()),
        created_at=to_iso(clock.wall_s()),
        settings=settings.to_stored(),
        identity={**settings.identity(), "ids_sha256": plan.ids_sha256},
        files=plan.files,
        duplicates=duplicates,
        chunks=plan.chunks,
        plan_sha256=plan.sha256,
    )
    data = json.dumps(run.model_dump(), indent=2, ensure_ascii=False).encode() + b"\n"
    await store.create(NAME, data)
    return run, hashlib.sha256(data).hexdigest()


async def read_run_file(store: RunStore) -> tuple[RunFile, str] | None:
    """The run in a directory, with the SHA-256 of its file; None where there is none.

    Raises:
        DamagedError: the file is not what was written.
        RunDirectoryError: it was written by a newer version.
    """
    try:
        data = await store.read(NAME)
    except FileNotFoundError:
        return None
    where = f"{NAME} in {store.where}"
    hint = "put the file back from a copy, or begin a new run directory"
    try:
        values = json.loads(data)
        written_format = values["format"]
        if isinstance(written_format, int) and written_format > FORMAT:
            raise RunDirectoryError(
                f"{where} has format {written_format}, and this version reads up to {FORMAT}",
                hint="go on with the version of classify-batch that began the run, or a newer one",
            )
        return RunFile.model_validate(values), hashlib.sha256(data).hexdigest()
    except ValidationError as error:
        fault = error.errors()[0]
        said = f"{where} is damaged: {'.'.join(map(str, fault['loc']))}: {fault['msg']}"
        raise DamagedError(said, hint=hint) from None
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{where} is damaged: {error}", hint=hint) from None


def refuse_other_run(run: RunFile, identity: Mapping[str, Any], where: str) -> None:
    """Raises RunDirectoryError naming everything in which a command differs from the run."""
    differences = [
        f"{what}: the run has {_show(run.identity.get(name))}, the command {_show(value)}"
        for name, what in _WHAT_DIFFERS.items()
        if (value := identity.get(name)) != run.identity.get(name)
    ]
    if differences:
        raise RunDirectoryError(
            f"{where} holds another run:\n  " + "\n  ".join(differences),
            hint="give the settings that the run was begun with, or name a new run directory",
        )


def _show(value: object) -> str:
    text = "none" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else text[:199] + "…"
