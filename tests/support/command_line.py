"""The command line, driven in this process or on a terminal, against a sandbox of its own or a mirror."""

from __future__ import annotations

import json
import logging
import os
import pty
import select
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

import pytest
from anyio.from_thread import start_blocking_portal

from classify_batch.cli import main as command_line
from classify_batch.cli.sandbox import parse_pairs, sandbox_command
from classify_batch.sandbox import Faults, Options, open_sandbox, serve_in_loop
from tests.support.start_command import COMMAND, CommandProcess, run_process

KEY = "llx-s3cr3t-key"
HEADER = "Bearer s3cr3t-header"
PATIENCE_S = 120
"""How long a test waits for what must happen: a machine may be busy, and who waits in vain fails anyway."""
WIDTH = 80


class Done(NamedTuple):
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def body(self) -> Any:
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


Call = Callable[..., Done]

SMALL_JOBS_CONFIG = """
[job]
rules = [{{ type = "invoice", description = "has line items and a total" }}]

[api]
base_url = "{base_url}"
version = "{version}"
timeout_s = 10

[plan]
files_per_job = {files_per_job}

[limits]
{limits}
"""


def small_jobs_config(base_url: str, *, version: str = "v1", files_per_job: int = 10, **limits: float) -> str:
    """A config for a sandbox: two jobs in flight, one attempt, and hardly a wait; or with these limits instead."""
    usual = {"requests_per_s": 500, "jobs_in_flight": 2, "attempts": 1, "settle_s": 0.2, "accept_s": 0}
    lines = "\n".join(f"{name} = {value}" for name, value in {**usual, **limits}.items())
    return SMALL_JOBS_CONFIG.format(base_url=base_url, version=version, files_per_job=files_per_job, limits=lines)


def foreign(name: str) -> bool:
    """Whether a variable of whoever runs the tests would be a setting."""
    return name.startswith(("CLASSIFY_BATCH_", "LLAMA_CLOUD_"))


def calling(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path, *command: str, **limits: str
) -> Call:
    """The command line, in this process and this folder: `call(base_url, "get", job_id)`. No secret is ever shown."""
    for name in filter(foreign, list(os.environ)):
        monkeypatch.delenv(name)
    monkeypatch.setenv("LLAMA_CLOUD_API_KEY", KEY)
    for name, value in {"requests_per_s": "1000", **limits}.items():
        monkeypatch.setenv(f"CLASSIFY_BATCH_LIMITS__{name.upper()}", value)
    monkeypatch.chdir(folder)

    def call(base_url: str | None, *arguments: str) -> Done:
        capsys.readouterr()
        at = [] if base_url is None else ["--base-url", base_url]
        monkeypatch.setattr(sys, "argv", ["classify-batch", *command, *arguments, *at])
        with pytest.raises(SystemExit) as left:
            command_line.main()
        assert isinstance(left.value.code, int)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert KEY not in out + err
        assert "s3cr3t-header" not in out + err
        return Done(left.value.code, out, err)

    return call


def environment(**values: str | None) -> dict[str, str]:
    """An environment with a key, and with no setting but a high rate and these; None: without that one."""
    inherited = {name: value for name, value in os.environ.items() if not foreign(name)}
    given = {"LLAMA_CLOUD_API_KEY": KEY, "CLASSIFY_BATCH_LIMITS__REQUESTS_PER_S": "1000", **values}
    return {**inherited, **{name: value for name, value in given.items() if value is not None}}


def on_a_terminal(*words: str, stderr: bool = False, width: int = WIDTH) -> str:
    """What a command writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    values = environment(TERM="dumb", COLUMNS=str(width), NO_COLOR="1")
    errors = theirs if stderr else subprocess.DEVNULL
    with CommandProcess([*COMMAND, *words], stdout=theirs, stderr=errors, env=values) as process:
        os.close(theirs)
        seen = b""
        while select.select([ours], [], [], PATIENCE_S)[0]:
            try:
                block = os.read(ours, 4096)
            except OSError:
                break
            if not block:
                break
            seen += block
    os.close(ours)
    assert process.returncode == 0, seen
    return seen.decode()


def command(
    *words: object,
    folder: Path | None = None,
    status: int | None = None,
    environ: Mapping[str, str | None] | None = None,
) -> subprocess.CompletedProcess[str]:
    """The command line in this process, to its end, with these environment variables and no other setting.

    Imports are the most of what a process of its own would cost. What is about processes (signals, streams that break,
    limits on memory) asks for `command_process`.

    Args:
        folder: where it runs.
        status: with what it must end, if that is given.
        environ: further variables; None: without that one.
    """
    arguments = [*map(str, words)]
    out, err = (TextIOWrapper(BytesIO(), "utf-8", errors="surrogateescape", newline="") for _ in range(2))
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name in filter(foreign, list(os.environ)):
            patch.delenv(name)
        for name, value in environment(**(environ or {})).items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["classify-batch", *arguments])
        patch.setattr(logging.root, "handlers", [])  # pytest's own would keep warnings from stderr
        patch.chdir(folder or Path.cwd())
        with pytest.raises(SystemExit) as left:
            command_line.main()
    assert isinstance(left.value.code, int)
    texts = [_text_of(stream) for stream in (out, err)]
    return _judged(subprocess.CompletedProcess(arguments, left.value.code, *texts), status)


def command_process(
    *words: object,
    folder: Path | None = None,
    status: int | None = None,
    stdin: str | BinaryIO = "",
    environ: Mapping[str, str | None] | None = None,
) -> subprocess.CompletedProcess[str]:
    """`command` in a process of its own."""
    done = run_process(
        [*COMMAND, *map(str, words)],
        stdin=stdin,
        cwd=folder,
        env=environment(**(environ or {})),
    )
    return _judged(done, status)


def _judged(done: subprocess.CompletedProcess[str], status: int | None) -> subprocess.CompletedProcess[str]:
    assert "Traceback" not in done.stderr
    assert status in (None, done.returncode), done.stderr
    return done


def _text_of(stream: TextIOWrapper) -> str:
    stream.flush()
    assert isinstance(stream.buffer, BytesIO)
    return stream.buffer.getvalue().decode("utf-8", "surrogateescape")


def contents(folder: Path) -> Mapping[str, bytes | None]:
    """All that is in a folder, by path; None for a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


# --- Servers ----------------------------------------------------------------------------------------------------------


@contextmanager
def sandbox(*options: str, port: int = 0, wall_s: Callable[[], float] = time.time) -> Iterator[str]:
    """A sandbox by these options of the command, on a socket, served by a thread of this process: a process of its own
    would cost each test most of a second. Gives its base URL. `port`: 0 takes any; `wall_s`: its clock, by which its
    jobs end."""
    quick = ("--api-key", KEY, "--job-duration-s", "0.02", "--job-duration-sigma", "0")
    with (
        open_sandbox(sandbox_options(*quick, *options), wall_s) as app,
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(serve_in_loop(app, port)) as base_url,
    ):
        yield base_url


def sandbox_options(*words: str) -> Options:
    """The options that `classify-batch sandbox` would serve by."""
    values = sandbox_command.make_context("sandbox", list(words)).params
    faults = Faults.from_values(parse_pairs(values.pop("fault"), "--fault", "NAME=VALUE"), "--fault")
    further_keys = parse_pairs(values.pop("further_key"), "--further-key", "KEY=PROJECT")
    assert (values.pop("port"), values.pop("faults")) == (0, None), "a test serves on any port, and names its faults"
    return Options.from_values(**values, further_keys=further_keys, faults=faults)


def asked(base_url: str) -> dict[str, Any]:
    """What a sandbox was asked so far."""
    with urllib.request.urlopen(f"{base_url}/sandbox/stats") as response:
        stats: dict[str, Any] = json.load(response)
    return stats


class Mirror(ThreadingHTTPServer):
    """An API that sends back what was sent, secrets and all; every job is finished, and no rule ever matches."""

    def __init__(self, refuse: bool = False, **fields: Any) -> None:
        super().__init__(("127.0.0.1", 0), _MirrorHandler)
        self.refuse, self.fields = refuse, fields
        self.paths: list[str] = []
        self.bodies: list[dict[str, Any]] = []

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _MirrorHandler(BaseHTTPRequestHandler):
    server: Mirror

    def log_message(self, *_words: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        path = urlsplit(self.path).path
        if path.endswith(("/jobs", "/classify")):
            self._say(200, {"items": []})
            return
        if path.endswith("/results"):
            items = [{"file_id": file_id, "result": self._result} for file_id in self.server.bodies[-1]["file_ids"]]
            self._say(200, {"items": items})
            return
        told = {"project_id": "p", "rules": [], **self._told, "id": _id_in(path), "status": self._finished}
        self._say(200, {**told, "result": self._result, **self.server.fields})

    def do_POST(self) -> None:
        self.server.paths.append(self.path)
        path = urlsplit(self.path).path
        if path.endswith("/cancel"):
            self._say(200, {"id": _id_in(path.removesuffix("/cancel")), "status": "CANCELLED", **self.server.fields})
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        said = json.dumps(body)
        if self.server.refuse:
            self._say(400, {"detail": f"not with {self.headers['Authorization']} and {said}"})
        else:
            self._say(200, {"id": "j", "status": "PENDING", "echo": said, **body, **self.server.fields})

    @property
    def _told(self) -> dict[str, Any]:
        return self.server.bodies[-1] if self.server.bodies else {}

    @property
    def _finished(self) -> str:
        return "COMPLETED" if self.path.startswith("/api/v2/") else "SUCCESS"

    @property
    def _result(self) -> dict[str, Any]:
        return {"type": None, "confidence": 0.5, "reasoning": "mirrored"}

    def _say(self, status: int, body: Mapping[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _id_in(path: str) -> str:
    return unquote(path.rpartition("/")[2])


ServerT = TypeVar("ServerT", bound=ThreadingHTTPServer)


@contextmanager
def served(server: ServerT) -> Iterator[ServerT]:
    """A server of a test's own, served by a thread."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def mirror(**options: Any) -> Iterator[Mirror]:
    with served(Mirror(**options)) as server:
        yield server


def read_status(run_dir: Path) -> dict[str, Any]:
    """What `status --json` says."""
    found: dict[str, Any] = json.loads(command("status", run_dir, "--json").stdout)
    return found


def until(condition: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    """Waits until something has happened; fails at once if `process`, which is to do it, has ended."""
    ends_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < ends_s, "it never happened"
        time.sleep(0.01)
