"""Commands that come to grief at a chosen step: what scripts/crash starts in place of `python -m classify_batch`.

A step is whatever the world can see of a process: each write and fsync of a file, each name given or taken, each send
and receive on a socket. They are counted from outside, by standing in the place of the calls of `os` and `socket`
before the package is imported; the package knows nothing of it. At the chosen step happens what `how` says:

    before    SIGKILL, and the step is not done
    after     SIGKILL as soon as it is done
    partial   SIGKILL after some of the bytes of a write or send
    power     the same as before, and what no fsync has confirmed is lost, or was written only in part
    term      SIGTERM, and the program goes on as it sees fit
    hup       SIGHUP, likewise: the terminal was closed
    cancel    the task of `arun` is cancelled (75 when it was)

To start an interpreter a thousand times takes longer than all that is to be seen. So this process imports everything
once, then makes a process of its own, by fork, of each order that it reads (a line of JSON: `words` of the command
line, `said`: a file for its stderr, and `step`, `how`, `seed`, `log`, `clock`). It answers with two lines: the PID,
and the exit status, negative for a signal. A PID that was reported stays valid until the next order.

With `clock` its wall clock runs `ahead_s` before the machine's, as on another machine, and steps by `step_s` after
`step_after_s`, as when it is corrected.

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
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from threading import RLock
from typing import Any, NoReturn


class Steps:
    """Counts the steps of this process and strikes at one of them."""

    def __init__(self) -> None:
        self.order: dict[str, Any] = {}
        self._rng = random.Random()
        self._lock = RLock()
        self._confirmed: dict[int, int] = {}
        self._paths: dict[int, Path] = {}
        self.kinds: list[str] = []
        self.cancel: Callable[[], object] = lambda: None

    def begin(self, order: dict[str, Any]) -> None:
        self.order = order
        self._rng.seed(order.get("seed"))
        self.kinds.clear()

    def around(self, kind: str, act: Callable[[], Any], some: Callable[[float], Any] | None = None) -> Any:
        """Does a step, or what is to happen at it. `some` does a share of it."""
        with self._lock:
            self.kinds.append(kind)
            if len(self.kinds) != self.order.get("step"):
                return act()
            match self.order["how"]:
                case "partial" if some is not None:
                    some(self._rng.random())
                case "after":
                    act()
                case "power":
                    self._lose()
                case "term" | "hup" as name:
                    os.kill(os.getpid(), signal.SIGTERM if name == "term" else signal.SIGHUP)
                    return act()
                case "cancel":
                    self.cancel()
                    return act()
            os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("SIGKILL can't be survived")

    # --- What a power cut takes -------------------------------------------------------------------------------------

    def opened(self, descriptor: int, path: Any, flags: int) -> int:
        if flags & os.O_APPEND:
            found = os.fstat(descriptor)
            # By the file itself: a run with shards closes files, and their descriptors are given out again.
            if self._paths.get(found.st_ino) != Path(path):
                self._paths[found.st_ino] = Path(path)
                self._confirmed[found.st_ino] = found.st_size
        return descriptor

    def synced(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        if found.st_ino in self._confirmed:
            self._confirmed[found.st_ino] = found.st_size

    def _lose(self) -> None:
        for inode, path in list(self._paths.items()):  # a copy: other threads open files meanwhile
            found = path.stat() if path.exists() else None
            if found is None or found.st_ino != inode:
                continue  # it is gone, or has another name by now, which it got when all of it was confirmed
            start, end = self._confirmed[inode], found.st_size
            if start >= end:
                continue
            first, last = sorted(self._rng.randint(start, end) for _ in range(2))
            if self._rng.random() < 0.5:
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

    def counted_fsync(fd: Any) -> None:
        steps.around("fsync", lambda: fsync(fd))
        steps.synced(fd)

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


async def cancelled_command(steps: Steps) -> int:
    """`run CONFIG --input SOURCE --run-dir DIR` as an ETL job has it: a task among others, which may be cancelled."""
    from classify_batch import Settings, arun

    _, config, _, source, _, run_dir = steps.order["words"]
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(arun(Settings.load(config), source, run_dir))
    steps.cancel = lambda: loop.call_soon_threadsafe(task.cancel)
    try:
        return int((await task).exit_status)
    except asyncio.CancelledError:
        return 75


def carry_out(steps: Steps) -> int:
    from classify_batch.cli.main import main

    sys.argv[1:] = steps.order["words"]
    try:
        if steps.order.get("how") == "cancel":
            return asyncio.run(cancelled_command(steps))
        main()
    except SystemExit as left:
        return int(left.code or 0)
    except Exception:  # noqa: BLE001 - it is shown, and a status says it
        traceback.print_exc()
        return 70


def set_wall_clock(ahead_s: float, step_s: float, step_after_s: float) -> None:
    machine_s, steps_at_s = time.time, time.monotonic() + step_after_s
    time.time = lambda: machine_s() + ahead_s + (step_s if time.monotonic() >= steps_at_s else 0.0)


def become(steps: Steps, order: dict[str, Any]) -> NoReturn:
    """The process of an order."""
    nothing, said = os.open(os.devnull, os.O_RDWR), os.open(order["said"], os.O_WRONLY | os.O_CREAT, 0o600)
    for number, descriptor in ((0, nothing), (1, nothing), (2, said)):
        os.dup2(descriptor, number)
    if clock := order.get("clock"):
        set_wall_clock(**clock)
    steps.begin(order)
    status = carry_out(steps)
    if order.get("log"):
        Path(order["log"]).write_text(json.dumps(steps.kinds))
    sys.stderr.flush()
    os._exit(status)


def main() -> None:
    steps = Steps()
    stand_in(steps)
    for name in ("__main__", "cli.run", "cli.resume", "cli.running", "operations.run", "sandbox"):
        import_module(f"classify_batch.{name}")
    last = 0
    for line in sys.stdin:
        if last:
            os.waitpid(last, 0)
        order = json.loads(line)
        if not (last := os.fork()):
            become(steps, order)
        print(last, flush=True)
        ended = os.waitid(os.P_PID, last, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        print(ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status, flush=True)


if __name__ == "__main__":
    main()
