"""Where an export may go: never over what a run has written."""

from __future__ import annotations

import re
from pathlib import Path

from classify_batch.errors import UsageError
from classify_batch.settings.sections import SANDBOX
from classify_batch.vocabulary import PLAN_JSONL, RUN_JSON, Log

JSONL, CSV = ".jsonl", ".csv"
"""By its suffix a target says what it is to hold."""

_EARLIER_FAILURES = re.compile(r"failures\.\d+\.jsonl")


def suffix_of(target: Path) -> str:
    """JSONL or CSV. Raises UsageError for any other suffix."""
    suffix = target.suffix.lower()
    if suffix not in (JSONL, CSV):
        raise UsageError(
            f"{target}: an export is written as JSONL or as CSV, by the suffix of its name",
            hint=f"name a file that ends with {JSONL} or {CSV}, or `-` for JSONL on stdout",
        )
    return suffix


def refuse_unfit(target: Path) -> None:
    """Raises UsageError where an export can't go, or where it would go over a file of a run: this one or another."""
    try:
        if target.exists() and not target.is_file():
            raise UsageError(f"{target} is no file", hint="name a file; it is replaced if it is there")
        if not target.parent.is_dir():
            raise UsageError(f"there is no directory {target.parent}", hint="make it first, or name another target")
        if _is_a_runs_own(target.parent.resolve() / target.name):
            raise UsageError(f"{target} is a file of the run itself", hint="name another target")
    except OSError as error:  # a name that is too long, or a directory that may not be looked into
        raise UsageError(f"{target}: {error.strerror or error}", hint="name another target") from None


def _is_a_runs_own(path: Path) -> bool:
    name = path.name.casefold()  # on some file systems that is the same file
    if name in (PLAN_JSONL, *Log) or _EARLIER_FAILURES.fullmatch(name):
        return (path.parent / RUN_JSON).exists()
    return any(folder.name == SANDBOX and (folder.parent / RUN_JSON).exists() for folder in path.parents)
