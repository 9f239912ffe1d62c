"""How long a process takes to leave that was asked to."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable
from typing import Any

from tests.support.command_line import PATIENCE_S
from tests.support.cpu_waits import CpuWaits

EXIT_TIMEOUT_S = 4.0
"""What the command promises."""

LOOKS_EVERY_MS = 10


class LeaveTimer:
    """Begin it just before the process is asked."""

    def __init__(self, process: subprocess.Popen[Any]) -> None:
        self._process = process
        self._begun_s = time.monotonic()
        self._waits = CpuWaits(process.pid)

    def wait_s(self, meanwhile: Callable[[], object] = lambda: None) -> float:
        """Waits for the end of the process; returns the seconds since this timer began, without those in which the
        process waited for a CPU. Its pipes aren't read meanwhile: it may say a page or two."""
        end = os.pidfd_open(self._process.pid)
        try:
            ended = select.poll()
            ended.register(end, select.POLLIN)
            while not ended.poll(LOOKS_EVERY_MS):
                self._waits.seconds()
                meanwhile()
                assert time.monotonic() - self._begun_s < PATIENCE_S, "it doesn't leave"
        finally:
            os.close(end)
        took_s = time.monotonic() - self._begun_s
        return took_s - self._waits.seconds()  # /proc has it until somebody asks for its status
