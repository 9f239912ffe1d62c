"""Programs whose main thread comes to its end while another one still runs something."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.command_line import environment

PROGRAM = """
import threading
from classify_batch import Settings, WorldError, run

def work():
    threading.main_thread().join()  # it has come to its end, and Python waits for this thread
    try:
        run(settings, ["a", "b"], "run")
    except WorldError as error:
        print(error, error.hint, sep="\\n")

settings = Settings(api={"base_url": "sandbox"}, job={"rules": [{"type": "invoice", "description": "has a total"}]})
threading.Thread(target=work).start()
"""


def test_a_run_behind_the_end_of_the_main_thread_says_so(tmp_path: Path) -> None:
    """Python begins no work in threads then: the error names that, and how to wait."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    message, hint = done.stdout.splitlines()
    assert message.startswith("the program's main thread has ended"), done
    assert "join()" in hint
