"""A process that has imported the whole package, and forks for each command that a test starts: `start_command`.

Starting the interpreter and importing the package is most of what a short command costs. A forked command is a real
process, with its own pid, streams, environment and exit status; only its imports are done before. It runs the
package's `__main__`, and ends as an interpreter ends.

It hears over a socket what to start (`Call`, with the three streams as file descriptors), and whose exit status is
asked for. It has one thread and no event loop, opens nothing, and leaves when the socket closes.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import socket
import sys
import time
from contextlib import suppress
from types import ModuleType
from typing import Any, TypedDict

import classify_batch

MESSAGE_BYTES_MAX = 150_000
"""Fits a socket's default buffer; environment and arguments of a test have some 5,000 bytes."""


class Call(TypedDict):
    """A command to start, or a script that drives it."""

    code: str | None
    words: list[str]
    cwd: str
    environ: dict[str, str]
    new_session: bool


def import_package() -> None:
    """Every module but the entry point: its handlers for signals are each command's own. And the event loop's part of
    anyio, which anyio imports when the first loop starts."""
    for module in pkgutil.walk_packages(classify_batch.__path__, "classify_batch."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
    importlib.import_module("anyio._backends._asyncio")


def serve(control: socket.socket) -> Call:
    """Answers until the socket closes, and leaves then. Returns in each child, as the command to be."""
    while True:
        data, streams, _, _ = socket.recv_fds(control, MESSAGE_BYTES_MAX, 3)
        if not data:
            sys.exit()
        asked = json.loads(data)
        if isinstance(asked, int):
            control.send(json.dumps(exit_status(asked)).encode())
            continue
        pid = os.fork()
        if pid == 0:
            call: Call = asked
            enter(call, control, streams)
            return call
        for stream in streams:
            os.close(stream)
        control.send(json.dumps(pid).encode())


def exit_status(pid: int) -> int | None:
    """As `waitpid` has it; None: the child goes on."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return status if ended else None


def enter(call: Call, control: socket.socket, streams: list[int]) -> None:
    """Makes this child what `Popen` and a start of the interpreter would have made it."""
    control.close()
    if call["new_session"]:
        os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(call["cwd"])
    os.environ.clear()
    os.environ.update(call["environ"])
    time.tzset()
    sys.argv = ["-m" if call["code"] is None else "-c", *call["words"]]
    sys.path[0] = call["cwd"] if call["code"] is None else ""
    open_streams()


def open_streams() -> None:
    """`sys.stdin`, `sys.stdout` and `sys.stderr` anew, as the interpreter opens them (`create_stdio` of CPython)."""
    for number, (name, mode) in enumerate([("stdin", "r"), ("stdout", "w"), ("stderr", "w")]):
        before: io.TextIOWrapper = getattr(sys, name)
        at_once = before.write_through  # PYTHONUNBUFFERED
        buffering = 0 if at_once and mode == "w" else -1
        binary: Any = open(number, f"{mode}b", buffering, closefd=False)  # noqa: SIM115 - it is the process's own
        getattr(binary, "raw", binary).name = f"<{name}>"
        by_line = not at_once and (name == "stderr" or os.isatty(number))
        text = io.TextIOWrapper(
            binary, before.encoding, before.errors, "\n", line_buffering=by_line, write_through=at_once
        )
        text.mode = mode  # type: ignore[misc]
        setattr(sys, name, text)
        setattr(sys, f"__{name}__", text)


def run(code: str | None) -> None:
    """What `python -m classify_batch` does, or `python -c`."""
    if code is None:
        runpy.run_module("classify_batch", run_name="__main__", alter_sys=True)
        return
    script = ModuleType("__main__")
    sys.modules["__main__"] = script
    exec(compile(code, "<string>", "exec"), script.__dict__)


def main() -> str | None:
    """Serves. Returns in each child, with the script that it is to run, if any."""
    control = socket.socket(fileno=int(sys.argv[1]))
    import_package()
    gc.collect()
    gc.freeze()  # else each child walks through all of it when it ends, which copies it
    control.send(b"ready")
    with suppress(KeyboardInterrupt):  # Ctrl-C reaches all processes of a terminal
        return serve(control)["code"]
    sys.exit()


if __name__ == "__main__":
    run(main())
