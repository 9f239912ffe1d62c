"""A run that is interrupted again and again, and the judgement of what came of it."""

from __future__ import annotations

import json
import random
import shutil
import signal
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from classify_batch.errors import RunDirectoryError
from classify_batch.operations.shards.verify_run import verify_run
from classify_batch.sandbox import OpenProject, read_billed
from classify_batch.sandbox.documents.project import Classifier, JobConfig
from classify_batch.sandbox.server.uploads import read_uploads
from classify_batch.settings import Settings
from crash_suite.forks import Forks, run_command
from crash_suite.sandbox import Server

PROCESSES_MAX = 60
"""A case that needs more of them makes no way."""

EXIT_TIMEOUT_S = 4.0

CONFIG = """
[api]
version = "{version}"
base_url = "{base_url}"
project_id = "{project_id}"
timeout_s = 2
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
accept_s = 0
clock_spread_s = 3
drain_s = {drain_s}
"""

SECOND_LOOK = "[escalation]\nbelow_confidence = 0.6\nunmatched = true\n"


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
    """Whether files may fail, since the sandbox was set to fail jobs."""
    second_look: bool = False
    """Whether weak answers are looked at again."""
    others_answer: bool = False
    """Whether somebody else's jobs may answer files, which we then don't pay."""
    clock_off_s: float = 0.0
    """How far each process's clock may be off, either way."""
    clock_steps_s: float = 0.0
    """How far it may step, either way, at a moment of the process's life."""
    alive_s: float = 1.0
    """About how long a process lives."""
    drain_s: float = 5.0
    """How long a cancelled run collects what it can't cancel."""
    documents: bool = False
    """Whether the input is a folder, whose documents are uploaded."""
    cancelled: bool = False
    """Whether the run is cancelled now and then, and ends with 77 then."""
    accounts: bool = False
    """Whether two accounts share the run. A process that has one key only may end with 77."""


@dataclass
class Score:
    """What a suite has seen. All of `lost`, `twice`, `paid_twice` and `faults` should stay at nothing. `left_out`: what
    there was no time for."""

    kills: int = 0
    stops: int = 0
    runs: int = 0
    files: int = 0
    lost: int = 0
    twice: int = 0
    paid_twice: int = 0
    requests: int = 0
    faults: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def add(self, other: Score) -> None:
        for name in ("kills", "stops", "runs", "files", "lost", "twice", "paid_twice", "requests"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.faults += other.faults
        self.left_out += other.left_out

    @property
    def good(self) -> bool:
        return not (self.lost or self.twice or self.paid_twice or self.faults)


# --- A case -----------------------------------------------------------------------------------------------------------


class Case:
    """One run directory, and whatever is done to it.

    Args:
        name: begins its file IDs, so that a sandbox can serve many cases at once.
        forks: where its processes are made; None: each is a start of the real command.
        crowded: whether its jobs lie in the same project as other cases' jobs.
    """

    def __init__(
        self,
        folder: Path,
        server: Server,
        shape: Shape,
        name: str,
        *,
        forks: Forks | None = None,
        crowded: bool = False,
    ) -> None:
        self._forks = forks
        self._clocks = random.Random(name)
        self.folder = folder / name
        self.server = server
        self.shape = shape
        self.name = name
        self.score = Score(files=shape.files)
        self.run_dir = self.folder / "run"
        self.file_ids = [f"{name}-{number}" for number in range(shape.files)]
        self.folder.mkdir()
        if shape.documents:
            self.file_ids = write_documents(self.ids, self.file_ids)
        else:
            self.ids.write_text("".join(f"{each}\n" for each in self.file_ids))
        numbers = {each: getattr(shape, each) for each in Shape.__slots__}
        project_id = "crowd" if crowded else name
        told = {"base_url": server.base_url, "version": server.version, "project_id": project_id}
        config = CONFIG.format(**told, **numbers)
        self.config.write_text(config + SECOND_LOOK if shape.second_look else config)

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

    @property
    def cancel(self) -> tuple[str, ...]:
        return ("cancel", str(self.run_dir))

    @property
    def is_planned(self) -> bool:
        return (self.run_dir / "run.json").exists()

    def fault(self, words: str) -> None:
        self.score.faults.append(f"{self.name}: {words}")

    async def start(
        self,
        words: Sequence[str] = (),
        *,
        order: dict[str, Any] | None = None,
        after_s: float | None = None,
        number: signal.Signals = signal.SIGKILL,
    ) -> int | None:
        """Runs the command once: undisturbed, interrupted at a step (`order`), or signalled after so many seconds."""
        words = words or self.run
        self.score.runs += 1
        if self._forks is None:
            ended = await run_command(words, after_s, number)
        else:
            told = dict(order or {})
            if self.shape.clock_off_s or self.shape.clock_steps_s:
                told["clock"] = {
                    "ahead_s": self._clocks.uniform(-self.shape.clock_off_s, self.shape.clock_off_s),
                    "step_s": self._clocks.uniform(-self.shape.clock_steps_s, self.shape.clock_steps_s),
                    "step_after_s": self._clocks.uniform(0.0, self.shape.alive_s),
                }
            ended = await self._forks.run(words, self.folder / "said.txt", told, after_s, number)
        if ended.status is None:
            self.fault(f"a process ran into the limit of time (order {order})")
        elif after_s is not None and number is signal.SIGTERM and ended.after_signal_s > EXIT_TIMEOUT_S:
            self.fault(f"left {ended.after_signal_s:.1f} s after SIGTERM")
        await self._look(ended.status, ended.said, order)
        return ended.status

    async def _look(self, status: int | None, said: str, order: dict[str, Any] | None) -> None:
        """What must hold after every process: a status that was promised, and a sound directory."""
        self.score.kills += status == -signal.SIGKILL
        self.score.stops += status in (75, 77, -signal.SIGTERM)
        promised = {None, -signal.SIGKILL, 0, 75} | ({1} if self.shape.fails else set())
        promised |= {77} if self.shape.cancelled or self.shape.accounts else set()
        if status not in promised and not (status == -signal.SIGTERM and not self.run_dir.exists()):
            self.fault(f"exit status {status} (order {order}):\n{said}")
        if "Traceback" in said:
            self.fault(f"a traceback (order {order}):\n{said}")
        try:
            found = await verify_run(self.run_dir)
        except RunDirectoryError:
            return  # it was interrupted before the run had begun
        if found.errors:
            self.fault(f"verify after status {status} (order {order}): {'; '.join(found.errors)}")

    async def cancel_beside(self, after_s: float | None) -> None:
        """Cancels the run while a process may be running it, by the real command, which is killed after so many
        seconds."""
        ended = await run_command(self.cancel, after_s, signal.SIGKILL)
        self.score.runs += 1
        self.score.kills += ended.status == -signal.SIGKILL
        if ended.status not in (0, 75, 77, -signal.SIGKILL) or "Traceback" in ended.said:
            self.fault(f"cancel: exit status {ended.status}:\n{ended.said}")

    async def to_end(self, words: Sequence[str] = ()) -> None:
        """The same command, undisturbed; once more where it first had to carry out what was cancelled."""
        status = await self.start(words)
        if status == 77 and self.shape.cancelled:
            status = await self.start(words)
        if status not in (0, 1):
            self.fault(f"it doesn't end: exit status {status}")

    async def judge(self, *, by_command: bool = False) -> Score:
        """Counts what is missing and what is there too often, in the directory and on the bill."""
        outcomes, judge = Counter[str](), judge_of(self.config)
        for line in self.lines("results.jsonl"):
            outcomes[line["file_id"]] += 1
            if not self.shape.documents and line["type"] != judge(line["file_id"])["type"]:
                self.fault(f"{line['file_id']} has another file's answer")
            if self.shape.second_look and ("other" in line) != _is_weak(line):
                self.fault(f"{line['file_id']} was looked at once too often, or not often enough")
        failures = list(self.lines("failures.jsonl"))
        outcomes.update(line["file_id"] for line in failures)
        if failures and not self.shape.fails:
            self.fault(f"{len(failures)} files failed: {failures[0]}")
        if invented := outcomes.keys() - set(self.file_ids):
            self.fault(f"invented: {sorted(invented)[:3]}")
        billed = self._count_billed()
        self.score.lost = sum(not outcomes[each] for each in self.file_ids)
        self.score.twice = sum(outcomes[each] > 1 for each in self.file_ids)
        self.score.paid_twice = sum(billed[each] > 1 for each in self.file_ids)
        failed = {line["file_id"] for line in failures}
        unpaid = [each for each in outcomes if not billed[each] and each not in failed]
        if unpaid and not self.shape.others_answer:
            self.fault(f"answered, and not on the bill: {unpaid[:3]}")
        await self._judge_directory(by_command=by_command)
        if self.score.lost or self.score.twice or self.score.paid_twice:
            self.fault(f"lost {self.score.lost}, twice {self.score.twice}, paid twice {self.score.paid_twice}")
        return self.score

    def lines(self, name: str) -> Iterable[dict[str, Any]]:
        """The lines of one of the run's files of outcomes."""
        return lines_of(self.run_dir / name)

    def _count_billed(self) -> Counter[str]:
        """How often each file ID was paid; of documents each content, whatever its uploads were called."""
        billed = read_billed(self.server.ledger)
        if not self.shape.documents:
            return billed
        uploads = [each for each in read_uploads(self.server.ledger) if each.sha256 in self._hashes]
        sent = Counter(each.sha256 for each in uploads)
        if twice := [each for each, count in sent.items() if count > 1]:
            self.fault(f"uploaded more than once: {twice[:3]}")
        paid = Counter[str]()
        for each in uploads:
            paid[f"sha256:{each.sha256}"] += billed[each.file_id]
        return paid

    @property
    def _hashes(self) -> frozenset[str]:
        return frozenset(each.removeprefix("sha256:") for each in self.file_ids)

    async def _judge_by_verify(self) -> bool:
        """Notes what `verify` finds; False: it finds no run."""
        try:
            found = await verify_run(self.run_dir)
        except RunDirectoryError as error:
            self.fault(str(error))
            return False
        if found.errors or not found.complete:
            self.fault(f"verify: {'; '.join(found.errors) or 'incomplete'}")
        return True

    async def _judge_directory(self, *, by_command: bool) -> None:
        if not await self._judge_by_verify():
            return
        manifest = json.loads((self.run_dir / "manifest.json").read_bytes())
        if manifest["state"] != "complete" or sum(manifest["counts"].values()) != self.shape.files:
            self.fault(f"manifest.json: {manifest['state']}, {manifest['counts']}")
        if leftover := [each.name for each in self.run_dir.iterdir() if each.name.endswith(".tmp")]:
            self.fault(f"left behind: {leftover}")
        if by_command and (await run_command(("verify", str(self.run_dir)), None, signal.SIGKILL)).status:
            self.fault("classify-batch verify doesn't end with 0")

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _is_weak(line: dict[str, Any]) -> bool:
    """Whether the first answer was. The sandbox says the same in both modes."""
    first = line["other"] if line.get("counts") == "second" else line
    return first["type"] is None or first["confidence"] < 0.6


def write_documents(inbox: Path, names: Sequence[str]) -> list[str]:
    """Writes a folder of documents; gives their contents' IDs."""
    inbox.mkdir()
    for name in names:
        (inbox / f"{name}.txt").write_text(f"Invoice {name} with line items and a total amount")
    return [f"sha256:{sha256(path.read_bytes()).hexdigest()}" for path in sorted(inbox.iterdir())]


def lines_of(path: Path) -> Iterable[dict[str, Any]]:
    return map(json.loads, path.read_bytes().splitlines()) if path.exists() else ()


def judge_of(config: Path) -> Classifier:
    """What the sandbox answers, file by file, whoever asks and however often."""
    job = Settings.load(config).job
    return OpenProject().cached_classifier(JobConfig(tuple(job.rules), job.parsing_configuration))
