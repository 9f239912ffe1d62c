"""How the command's process ends."""

from __future__ import annotations

import subprocess
import sys

ABORTS_IN_TEARDOWN = """
import atexit, os, sys, threading, time

sys.argv[1:] = ["--version"]

class Aborts:
    def __del__(self):
        if sys.is_finalizing():
            os.abort()

aborts = Aborts()
import classify_batch.__main__ as command
atexit.register(print, "registered by the program")
threading.Thread(target=lambda: (time.sleep(0.2), print("a thread's last words"))).start()
command.main()
"""


def test_a_process_ends_before_the_teardown() -> None:
    """obstore's threads may abort it there, after an export that went well. What exits normally is called before, and
    threads are waited for."""
    done = subprocess.run([sys.executable, "-c", ABORTS_IN_TEARDOWN], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("classify-batch, version ")
    assert done.stdout.endswith("\na thread's last words\nregistered by the program\n")
