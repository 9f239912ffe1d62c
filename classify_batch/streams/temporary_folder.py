"""Where temporary files go. A container with a read-only root may have no place for them."""

from __future__ import annotations

import tempfile

from classify_batch.errors import StoreError


def find_temporary_folder() -> str:
    """The folder that `TMPDIR` names, or else the system's. Raises StoreError: none of them can be written."""
    try:
        return tempfile.gettempdir()
    except FileNotFoundError as error:  # of read-only and of full ones, too
        raise StoreError(
            f"there is no folder for temporary files: {error.strerror}",
            hint="set TMPDIR to a folder that can be written, then give the same command",
        ) from None
