"""Where an operation that only reads may put its temporary files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from classify_batch.ports import RunPlace


def folder_for_temporary_files(places: Iterable[RunPlace]) -> Path | None:
    """The folder of the first place that has one which can be written to; None: the system's, which may be in
    memory."""
    folders = [place.folder for place in places]
    return next((folder for folder in folders if folder is not None and os.access(folder, os.W_OK)), None)
