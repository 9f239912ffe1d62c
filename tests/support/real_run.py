"""The real command against real servers, and the judgement of what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from classify_batch.sandbox import read_billed
from tests.support.independent_server import KEY, read_paid, right_type
from tests.support.start_command import COMMAND, CommandProcess, run_process

INDEPENDENT_SERVER = (sys.executable, str(Path(__file__).with_name("independent_server.py")))
PATIENCE_S = 300.0
TYPES = ("invoice", "contract", "letter")

CONFIG = """
[api]
base_url = "{base_url}"
timeout_s = 2
[job]
mode = "FAST"
rules = [
  {{ type = "invoice", description = "has an invoice number, line items and a total" }},
  {{ type = "contract", description = "binds two parties to their obligations" }},
  {{ type = "letter", description = "begins with a salutation, ends with a name" }},
]
{parsing}
[plan]
files_per_job = {files_per_job}
[limits]
requests_per_s = 400.0
jobs_in_flight = {jobs_in_flight}
settle_s = {settle_s}
accept_s = 0
clock_spread_s = 3
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that listens, and where it notes what it accepted."""

    base_url: str
    ledger: Path
    key: str
    read_paid: Callable[[Path], Counter[str]]


@contextmanager
def listening(
    command: Sequence[str], ledger: Path, key: str, reader: Callable[[Path], Counter[str]]
) -> Iterator[Server]:
    """A server process, until the end of the block."""
    with CommandProcess([*command, "--ledger", str(ledger)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Server(process.stdout.readline().strip(), ledger, key, reader)
        finally:
            process.kill()


@contextmanager
def independent_server(folder: Path, *options: str) -> Iterator[Server]:
    """The independent server, with these habits."""
    with listening([*INDEPENDENT_SERVER, *options], folder / "ledger.jsonl", KEY, read_paid) as server:
        yield server


@dataclass(slots=True)
class Run:
    """A run of the command: its folder, its files, its server."""

    folder: Path
    server: Server
    file_ids: Sequence[str]
    files_per_job: int = 20
    jobs_in_flight: int = 8
    settle_s: float = 1.0
    parsing: str = ""
    command: list[str] = field(init=False)

    def __post_init__(self) -> None:
        config, source = self.folder / "config.toml", self.folder / "ids.txt"
        names = ("files_per_job", "jobs_in_flight", "settle_s", "parsing")
        values = {name: getattr(self, name) for name in names}
        config.write_text(CONFIG.format(base_url=self.server.base_url, **values))
        tomllib.loads(config.read_text())
        source.write_text("\n".join(self.file_ids) + "\n")
        self.command = [*COMMAND, "run", str(config), "--input", str(source), "--run-dir", str(self.run_dir)]

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    def start(self) -> subprocess.Popen[str]:
        """The command, running."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("CLASSIFY_", "LLAMA_"))}
        environ["LLAMA_CLOUD_API_KEY"] = self.server.key
        return CommandProcess(self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ)

    def to_end(self) -> tuple[int, str]:
        """The command's exit status and what it said."""
        with self.start() as process:
            try:
                _, said = process.communicate(timeout=PATIENCE_S)
            finally:
                process.kill()
        return process.returncode, said

    def committed(self) -> int:
        """Bytes of results so far."""
        results = self.run_dir / "results.jsonl"
        return results.stat().st_size if results.exists() else 0

    def wait_for(self, process: subprocess.Popen[str], what: Callable[[], bool]) -> bool:
        """Polls a running command until `what` holds; False where the command ended before."""
        until_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < until_s:
            if process.poll() is not None:
                return False
            if what():
                return True
            time.sleep(0.002)
        raise AssertionError("it took too long")

    def wait_for_bytes(self, process: subprocess.Popen[str], size: int) -> bool:
        """`wait_for` more than so many bytes of results."""
        return self.wait_for(process, lambda: self.committed() > size)

    def lines(self, name: str) -> list[dict[str, Any]]:
        path = self.run_dir / name
        return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []

    def requests(self) -> int:
        return int(json.loads((self.run_dir / "manifest.json").read_bytes())["requests"])

    def jobs(self) -> int:
        return int(json.loads((self.run_dir / "manifest.json").read_bytes())["jobs"])

    def verify(self) -> tuple[int, str]:
        done = run_process([*COMMAND, "verify", str(self.run_dir)])
        return done.returncode, done.stdout + done.stderr

    def judge(self, status: int, said: str) -> dict[str, str]:
        """Asserts every promise of a complete run; returns the failure codes by file ID."""
        results, failures = self.lines("results.jsonl"), self.lines("failures.jsonl")
        codes = {line["file_id"]: line["code"] for line in failures}
        assert status == (1 if failures else 0), said
        outcomes = Counter(line["file_id"] for line in results + failures)
        assert outcomes == Counter(set(self.file_ids)), "each file ID has one outcome"
        paid = self.server.read_paid(self.server.ledger)
        twice = {file_id: count for file_id, count in paid.items() if count > 1}
        assert not twice, f"{len(twice)} files were paid twice"
        assert {line["file_id"] for line in results} == set(paid), "what was paid is what was answered"
        if self.server.key == KEY:
            wrong = [line for line in results if line["type"] != right_type(line["file_id"], TYPES)]
            assert not wrong, "an answer reached another file"
        assert self.verify()[0] == 0, self.verify()[1]
        assert "Traceback" not in said
        return codes


@contextmanager
def sandbox(folder: Path, *options: str) -> Iterator[Server]:
    """The program's own sandbox, as a process."""
    ledger = folder / "sandbox-ledger.jsonl"
    with listening([*COMMAND, "sandbox", "--port", "0", *options], ledger, "sandbox", read_billed) as server:
        yield server
