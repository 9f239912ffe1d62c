"""Starts the command in a process: forked from one that has imported the package, where that makes no difference."""

from __future__ import annotations

import atexit
import inspect
import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, AnyStr, BinaryIO

from tests.support.fork_server import MESSAGE_BYTES_MAX, Call

COMMAND = [sys.executable, "-m", "classify_batch"]
SCRIPT = [sys.executable, "-c"]
ROOT = Path(__file__).parents[2]

FRESH = "TESTS_FRESH_PROCESSES"
"""A variable under which each command gets an interpreter of its own: to see whether a failure comes from forking."""

READ_AT_START = ("PYTHON", "LANG", "LC_", "LD_", "MALLOC_", "GLIBC_", "OPENSSL_", "SSL_")
"""How variables begin that the interpreter and the C libraries read when they start."""

ANSWERS_WITHIN_S = 60.0
ENDS_WITHIN_S = 120.0

_PLAIN = {
    "executable": None,
    "preexec_fn": None,
    "close_fds": True,
    "pass_fds": (),
    "shell": False,
    "restore_signals": True,
    "gid": None,
    "gids": None,
    "uid": None,
    "umask": -1,
    "process_group": -1,
}
"""Options of `Popen` which a fork doesn't know, as they are when nobody gives them."""


def inherited(environ: Mapping[str, str]) -> tuple[object, ...]:
    """What a process started now would have from its parent or read at its start, but for what `Call` says."""
    status = Path("/proc/thread-self/status").read_text().splitlines()
    kept = [line for line in status if line.startswith(("Umask:", "SigBlk:", "SigIgn:", "Uid:", "Gid:"))]
    variables = {name: value for name, value in environ.items() if name.startswith(READ_AT_START)}
    return kept, Path("/proc/thread-self/limits").read_text(), variables


class ForkServer:
    """The process that forks: one for each worker of pytest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(ANSWERS_WITHIN_S)
        self.inherited = inherited(os.environ)
        with theirs:
            words = [sys.executable, "-m", "tests.support.fork_server", str(theirs.fileno())]
            null = subprocess.DEVNULL
            self._process = subprocess.Popen(words, cwd=ROOT, pass_fds=[theirs.fileno()], stdin=null, stdout=null)
        assert self._control.recv(100) == b"ready"
        assert len([*Path(f"/proc/{self._process.pid}/task").iterdir()]) == 1, "threads don't survive a fork"
        atexit.register(self.close)

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, what: Call | int, streams: Sequence[int] = ()) -> Any:
        data = json.dumps(what).encode()
        assert len(data) < MESSAGE_BYTES_MAX, "more than the fork server reads"
        with self._lock:
            socket.send_fds(self._control, [data], streams)
            return json.loads(self._control.recv(100))

    def close(self) -> None:
        self._control.close()
        self._process.kill()
        self._process.wait()


_server: ForkServer | None = None
_starting = threading.Lock()


def fork_server() -> ForkServer:
    """The server of this process, started when it is first asked for."""
    global _server
    with _starting:
        _server = _server or ForkServer()
    return _server


class CommandProcess(subprocess.Popen[AnyStr]):
    """`Popen` of the command, or of a script around it (`python -c`); forked where arguments, folder, environment and
    streams are all that is asked for.

    A process gets an interpreter of its own where a test says more about how it starts (`preexec_fn`, descriptors to
    pass, a user), where it would inherit something else than the fork server did (a umask, limits, ignored or blocked
    signals), where a variable is changed that the interpreter reads at its start, and where the system can't do it.
    """

    _pidfd: int | None = None
    _child_created: bool

    def _execute_child(self, *arguments: Any) -> None:
        start = subprocess.Popen._execute_child  # type: ignore[attr-defined]
        given: Mapping[str, Any] = inspect.signature(start).bind(self, *arguments).arguments
        environ = dict(os.environ if given["env"] is None else given["env"])
        if not _can_fork(given, environ):
            start(self, *arguments)
            return
        command = [*map(os.fspath, given["args"])]
        code = None if command[: len(COMMAND)] == COMMAND else command[len(SCRIPT)]
        call = Call(
            code=code,
            words=command[len(COMMAND) :],
            cwd=str(Path(given["cwd"] or "").resolve(strict=True)),
            environ=environ,
            new_session=bool(given["start_new_session"]),
        )
        ends: tuple[str, ...] = ("p2cread", "c2pwrite", "errwrite")
        streams = [number if given[end] == -1 else given[end] for number, end in enumerate(ends)]
        self.pid = fork_server().ask(call, streams)
        self._pidfd = os.pidfd_open(self.pid)
        self._child_created = True
        pipes = (*ends[:1], "p2cwrite", "c2pread", *ends[1:2], "errread", *ends[2:])
        self._close_pipe_fds(*(given[end] for end in pipes))  # type: ignore[attr-defined]

    def _internal_poll(self, *arguments: Any, **options: Any) -> int | None:
        if self._pidfd is None:
            return super()._internal_poll(*arguments, **options)  # type: ignore[misc, no-any-return]
        if self.returncode is None and self._waitpid_lock.acquire(blocking=False):  # type: ignore[attr-defined]
            try:
                pid, status = self._try_wait(os.WNOHANG)
                if pid == self.pid and self.returncode is None:
                    self._handle_exitstatus(status)  # type: ignore[attr-defined]
            finally:
                self._waitpid_lock.release()  # type: ignore[attr-defined]
        return self.returncode

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        """Its parent is the fork server, so that one waits; it keeps the pid until it is asked."""
        if self._pidfd is None:
            return super()._try_wait(wait_flags)  # type: ignore[misc, no-any-return]
        ended = select.poll()
        ended.register(self._pidfd, select.POLLIN)
        if not ended.poll(0 if wait_flags & os.WNOHANG else None):
            return 0, 0
        status = fork_server().ask(self.pid)
        os.close(self._pidfd)
        return self.pid, status


def _can_fork(given: Mapping[str, Any], environ: Mapping[str, str]) -> bool:
    return (
        sys.platform == "linux"
        and FRESH not in os.environ
        and not isinstance(given["args"], str)
        and ([*given["args"]][: len(COMMAND)] == COMMAND or [*given["args"]][: len(SCRIPT)] == SCRIPT)
        and all(given.get(name, plain) == plain for name, plain in _PLAIN.items())
        and inherited(environ) == fork_server().inherited
    )


def run_process(
    words: Sequence[str],
    *,
    stdin: str | BinaryIO = "",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """`subprocess.run` for the command, with all it printed, as text; killed if it doesn't end.

    Args:
        words: how the process starts, as `CommandProcess` takes it.
        stdin: what it reads.
    """
    pipe, given = subprocess.PIPE, stdin if isinstance(stdin, str) else None
    reads = pipe if isinstance(stdin, str) else stdin
    with CommandProcess(words, stdin=reads, stdout=pipe, stderr=pipe, text=True, cwd=cwd, env=env) as process:
        try:
            out, err = process.communicate(given, ENDS_WITHIN_S)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(words, process.returncode, out, err)
