"""What it means for a run that its input is a folder of documents."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

from classify_batch.errors import UsageError
from classify_batch.inputs.folder import PATH_COLUMN, FolderOptions, FolderScan
from classify_batch.inputs.open import folder_of
from classify_batch.operations.run_request import RunRequest
from classify_batch.protocol.sanitize import clean
from classify_batch.settings import Settings

KEY_FILE_VARIABLE = "LLAMA_CLOUD_API_KEY_FILE"

_NAMED_MAX = 10

log = logging.getLogger("classify_batch")


def take_folder(request: RunRequest) -> RunRequest:
    """The request; where its input is a folder, one that carries the paths of the documents.

    Raises:
        UsageError: it asks for what a folder doesn't have.
        SourceError: the folder is one of several inputs.
    """
    if request.source is None:
        return request
    if folder_of(request.source) is None:
        if request.include or request.exclude:
            raise UsageError("--include and --exclude choose files of a folder, and the input is none")
        return request
    return replace(request, settings=carrying_paths(request.settings))


def carrying_paths(settings: Settings) -> Settings:
    """The settings of a run over a folder. Raises UsageError for other carried columns."""
    if set(settings.plan.carry) - {PATH_COLUMN}:
        raise UsageError(
            f"a folder has no columns to carry but {PATH_COLUMN}, which is always carried",
            hint="leave --carry and plan.carry out",
        )
    plan = settings.plan.model_copy(update={"carry": (PATH_COLUMN,)})
    return settings.model_copy(update={"plan": plan})


def absolute_folder(source: object) -> str | None:
    """The folder's absolute path, which run.json keeps; None for any other input."""
    folder = folder_of(source)
    return None if folder is None else str(folder.absolute())


def folder_options(request: RunRequest) -> FolderOptions:
    """Which files of the folder are documents: never the run directory, nor the file of the API key."""
    protected = [] if request.place.folder is None else [request.place.folder]
    if key_file := os.environ.get(KEY_FILE_VARIABLE):
        protected.append(Path(key_file))
    return FolderOptions(request.include, request.exclude, protected, report_scan)


def report_scan(scan: FolderScan) -> None:
    """Says what of the folder is not brought, before anything is sent."""
    if scan.skipped:
        told = ", ".join(f"{count:,} {reason}" for reason, count in sorted(scan.skipped.items()))
        log.warning("of the folder, skipped: %s", told)
    for path, why in scan.unfit[:_NAMED_MAX]:
        log.warning("%s can't be uploaded: %s", clean(path), why)
    if len(scan.unfit) > _NAMED_MAX:
        log.warning("%d more files can't be uploaded: they fail as not_uploadable", len(scan.unfit) - _NAMED_MAX)
