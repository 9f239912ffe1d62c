"""Processes to strike: the real command, or quickly made ones of `child.py`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from crash_suite.sandbox import COMMAND, ENVIRON
from tests.support.cpu_waits import CpuWaits

CHILD = (sys.executable, str(Path(__file__).with_name("child.py")))
PATIENCE_S = 120.0
LOOKS_EVERY_S = 0.02


class Ended(NamedTuple):
    """How a process ended: its status as `subprocess` tells it, what it said, and how long after a signal that was,
    without the time for which it waited for a CPU.

    `status` None: it had to be ended, since it ran into the limit of time.
    """

    status: int | None
    said: str
    after_signal_s: float = 0.0


async def wait_for_end(end: asyncio.Task[Any], pid: int) -> float:
    """Waits for it, at most for `PATIENCE_S`; returns for how long, without the process's own waits for a CPU."""
    begun_s, waits, waited_s = time.monotonic(), CpuWaits(pid), 0.0
    while not end.done() and time.monotonic() - begun_s < PATIENCE_S:
        await asyncio.wait([end], timeout=LOOKS_EVERY_S)
        waited_s = waits.seconds()
    return time.monotonic() - begun_s - waited_s


async def run_command(words: Sequence[str], after_s: float | None, number: signal.Signals) -> Ended:
    """`python -m classify_batch WORDS`, sent a signal after so many seconds."""
    process = await asyncio.create_subprocess_exec(*COMMAND, *words, stdout=DEVNULL, stderr=PIPE, env=ENVIRON)
    talk = asyncio.create_task(process.communicate())
    try:
        if after_s is not None:
            await asyncio.wait([talk], timeout=after_s)
            if process.returncode is None:
                process.send_signal(number)
        took_s = await wait_for_end(talk, process.pid)
        if not talk.done():
            return Ended(None, "")
        said = talk.result()[1].decode("utf-8", "replace")
        return Ended(process.returncode, said, took_s)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        talk.cancel()


@dataclass
class Forks:
    """As many makers of processes as there are lanes; whoever needs one takes one that is free."""

    _free: asyncio.Queue[Process]

    async def run(
        self, words: Sequence[str], said: Path, order: dict[str, Any], after_s: float | None, number: signal.Signals
    ) -> Ended:
        """The same command in a forked process, interrupted at a step (`order`) or signalled after so many seconds."""
        maker = await self._free.get()
        assert maker.stdin is not None
        assert maker.stdout is not None
        said.touch()  # it may be killed before it says a word
        maker.stdin.write(json.dumps({**order, "words": words, "said": str(said)}).encode() + b"\n")
        pid = int(await maker.stdout.readline())
        end = asyncio.create_task(maker.stdout.readline())
        try:
            if after_s is not None:
                await asyncio.wait([end], timeout=after_s)
                os.kill(pid, number)  # it is reaped with the next order, so this is nobody else's PID
            took_s = await wait_for_end(end, pid)
            if end.done():
                words_said = said.read_text("utf-8", "replace")
                return Ended(int(end.result()), words_said, took_s)
            return Ended(None, "")
        finally:
            if not end.done():
                os.kill(pid, signal.SIGKILL)
                await end
            said.unlink(missing_ok=True)
            self._free.put_nowait(maker)


@asynccontextmanager
async def forks(count: int) -> AsyncIterator[Forks]:
    free: asyncio.Queue[Process] = asyncio.Queue()
    makers = [await asyncio.create_subprocess_exec(*CHILD, stdin=PIPE, stdout=PIPE, env=ENVIRON) for _ in range(count)]
    for maker in makers:
        free.put_nowait(maker)
    try:
        yield Forks(free)
    finally:
        for maker in makers:
            if maker.returncode is None:
                maker.kill()
            await maker.wait()
