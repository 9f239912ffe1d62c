"""A command that is killed at a step of what it writes."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.command_line import environment
from tests.support.start_command import run_process

_KILLED = """
import os, runpy, signal, sys
from classify_batch.store import disk

left, methods = int(sys.argv.pop(1)), sys.argv.pop(1).split(",")

def die():
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)

def stepwise(work):
    async def worked(store, *given):
        die()
        await work(store, *given)
        die()
    return worked

for method in methods:
    setattr(disk.DiskStore, method, stepwise(getattr(disk.DiskStore, method)))
sys.argv = ["classify-batch", *sys.argv[1:]]
runpy.run_module("classify_batch", run_name="__main__")
"""

WHOLE_FILES = ("replace", "create")
"""By which a store puts files in place."""


def run_killed(folder: Path, step: int, *arguments: str, methods: tuple[str, ...] = WHOLE_FILES) -> int:
    """The exit status of a command that is killed before (even steps) or after (odd ones) a call of these methods of
    the store; its own where it makes fewer of them."""
    script = [sys.executable, "-c", _KILLED, str(step), ",".join(methods), *arguments]
    return run_process(script, cwd=folder, env=environment()).returncode
