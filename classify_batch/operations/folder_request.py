"""What it means for a run that its input is a folder of documents."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from classify_batch.errors import ClassifyBatchError, RunDirectoryError, UsageError
from classify_batch.inputs.folder import PATH_COLUMN, FolderOptions, FolderScan
from classify_batch.inputs.open import folder_of
from classify_batch.operations.run_request import RunRequest
from classify_batch.protocol.sanitize import printable_line
from classify_batch.rundir.run_json import PlannedFolder, RunFile, parse_run_file
from classify_batch.settings import Settings
from classify_batch.settings.accounts import AccountSettings
from classify_batch.settings.api_key import key_files
from classify_batch.vocabulary import RUN_JSON, SANDBOX

TEXTS = frozenset((".txt", ".md", ".csv", ".tsv", ".xml", ".htm", ".html", ".svg", ".rtf", ".fods"))
"""Suffixes of documents whose bytes are text, as the embedded sandbox reads them."""

log = logging.getLogger("classify_batch")


def take_folder(request: RunRequest) -> RunRequest:
    """The request; where its input is a folder, one that carries the paths of the documents.

    Raises:
        UsageError: it asks for what a folder doesn't have.
        SourceError: the folder is one of several inputs.
    """
    if request.source is None:
        return replace(request, settings=carrying_paths(request.settings)) if goes_on_with_folder(request) else request
    if folder_of(request.source) is None:
        refuse_globs(request.include, request.exclude)
        return request
    return replace(request, settings=carrying_paths(request.settings))


def goes_on_with_folder(request: RunRequest) -> bool:
    """Whether the run that is in the place has a folder as its input. A config doesn't say that paths are carried."""
    where = request.place.where
    try:
        data = request.place.reader().read(RUN_JSON)
        return data is not None and parse_run_file(data, where, takes_shards=True).folder is not None
    except (ClassifyBatchError, OSError):
        return False  # whoever opens the run says what is wrong with it


def refuse_globs(include: Sequence[str], exclude: Sequence[str]) -> None:
    """Raises UsageError for globs where the input is no folder."""
    if include or exclude:
        raise UsageError(
            "--include and --exclude choose files of a folder, and the input is none",
            hint="leave them out, or give a folder as the input",
        )


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


def planned_folder(request: RunRequest) -> PlannedFolder | None:
    """What run.json keeps of a folder; None for any other input."""
    folder = absolute_folder(request.source)
    return None if folder is None else PlannedFolder(folder, request.include, request.exclude)


def folder_options(request: RunRequest) -> FolderOptions:
    """Which files of the folder are documents: never the run directory, nor the file of an API key."""

    reported = False

    def take_scan(scan: FolderScan) -> None:
        nonlocal reported
        if not reported:  # a folder may be read twice: hashed, and then compared
            report_scan(scan)
            if request.settings.api.base_url == SANDBOX:
                report_unread(scan)
        reported = True
        request.on_scan(scan)

    protected = protected_paths(request.place.folder, request.settings.accounts)
    return FolderOptions(request.include, request.exclude, protected, take_scan)


def protected_paths(run_dir: Path | None, accounts: Iterable[AccountSettings] = ()) -> list[Path]:
    """What of a folder never leaves: the run directory, where there is one, and the files of API keys."""
    return [*(() if run_dir is None else (run_dir,)), *key_files(accounts)]


def take_planned_globs(request: RunRequest, run: RunFile, where: str) -> RunRequest:
    """The request with the globs that a run was planned with. Globs are given again, or not at all.

    Raises:
        RunDirectoryError: it gives others.
    """
    if run.include is None or run.exclude is None:
        return request
    given = {"--include": request.include, "--exclude": request.exclude}
    planned = {"--include": run.include, "--exclude": run.exclude}
    others = [name for name in given if given[name] and set(given[name]) != set(planned[name])]
    if others:
        differences = [
            f"{name}: the run has {_format_globs(planned[name])}, the command {_format_globs(given[name])}"
            for name in others
        ]
        raise RunDirectoryError(
            f"{where} holds a run of other documents of its folder:\n  " + "\n  ".join(differences),
            hint="leave them out, for the run keeps what it was planned with; or name a new run directory: there, "
            f"`--reuse {where}` pays nothing again",
        )
    return replace(request, include=run.include, exclude=run.exclude)


def as_globs(globs: object) -> tuple[str, ...]:
    """The globs of a caller. Raises UsageError for one string, whose letters would be taken for globs."""
    if isinstance(globs, str) or not isinstance(globs, Iterable):
        raise UsageError(f"include and exclude are lists of globs, and not {globs!r}", hint='write ["*.pdf"]')
    found = tuple(globs)
    if not all(isinstance(each, str) for each in found):
        raise UsageError(f"globs are strings, and not {found!r}", hint='write ["*.pdf"]')
    return found


def _format_globs(globs: Sequence[str]) -> str:
    return ", ".join(printable_line(each) for each in globs) or "none"


def format_skipped(scan: FolderScan) -> str:
    """What of a folder was skipped, by the reason."""
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(scan.skipped.items()))


def report_scan(scan: FolderScan) -> None:
    """Says what of the folder is not brought, before anything is sent."""
    if scan.skipped:
        log.warning("of the folder, skipped: %s", format_skipped(scan))
    for path, why in scan.unfit_examples:
        log.warning("%s can't be uploaded: %s", printable_line(path), why)
    if more := scan.unfit - len(scan.unfit_examples):
        log.warning("%s more files can't be uploaded: they fail as not_uploadable", f"{more:,}")


def report_unread(scan: FolderScan) -> None:
    """Says which documents the embedded sandbox can't read, so that nobody takes what it says of them for an answer."""
    from classify_batch.sandbox.documents.pdf_text import PDF_EXTRA, can_read_pdfs  # noqa: PLC0415 - a server is slow

    pdfs = scan.suffixes[".pdf"]
    if pdfs and not can_read_pdfs():
        log.warning("the sandbox reads PDFs only after %s: %s will be unmatched", PDF_EXTRA, f"{pdfs:,}")
    kinds = [f"{each} {count:,}" for each, count in sorted(scan.suffixes.items()) if each not in TEXTS | {".pdf", ""}]
    if kinds:
        log.warning("the sandbox reads text files and PDFs; others will be unmatched: %s", ", ".join(kinds))
