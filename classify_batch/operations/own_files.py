"""Which paths are files of a run itself: nobody else may write there, whatever a command was asked to write."""

from __future__ import annotations

from pathlib import Path

from classify_batch.store.trust import NUMBERED_FILES, RUN_FILES
from classify_batch.vocabulary import RUN_JSON, SANDBOX_FOLDER

_NAMES = frozenset(RUN_FILES)


def is_file_of_run(path: Path, run_dir: Path | None = None) -> bool:
    """Whether a path, or what its links lead to, is one of the files of a run. Raises OSError where it can't be read.

    `run_dir`: of a run that may not have begun; None: only runs that are there count.
    """
    begins = None if run_dir is None else run_dir.resolve()
    return any(_is_file_of_run(each, begins) for each in {path.parent.resolve() / path.name, path.resolve()})


def _is_file_of_run(path: Path, begins: Path | None) -> bool:
    def holds_run(folder: Path) -> bool:
        return folder == begins or (folder / RUN_JSON).exists()

    name = path.name.casefold()  # some file systems ignore case
    if name in _NAMES or NUMBERED_FILES.fullmatch(name):
        return holds_run(path.parent)
    return any(folder.name == SANDBOX_FOLDER and holds_run(folder.parent) for folder in path.parents)
