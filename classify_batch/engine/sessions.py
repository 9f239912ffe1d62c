"""What a process says of itself when it takes a run over."""

from __future__ import annotations

import os
import socket
from importlib.metadata import version
from typing import TypedDict

from classify_batch.lifecycle import AccountKeys, Opened
from classify_batch.settings import Settings


class ProcessKeys(TypedDict):
    """Which process it is. `version`: of this package."""

    host: str
    pid: int
    version: str


def process_here() -> ProcessKeys:
    """This process."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "version": version("classify-batch")}


def account_keys(name: str, settings: Settings) -> AccountKeys:
    """What the journal says of an account. `settings`: with what the account has of its own."""
    keys: AccountKeys = {"name": name, "base_url": settings.api.base_url}
    if (project_id := settings.api.project_id) is not None:
        keys["project_id"] = project_id
    if (organization_id := settings.api.organization_id) is not None:
        keys["organization_id"] = organization_id
    return keys


def opened_here(settings: Settings, run_sha256: str, account: str | None = None) -> Opened:
    """What the journal says when this process takes a run over. `account`: whose key it has; None: the run's own."""
    process = process_here()
    opened: Opened = {
        "run_sha256": run_sha256,
        "accept_s": settings.accept_s,
        "limits": settings.limits.model_dump(mode="json"),
        "host": process["host"],
        "pid": process["pid"],
        "version": process["version"],
    }
    if account is not None:
        opened["account"] = account_keys(account, settings)
    return opened
