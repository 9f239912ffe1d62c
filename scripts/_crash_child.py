"""A command that comes to grief at a chosen step: what scripts/crash starts in place of `python -m classify_batch`.

    CRASH='{"step": 17, "how": "after", "seed": 1, "log": null}' python scripts/_crash_child.py run CONFIG …

A step is whatever the world can see of a process: each write and fsync of a file, each name given or taken, each send
and receive on a socket. They are counted from outside, by standing in the place of the calls of `os` and `socket`
before the package is imported; the package knows nothing of it. At the chosen step happens what `how` says:

    before    SIGKILL, and the step is not done
    after     SIGKILL as soon as it is done
    partial   SIGKILL after some of the bytes of a write or send
    power     the same as before, and what no fsync has confirmed is lost, or was written only in part
    term      SIGTERM, and the program goes on as it sees fit
    cancel    the task of `arun` is cancelled (75 when it was)

With `log` the kinds of all steps are written to that file at the end: how a walk over all of them learns their number.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import stat
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import Any

ORDER = json.loads(os.environ.pop("CRASH", "{}"))


class Steps:
    """Counts the steps of this process and strikes at one of them."""

    def __init__(self, step: int, how: str, seed: int) -> None:
        self._step = step
        self._how = how
        self._dice = random.Random(seed)
        self._lock = RLock()
        self._confirmed: dict[int, int] = {}
        self._paths: dict[int, Path] = {}
        self.kinds: list[str] = []
        self.cancel: Callable[[], None] = lambda: None

    def around(self, kind: str, act: Callable[[], Any], some: Callable[[float], Any] | None = None) -> Any:
        """Does a step, or what is to happen at it. `some` does a share of it."""
        with self._lock:
            self.kinds.append(kind)
            if len(self.kinds) != self._step:
                return act()
            match self._how:
                case "partial" if some is not None:
                    some(self._dice.random())
                case "after":
                    act()
                case "power":
                    self._lose()
                case "term":
                    os.kill(os.getpid(), signal.SIGTERM)
                    return act()
                case "cancel":
                    self.cancel()
                    return act()
            os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("SIGKILL can't be survived")

    # --- What a power cut takes -------------------------------------------------------------------------------------

    def opened(self, descriptor: int, path: Any, flags: int) -> int:
        if flags & os.O_APPEND:
            self._paths[descriptor] = Path(path)
            self._confirmed[descriptor] = os.fstat(descriptor).st_size
        return descriptor

    def synced(self, descriptor: int) -> None:
        if descriptor in self._confirmed:
            self._confirmed[descriptor] = os.fstat(descriptor).st_size

    def _lose(self) -> None:
        for descriptor, path in self._paths.items():
            start, end = self._confirmed[descriptor], path.stat().st_size
            if start >= end:
                continue
            first, last = sorted(self._dice.randint(start, end) for _ in range(2))
            if self._dice.random() < 0.5:
                os.truncate(path, first)
            else:  # a page in the middle, and not the ones around it
                with path.open("r+b") as file:
                    file.seek(first)
                    file.write(bytes(last - first))


def stand_in(steps: Steps) -> None:
    """Takes the places of the calls that are steps. Before the package is imported: it keeps some as defaults."""
    write, fsync, open_ = os.write, os.fsync, os.open

    def counted_write(descriptor: int, data: Any) -> int:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return write(descriptor, data)
        some = lambda share: write(descriptor, data[: int(share * len(data))])  # noqa: E731
        return int(steps.around("write", lambda: write(descriptor, data), some))

    def counted_fsync(descriptor: int) -> None:
        steps.around("fsync", lambda: fsync(descriptor))
        steps.synced(descriptor)

    def noted_open(path: Any, flags: int, *arguments: Any, **named: Any) -> int:
        return steps.opened(open_(path, flags, *arguments, **named), path, flags)

    os.write, os.fsync, os.open = counted_write, counted_fsync, noted_open
    for name in ("replace", "rename", "link", "truncate", "unlink"):
        setattr(os, name, counted("name", getattr(os, name), steps))
    for name in ("send", "recv"):
        setattr(socket.socket, name, counted_on_socket(name, getattr(socket.socket, name), steps))


def counted(kind: str, call: Callable[..., Any], steps: Steps) -> Callable[..., Any]:
    return lambda *arguments, **named: steps.around(kind, lambda: call(*arguments, **named))


def counted_on_socket(kind: str, call: Callable[..., Any], steps: Steps) -> Callable[..., Any]:
    def method(self: socket.socket, what: Any, *arguments: Any) -> Any:
        if self.family != socket.AF_INET:  # the event loop talks to itself
            return call(self, what, *arguments)
        some = (lambda share: call(self, what[: int(share * len(what))])) if kind == "send" else None
        return steps.around(kind, lambda: call(self, what, *arguments), some)

    return method


# --- The command ------------------------------------------------------------------------------------------------------


def command() -> int:
    from classify_batch.__main__ import main

    try:
        main()
    except SystemExit as left:
        return int(left.code or 0)


async def cancelled_command(steps: Steps) -> int:
    """`run CONFIG --input SOURCE --run-dir DIR` as an ETL job has it: a task among others, which may be cancelled."""
    from classify_batch import Settings, arun

    _, config, _, source, _, run_dir = sys.argv[1:]
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(arun(Settings.load(config), source, run_dir))
    steps.cancel = lambda: loop.call_soon_threadsafe(task.cancel)
    try:
        return int((await task).exit_status)
    except asyncio.CancelledError:
        return 75


def main() -> int:
    steps = Steps(ORDER.get("step", 0), ORDER.get("how", "before"), ORDER.get("seed", 0))
    stand_in(steps)
    try:
        return asyncio.run(cancelled_command(steps)) if ORDER.get("how") == "cancel" else command()
    except Exception:
        traceback.print_exc()
        return 70
    finally:
        if ORDER.get("log"):
            Path(ORDER["log"]).write_text(json.dumps(steps.kinds))


if __name__ == "__main__":
    sys.exit(main())
