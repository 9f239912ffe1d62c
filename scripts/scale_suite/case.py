"""One run with shards on a cluster, what is done to it, and what came of it."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from classify_batch.sandbox import read_billed
from scale_suite.nodes import Nodes, kill, kill_session, shard_processes

COMMAND = (sys.executable, "-m", "classify_batch")
SHARDS = 8
BUDGET_PER_S = 18.0
ALLOWED_PER_S = 22
"""In any one second: workers send up to 0.1 s (`limits.lead`) after their turn, each as its machine is slow, and are
put off themselves where CPUs are busy. What is sent in all is judged by the budget."""

RUN_S_MAX = 300.0
LEASE_S = 3.0
TOKEN = secrets.token_hex(32)
"""Of the clusters of this proof: whoever else finds their ports can do nothing there."""

CONFIG = """
[job]
rules = [{{ type = "invoice", description = "has line items and a total" }}]

[api]
base_url = "{base_url}"

[plan]
files_per_job = 5

[limits]
requests_per_s = {per_s}
jobs_in_flight = 48
settle_s = 1
accept_s = 0
lease_s = {lease_s}
"""


def environment() -> dict[str, str]:
    """What commands and workers see: the key of the sandbox, and nothing of the caller's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CLASSIFY_BATCH_", "LLAMA_"))}
    own = {"LLAMA_CLOUD_API_KEY": "sandbox", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    return kept | own | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


class Request(NamedTuple):
    """A request as the server saw it.

    Attributes:
        at_s: when it was handled.
        idle_s: it came later than that: the server had nothing to do then.
        waits_s: for how long processes of the machine had waited for a CPU until then.
        what: method and path.
    """

    at_s: float
    idle_s: float
    waits_s: float
    refused: bool
    what: str


@dataclass(frozen=True, slots=True)
class Server:
    """A server in a process of its own."""

    base_url: str
    folder: Path

    def requests(self) -> list[Request]:
        """Each request so far."""
        found = []
        for line in (self.folder / "requests.log").read_text().splitlines():
            at_s, idle_s, waits_s, status, what = line.split(" ", 4)
            found.append(Request(float(at_s), float(idle_s), float(waits_s), status == "429", what))
        return found


@contextmanager
def server(folder: Path, *, per_s: int | None = ALLOWED_PER_S, job_s: float = 0.5) -> Iterator[Server]:
    """A server that is ended with the block."""
    folder.mkdir(parents=True)
    words = [sys.executable, "-m", "scale_suite.server", str(folder), "--job-s", str(job_s)]
    words += [] if per_s is None else ["--per-s", str(per_s)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Server(process.stdout.readline().strip(), folder)
        finally:
            process.kill()


@dataclass
class Case:
    """A run of so many files, in a folder of its own.

    Attributes:
        faults: what was not as promised.
    """

    name: str
    folder: Path
    server: Server
    files: int = 240
    per_s: float = BUDGET_PER_S
    shards: int = SHARDS
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        config = CONFIG.format(base_url=self.server.base_url, per_s=self.per_s, lease_s=LEASE_S)
        (self.folder / "job.toml").write_text(config)
        self.file_ids = [f"{self.name}-{number}" for number in range(self.files)]
        (self.folder / "ids.txt").write_text("".join(f"{each}\n" for each in self.file_ids))

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    def words(self, *options: str) -> list[str]:
        """The command."""
        given = ("--input", str(self.folder / "ids.txt"), "--run-dir", str(self.run_dir), "--progress", "none")
        return [*COMMAND, "run", str(self.folder / "job.toml"), *given, *options]

    def on(self, nodes: Nodes) -> list[str]:
        """The command, by the cluster."""
        return self.words("--shards", str(self.shards), "--executor", "ray", "--ray-address", nodes.address)

    def start(self, words: Sequence[str]) -> subprocess.Popen[str]:
        """Starts it."""
        return subprocess.Popen(
            words,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def end(self, process: subprocess.Popen[str], allowed: Sequence[int] = (0,)) -> int:
        """Waits for its end, and for a status that was promised."""
        try:
            said, _ = process.communicate(timeout=RUN_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
            self.faults.append(f"{self.name}: it didn't end within {RUN_S_MAX:g} s:\n{said}")
            return -1
        if process.returncode not in allowed or "Traceback" in said:
            self.faults.append(f"{self.name}: exit status {process.returncode}:\n{said}")
        return process.returncode

    @property
    def done(self) -> int:
        """Lines of outcomes so far."""
        return sum(path.read_bytes().count(b"\n") for path in self.run_dir.glob("shards/*/results.jsonl"))

    def wait_for(self, process: subprocess.Popen[str], what: Callable[[], bool]) -> bool:
        """Waits until something holds; False where the command ended before."""
        ends_s = time.monotonic() + RUN_S_MAX
        while time.monotonic() < ends_s and process.poll() is None:
            if what():
                return True
            time.sleep(0.01)
        return False

    def judge(self) -> dict[str, int]:
        """Counts what is missing and what is there too often, in the directories and on the bill."""
        outcomes = Counter[str]()
        for path in self.run_dir.glob("shards/*/*.jsonl"):
            if path.name in ("results.jsonl", "failures.jsonl"):
                outcomes.update(json.loads(line)["file_id"] for line in path.read_text().splitlines())
        billed = read_billed(self.server.folder / "ledger.jsonl")
        found = {
            "lost": sum(not outcomes[each] for each in self.file_ids),
            "twice": sum(outcomes[each] > 1 for each in self.file_ids),
            "paid twice": sum(billed[each] > 1 for each in self.file_ids),
        }
        if any(found.values()) or outcomes.keys() - set(self.file_ids):
            self.faults.append(f"{self.name}: {found}")
        verified = subprocess.run(
            [*COMMAND, "verify", str(self.run_dir)], env=environment(), capture_output=True, text=True, check=False
        )
        if verified.returncode:
            self.faults.append(f"{self.name}: verify: {verified.stdout}{verified.stderr}")
        return found


# --- What is done to a run --------------------------------------------------------------------------------------------


def undisturbed(case: Case, nodes: Nodes) -> None:
    """Nothing."""
    case.end(case.start(case.on(nodes)))


def worker_killed(case: Case, nodes: Nodes, chance: random.Random) -> int:
    """SIGKILL to one process that carries a shard out, or to a whole node, at a random moment. Gives how many died."""
    process = case.start(case.on(nodes))
    at = chance.randrange(case.files)
    killed = 0
    if case.wait_for(process, lambda: case.done >= at and bool(shard_processes(nodes))):
        if chance.random() < 0.25:
            node = chance.randrange(len(nodes.workers))
            kill_session(nodes.workers[node])
            nodes.workers[node] = nodes.add_worker()
            killed = 1
        elif found := shard_processes(nodes):
            kill(chance.choice(found), signal.SIGKILL)
            killed = 1
    case.end(process)
    return killed


def worker_stopped(case: Case, nodes: Nodes, chance: random.Random) -> int:
    """SIGSTOP to one process until its lease is over and another one has taken the shard, and SIGCONT then."""
    process = case.start(case.on(nodes))
    at = chance.randrange(case.files * 3 // 4)
    stopped = None
    if case.wait_for(process, lambda: case.done >= at and bool(shard_processes(nodes))) and (
        found := shard_processes(nodes)
    ):
        stopped = chance.choice(found)
        kill(stopped, signal.SIGSTOP)
        time.sleep(LEASE_S * chance.uniform(1.0, 3.0))
        kill(stopped, signal.SIGCONT)
    case.end(process)
    return int(stopped is not None)


def cluster_killed(case: Case, nodes: Nodes, chance: random.Random) -> int:
    """SIGKILL to every process of the cluster, and to the command."""
    process = case.start(case.on(nodes))
    at = chance.randrange(case.files * 3 // 4)
    interrupted = case.wait_for(process, lambda: case.done >= at and bool(shard_processes(nodes)))
    nodes.kill()
    process.kill()
    process.communicate()
    return int(interrupted)


def rate_of(requests: Sequence[Request], shards: int) -> dict[str, float]:
    """How much of the budget was used from the last shard's first create on, until the first shard had no create left
    to send; how long that was; the share of that time in which some process waited for a CPU; the most requests that
    must have come within a second; and the 429s."""
    creates = [each.at_s for each in requests if each.what.startswith("POST")]
    most, first = 0, 0
    for last, request in enumerate(requests):
        while requests[first].idle_s <= request.at_s - 1.0:
            first += 1
        most = max(most, last - first + 1)
    inside = [each for each in requests if creates[shards - 1] <= each.at_s <= creates[-1]]
    took_s = inside[-1].at_s - inside[0].at_s
    return {
        "per s": (len(inside) - 1) / took_s,
        "lasted s": took_s,
        "busy": (inside[-1].waits_s - inside[0].waits_s) / took_s,
        "most in a second": most,
        "429": sum(each.refused for each in requests),
        "longest gap": max((later.at_s - earlier.at_s for earlier, later in pairwise(inside)), default=0.0),
    }
