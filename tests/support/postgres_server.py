"""A PostgreSQL server, for this machine alone; where there is none to start, tests that need it are skipped."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.command_line import PATIENCE_S

USER = "classify"


@contextmanager
def serving_postgres() -> Iterator[dict[str, str]]:
    """A server with an empty database; gives the variables by which `psql` finds it."""
    initdb, psql = find_program("initdb"), shutil.which("psql")
    if initdb is None or psql is None:
        pytest.skip("this machine has no PostgreSQL")
    with tempfile.TemporaryDirectory(prefix="classify-batch-postgres-") as folder:
        owner = None
        if os.geteuid() == 0:  # as whom it doesn't run
            owner = "nobody"
            shutil.chown(folder, owner)
        data = str(Path(folder) / "data")
        first = [
            str(initdb),
            "--pgdata",
            data,
            "--username",
            USER,
            "--auth",
            "trust",
            "--no-sync",
            "--encoding",
            "UTF8",
        ]
        subprocess.run(first, user=owner, cwd=folder, check=True, capture_output=True, timeout=PATIENCE_S)
        port = free_port()
        settings = {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": "", "fsync": "off"}
        words = [str(initdb.with_name("postgres")), "-D", data]
        words += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with subprocess.Popen(words, user=owner, cwd=folder, stderr=subprocess.DEVNULL) as process:
            environ = {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": USER, "PGDATABASE": "postgres"}
            try:
                wait_until_it_answers(psql, environ)
                yield environ
            finally:
                process.send_signal(signal.SIGINT)


def find_program(name: str) -> Path | None:
    """A program of the server, which Debian keeps off the PATH."""
    if (found := shutil.which(name)) is not None:
        return Path(found).resolve()
    return next(iter(sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)), None)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def wait_until_it_answers(psql: str, environ: dict[str, str]) -> None:
    """Waits until the server takes connections."""
    until_s = time.monotonic() + PATIENCE_S
    ask, values = [psql, "-c", "select"], {**os.environ, **environ}
    while subprocess.run(ask, env=values, capture_output=True, check=False).returncode != 0:
        assert time.monotonic() < until_s, "PostgreSQL doesn't start"
        time.sleep(0.1)
