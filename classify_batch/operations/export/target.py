"""Checks the target of an export: it never replaces a file of a run."""

from __future__ import annotations

import re
from pathlib import Path

from classify_batch.errors import UsageError
from classify_batch.settings.sections import SANDBOX
from classify_batch.vocabulary import PATHS_JSONL, PLAN_JSONL, RUN_JSON, Log

JSONL, CSV, PARQUET, ARROW, FEATHER = SUFFIXES = (".jsonl", ".csv", ".parquet", ".arrow", ".feather")
"""The suffixes of a target, which decide its format; Feather is another name for an Arrow file."""
TEXT_SUFFIXES = (JSONL, CSV)

_EARLIER_FAILURES = re.compile(r"failures\.\d+\.jsonl")


def export_suffix(target: Path) -> str:
    """The suffix of a target. Raises UsageError for one that is no format."""
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            f"{target}: an export is written as JSONL, CSV, Parquet or Arrow, by the suffix of its name",
            hint=f"name a file that ends with {', '.join(SUFFIXES[:3])} or {ARROW}, or `-` for JSONL on stdout",
        )
    return suffix


def refuse_bad_target(target: Path) -> None:
    """Raises UsageError where no file can be written, or where the export would replace a file of any run."""
    try:
        if target.exists() and not target.is_file():
            raise UsageError(f"{target} is not a file", hint="name a file; it is replaced if it is there")
        if not target.parent.is_dir():
            raise UsageError(f"there is no directory {target.parent}", hint="create it first, or name another target")
        if _belongs_to_run(target.parent.resolve() / target.name):
            raise UsageError(f"{target} is a file of the run itself", hint="name another target")
    except OSError as error:  # the name is too long, or the directory may not be read
        raise UsageError(f"{target}: {error.strerror or error}", hint="name another target") from None


def _belongs_to_run(path: Path) -> bool:
    name = path.name.casefold()  # some file systems ignore case
    if name in (PLAN_JSONL, PATHS_JSONL, *Log) or _EARLIER_FAILURES.fullmatch(name):
        return (path.parent / RUN_JSON).exists()
    return any(folder.name == SANDBOX and (folder.parent / RUN_JSON).exists() for folder in path.parents)
