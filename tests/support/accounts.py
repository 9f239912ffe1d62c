"""A run with two accounts: a server for each, real processes, and what they were paid for."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from classify_batch.sandbox import read_billed
from tests.support.start_command import COMMAND, CommandProcess, run_process

WAIT_S = 120.0
KEYS = {"east": "llx-east-s3cr3t", "west": "llx-west-s3cr3t"}

CONFIG = """
[job]
rules = [{{ type = "invoice", description = "has line items and a total" }}]

[api]
version = "{version}"
base_url = "http://127.0.0.1:9"
timeout_s = 3

[plan]
files_per_job = 5

[limits]
requests_per_s = 200
settle_s = 1
accept_s = 0
jobs_in_flight = 4
{limits}
"""

ACCOUNT = """
[[accounts]]
name = "{name}"
api_key_env = "{variable}"
base_url = "{base_url}"
{more}
"""


@dataclass(slots=True)
class AccountServer:
    """An account's server: a sandbox that can be stopped, and started again with its jobs and other faults."""

    name: str
    ledger: Path
    options: Sequence[str] = ()
    port: int = 0
    process: subprocess.Popen[str] | None = None

    def start(self, *options: str) -> None:
        """Starts it: at the same port as before, with its jobs."""
        command = [*COMMAND, "sandbox", "--port", str(self.port)]
        given = [*(options or self.options)]
        if "--job-duration-s" not in given:
            given += ["--job-duration-s", "0.05"]
        words = ["--api-key", KEYS[self.name], "--ledger", str(self.ledger), *given]
        self.process = CommandProcess([*command, *words], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().strip().rpartition(":")[2])

    def stop(self) -> None:
        """Stops it; its jobs stay in the ledger."""
        if self.process is not None:
            self.process.terminate()
            self.process.communicate(timeout=WAIT_S)
        self.process = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def paid(self) -> Counter[str]:
        """How often each file was paid here."""
        return read_billed(self.ledger) if self.ledger.exists() else Counter()


@dataclass(slots=True)
class AccountsPlace:
    """A folder with an input, a run directory, a config with accounts, and their servers."""

    folder: Path
    files: int = 200
    version: str = "v1"
    limits: str = ""
    more: Mapping[str, str] = field(default_factory=dict)
    servers: dict[str, AccountServer] = field(default_factory=dict)

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    @property
    def file_ids(self) -> list[str]:
        return [f"file-{number}" for number in range(self.files)]

    def write(self, *accounts: str) -> Path:
        """The config with these accounts, in their order."""
        text = CONFIG.format(version=self.version, limits=self.limits)
        for name in accounts:
            variable, base_url = f"{name.upper()}_KEY", self.servers[name].base_url
            text += ACCOUNT.format(name=name, variable=variable, base_url=base_url, more=self.more.get(name, ""))
        (self.folder / "ids.txt").write_text("".join(f"{file_id}\n" for file_id in self.file_ids))
        config = self.folder / "job.toml"
        config.write_text(text)
        return config

    def words(self, *options: str) -> list[str]:
        """The command `run`."""
        source = ["--input", str(self.folder / "ids.txt"), "--run-dir", str(self.run_dir)]
        return [*COMMAND, "run", str(self.folder / "job.toml"), *source, *options]

    def start(self, *options: str, keys: Mapping[str, str] = KEYS) -> subprocess.Popen[str]:
        """The command `run` as a process of its own."""
        return CommandProcess(
            self.words(*options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(keys)
        )

    def run(self, *options: str, keys: Mapping[str, str] = KEYS) -> tuple[int, str]:
        """Its exit status, and what it said."""
        process = self.start(*options, keys=keys)
        try:
            _, said = process.communicate(timeout=WAIT_S)
        finally:
            process.kill()
        assert "Traceback" not in said, said
        return process.returncode, said

    def status(self) -> dict[str, Any]:
        """What `status --json` says."""
        done = run_process([*COMMAND, "status", str(self.run_dir), "--json"])
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def outcomes(self) -> list[dict[str, Any]]:
        """All lines of all shards."""
        return [
            json.loads(line)
            for name in ("results.jsonl", "failures.jsonl")
            for path in sorted(self.run_dir.glob(f"shards/*/{name}"))
            for line in path.read_bytes().splitlines()
        ]

    def paid(self) -> Counter[str]:
        """How often each file was paid, in all accounts together."""
        return sum((server.paid() for server in self.servers.values()), Counter[str]())

    def judge(self) -> None:
        """Asserts that each file has one outcome and was paid once, and that `verify` finds the run sound."""
        assert Counter(line["file_id"] for line in self.outcomes()) == Counter(self.file_ids)
        paid = self.paid()
        assert paid == Counter(self.file_ids), {file_id: count for file_id, count in paid.items() if count != 1}
        done = run_process([*COMMAND, "verify", str(self.run_dir)])
        assert done.stdout == f"sound and complete: {self.files:,} files, each with one outcome\n", done.stdout

    def refuse_keys_on_disk(self) -> None:
        """Asserts that no key stands in any file of the run."""
        for path in self.run_dir.rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                assert not any(key.encode() in data for key in KEYS.values()), path


def environment(keys: Mapping[str, str]) -> dict[str, str]:
    """The environment of a command, with these accounts' keys and no other."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("CLASSIFY_", "LLAMA_"))}
    return environ | {f"{name.upper()}_KEY": key for name, key in keys.items()}


@contextmanager
def two_accounts(
    folder: Path, east: Sequence[str] = (), west: Sequence[str] = (), **values: Any
) -> Iterator[AccountsPlace]:
    """A place with the servers of two accounts, which have these options."""
    place = AccountsPlace(folder, **values)
    for name, options in (("east", east), ("west", west)):
        place.servers[name] = AccountServer(name, folder / f"{name}.jsonl", options)
    try:
        for server in place.servers.values():
            server.start()
        place.write("east", "west")
        yield place
    finally:
        for server in place.servers.values():
            with suppress(subprocess.TimeoutExpired):
                server.stop()
