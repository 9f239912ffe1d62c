"""How the command's process ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

ABORTS_IN_TEARDOWN = """
import atexit, builtins, os, sys, types

sys.argv[1:] = ["--version"]
if {used}:
    sys.modules["obstore"] = types.ModuleType("obstore")  # its threads are what can't be had at will

class Thread:
    def __del__(self):
        if sys.is_finalizing():
            os.abort()

builtins.thread = Thread()
import classify_batch.__main__ as command
atexit.register(print, "registered by the program")
command.main()
"""


@pytest.mark.parametrize("used", [True, False])
def test_a_process_that_used_obstore_ends_before_the_teardown(used: bool) -> None:
    """obstore's threads may abort it there, after an export that went well. What exits normally is called before."""
    done = subprocess.run(
        [sys.executable, "-c", ABORTS_IN_TEARDOWN.format(used=used)], capture_output=True, text=True, check=False
    )
    assert done.returncode == (0 if used else -6)
    assert done.stdout.startswith("classify-batch, version ")
    assert done.stdout.endswith("\nregistered by the program\n")
