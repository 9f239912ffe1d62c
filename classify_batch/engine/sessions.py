"""What a process says of itself when it takes a run over."""

from __future__ import annotations

import os
import socket
from importlib.metadata import version
from typing import TypedDict

from classify_batch.lifecycle import Opened
from classify_batch.settings import Settings


class ProcessKeys(TypedDict):
    """Which process it is. `version`: of this package."""

    host: str
    pid: int
    version: str


def process_here() -> ProcessKeys:
    """This process."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "version": version("classify-batch")}


def opened_here(settings: Settings, run_sha256: str) -> Opened:
    """What the journal says when this process takes a run over."""
    return {
        "run_sha256": run_sha256,
        "accept_s": settings.accept_s,
        "limits": settings.limits.model_dump(mode="json"),
        **process_here(),
    }
