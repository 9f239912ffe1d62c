"""A run that is struck again and again, the sandbox beside it, and the judgement of what came of it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import sys
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from classify_batch.errors import RunDirectoryError
from classify_batch.runs import verify_run
from classify_batch.sandbox import OpenProject, read_billed
from classify_batch.sandbox.project import Brief, Judge
from classify_batch.settings import Settings

COMMAND = (sys.executable, "-m", "classify_batch")
CHILD = (sys.executable, str(Path(__file__).with_name("_crash_child.py")))
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith(("CLASSIFY_BATCH_", "LLAMA_"))}
ENVIRON |= {"LLAMA_CLOUD_API_KEY": "sandbox"}

FAULTS = {"lost_create_answer": 0.05, "rate_429": 0.05, "read_503": 0.05}
BRISK = {"retry_after_s": 0.1}
"""So that a run of a second isn't made of waiting: without it a 429 costs a second and more."""

PATIENCE_S = 120.0
PROCESSES_MAX = 60
"""A case that needs more of them makes no way."""

LEAVES_WITHIN_S = 4.0

CONFIG = """
[api]
base_url = "{base_url}"
project_id = "{project_id}"
timeout_s = 10
[job]
rules = [
  {{ type = "invoice", description = "has an invoice number, line items and a total amount" }},
  {{ type = "contract", description = "an agreement between parties with terms and signatures" }},
]
[plan]
files_per_job = {files_per_job}
[limits]
jobs_in_flight = {jobs_in_flight}
requests_per_s = {requests_per_s}
attempts = {attempts}
settle_s = {settle_s}
"""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a run looks like."""

    files: int = 24
    files_per_job: int = 6
    jobs_in_flight: int = 3
    attempts: int = 3
    settle_s: float = 1.0
    requests_per_s: float = 500.0
    fails: bool = False
    """Whether files may fail, since the sandbox was told to fail jobs."""


@dataclass
class Score:
    """What a suite has seen. All of `lost`, `twice`, `paid_twice` and `faults` should stay at nothing."""

    kills: int = 0
    stops: int = 0
    runs: int = 0
    files: int = 0
    lost: int = 0
    twice: int = 0
    paid_twice: int = 0
    requests: int = 0
    faults: list[str] = field(default_factory=list)

    def add(self, other: Score) -> None:
        for name in ("kills", "stops", "runs", "files", "lost", "twice", "paid_twice", "requests"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.faults += other.faults

    @property
    def good(self) -> bool:
        return not (self.lost or self.twice or self.paid_twice or self.faults)


# --- The sandbox ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Server:
    """A sandbox that listens, and where it notes what it accepted."""

    base_url: str
    ledger: Path

    def requests(self) -> Counter[str]:
        """What it was asked so far, by how it answered."""
        with urllib.request.urlopen(f"{self.base_url}/sandbox/stats") as answer:  # noqa: S310 - to this machine
            by_call: dict[str, dict[str, int]] = json.load(answer)["requests"]
        return sum((Counter(by_status) for by_status in by_call.values()), Counter())


@asynccontextmanager
async def sandbox(folder: Path, seed: int, faults: dict[str, float], *options: str) -> AsyncIterator[Server]:
    """A sandbox in a process of its own."""
    ledger = folder / "ledger.jsonl"
    misfortunes = [word for name, value in faults.items() for word in ("--fault", f"{name}={value}")]
    told = ["--port", "0", "--ledger", str(ledger), "--seed", str(seed), *misfortunes, *options]
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "sandbox", *told, stdout=asyncio.subprocess.PIPE, env=ENVIRON
    )
    try:
        assert process.stdout is not None
        base_url = (await process.stdout.readline()).decode().strip()
        if not base_url:
            raise RuntimeError("the sandbox doesn't start")
        yield Server(base_url, ledger)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


# --- A case -----------------------------------------------------------------------------------------------------------


class Case:
    """One run directory, and whatever is done to it.

    Args:
        name: begins its file IDs, so that a sandbox can serve many cases at once.
        crowded: whether its jobs lie in the same project as other cases' jobs.
    """

    def __init__(self, folder: Path, server: Server, shape: Shape, name: str, *, crowded: bool = False) -> None:
        self.folder = folder / name
        self.server = server
        self.shape = shape
        self.name = name
        self.score = Score(files=shape.files)
        self.run_dir = self.folder / "run"
        self.file_ids = [f"{name}-{number}" for number in range(shape.files)]
        self.folder.mkdir()
        self.ids.write_text("".join(f"{each}\n" for each in self.file_ids))
        numbers = {each: getattr(shape, each) for each in Shape.__slots__}
        project_id = "crowd" if crowded else name
        self.config.write_text(CONFIG.format(base_url=server.base_url, project_id=project_id, **numbers))

    @property
    def ids(self) -> Path:
        return self.folder / "ids.txt"

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def run(self) -> tuple[str, ...]:
        return ("run", str(self.config), "--input", str(self.ids), "--run-dir", str(self.run_dir))

    @property
    def retry(self) -> tuple[str, ...]:
        return ("resume", str(self.run_dir), "--retry-failed")

    def fault(self, words: str) -> None:
        self.score.faults.append(f"{self.name}: {words}")

    async def start(
        self,
        words: Iterable[str] = (),
        *,
        order: dict[str, Any] | None = None,
        after_s: float | None = None,
        number: signal.Signals = signal.SIGKILL,
    ) -> int:
        """Runs the command once: undisturbed, struck at a step (`order`), or sent a signal after so many seconds."""
        command, environ = COMMAND, ENVIRON
        if order is not None:
            command, environ = CHILD, ENVIRON | {"CRASH": json.dumps(order)}
        process = await asyncio.create_subprocess_exec(
            *command,
            *(words or self.run),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=environ,
        )
        self.score.runs += 1
        talk = asyncio.create_task(process.communicate())
        try:
            if after_s is not None:
                await asyncio.wait([talk], timeout=after_s)
                if process.returncode is None:
                    process.send_signal(number)
            patience_s = PATIENCE_S if number is signal.SIGKILL or after_s is None else 2 * LEAVES_WITHIN_S
            _, said = await asyncio.wait_for(asyncio.shield(talk), patience_s)
        except TimeoutError:
            self.fault(f"a process ran into the limit of time (order {order})")
            said = b""
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            talk.cancel()
        assert process.returncode is not None
        await self._look(process.returncode, said.decode("utf-8", "replace"), order)
        return process.returncode

    async def _look(self, status: int, said: str, order: dict[str, Any] | None) -> None:
        """What must hold after every process: a status that was promised, and a sound directory."""
        self.score.kills += status == -signal.SIGKILL
        self.score.stops += status in (75, -signal.SIGTERM)
        promised = {-signal.SIGKILL, 0, 75} | ({1} if self.shape.fails else set())
        if status not in promised and not (status == -signal.SIGTERM and not self.run_dir.exists()):
            self.fault(f"exit status {status} (order {order}):\n{said}")
        if "Traceback" in said:
            self.fault(f"a traceback (order {order}):\n{said}")
        try:
            found = await verify_run(self.run_dir)
        except RunDirectoryError:
            return  # it was struck before the run had begun
        if found.faults:
            self.fault(f"verify after status {status} (order {order}): {'; '.join(found.faults)}")

    async def to_end(self, words: Iterable[str] = ()) -> None:
        """The same command, undisturbed."""
        if (status := await self.start(words)) not in (0, 1):
            self.fault(f"it doesn't end: exit status {status}")

    async def judge(self, judge: Judge, *, by_command: bool = False) -> Score:
        """Counts what is missing and what is there too often, in the directory and on the bill."""
        outcomes = Counter[str]()
        for line in lines_of(self.run_dir / "results.jsonl"):
            outcomes[line["file_id"]] += 1
            if line["type"] != judge(line["file_id"])["type"]:
                self.fault(f"{line['file_id']} has another file's answer")
        failures = list(lines_of(self.run_dir / "failures.jsonl"))
        outcomes.update(line["file_id"] for line in failures)
        if failures and not self.shape.fails:
            self.fault(f"{len(failures)} files failed: {failures[0]}")
        if invented := outcomes.keys() - set(self.file_ids):
            self.fault(f"invented: {sorted(invented)[:3]}")
        billed = read_billed(self.server.ledger)
        self.score.lost = sum(not outcomes[each] for each in self.file_ids)
        self.score.twice = sum(outcomes[each] > 1 for each in self.file_ids)
        self.score.paid_twice = sum(billed[each] > 1 for each in self.file_ids)
        if unpaid := [each for each in outcomes if not billed[each] and each not in {f["file_id"] for f in failures}]:
            self.fault(f"answered, and not on the bill: {unpaid[:3]}")
        await self._judge_directory(by_command=by_command)
        if self.score.lost or self.score.twice or self.score.paid_twice:
            self.fault(f"lost {self.score.lost}, twice {self.score.twice}, paid twice {self.score.paid_twice}")
        return self.score

    async def _judge_directory(self, *, by_command: bool) -> None:
        try:
            found = await verify_run(self.run_dir)
        except RunDirectoryError as error:
            self.fault(str(error))
            return
        if found.faults or not found.complete:
            self.fault(f"verify: {'; '.join(found.faults) or 'incomplete'}")
        if leftover := [each.name for each in self.run_dir.iterdir() if each.name.endswith(".tmp")]:
            self.fault(f"left behind: {leftover}")
        if by_command and (status := await self.start(("verify", str(self.run_dir)))) != 0:
            self.fault(f"classify-batch verify: exit status {status}")

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def lines_of(path: Path) -> Iterable[dict[str, Any]]:
    return map(json.loads, path.read_bytes().splitlines()) if path.exists() else ()


def judge_of(config: Path) -> Judge:
    """What the sandbox answers, file by file, whoever asks and however often."""
    job = Settings.load(config).job
    return OpenProject().judge_at_hand(Brief(tuple(job.rules), job.parsing_configuration))


def kill_moment_s(dice: random.Random, expected_s: float) -> float:
    return dice.uniform(0.0, expected_s)
