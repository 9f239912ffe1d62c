"""Who holds a run: read without disturbing anybody, and without loading what it takes to hold one."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import cast

from classify_batch.run_records import Holder
from classify_batch.store.os_errors import refusals

LOCK = "lock"

_WORDS_BYTES_MAX = 4096


def read_holder(directory: Path) -> Holder | None:
    """Who holds `directory` now, or None. Disturbs nobody, and believes no killed process."""
    path = directory / LOCK
    nobody = (FileNotFoundError, NotADirectoryError)  # a file was named in the place of a directory
    try:
        with refusals(path, but=nobody):
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe in its place must not be waited for
    except nobody:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: askers don't see each other
    except BlockingIOError:
        return _parse_holder(os.read(descriptor, _WORDS_BYTES_MAX))
    except OSError:
        return None  # no flock here: `hold` refuses such a place, so nobody holds it
    else:
        return None
    finally:
        os.close(descriptor)


def _parse_holder(words: bytes) -> Holder:
    try:
        said = cast("dict[str, object]", json.loads(words))
        return Holder(str(said["host"]), int(str(said["pid"])), str(said["since"]))
    except (ValueError, KeyError, TypeError):
        return Holder()
