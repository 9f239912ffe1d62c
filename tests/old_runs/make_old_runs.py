"""Makes the run directories beside it, which are test data: what version 0.2 left on disks, to be kept working.

They were made with commit 3f6c0f4, which is version 0.2, and are not made again: what later versions write is tested
elsewhere. To make them again all the same (the bytes differ: times, run IDs and job IDs do):

    git worktree add /tmp/w02 3f6c0f4
    cd /tmp/w02 && python3 -m venv .venv && .venv/bin/pip install -e '.[dev]'
    cp -r …/tests/old_runs tests/ && .venv/bin/python tests/old_runs/make_old_runs.py
    cp -r tests/old_runs …/tests/

Each run is the real command, `classify-batch run job.toml --input ids.txt --run-dir run`, in a process of its own and
in a folder of its own, on the embedded sandbox. Of that sandbox this script decides, by words in the file IDs, how long
jobs take and how they end, and at which accepted job the process kills itself: before the create is answered, so that
the job is in the sandbox's ledger and not in the journal. Where the words are missing the run is as it comes.

It prints a line for each directory that it made, and nothing else. It knows 0.2 from the inside, and takes from there
by name what a later version may not have any more.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

COMMIT = "3f6c0f4"
HERE = Path(__file__).resolve().parent

JOB_S = 0.3
LONG_S, LATE_S = 10.0, 6.0
"""How long jobs take: all; those that hold a file ID with the word `long`, or `late`."""

FSYNC_S = 0.04
"""How much longer the disk takes where a process is to be killed: then some of what was written is not committed."""

CONFIG = """\
[api]
version = "{version}"
base_url = "sandbox"

[job]
mode = "FAST"
rules = [
  {{ type = "invoice", description = "has an invoice number, line items and a total amount" }},
  {{ type = "contract", description = "an agreement between parties with terms and signatures" }},
  {{ type = "letter", description = "has a salutation and a signature" }},
]

[plan]
files_per_job = {files_per_job}

[limits]
jobs_in_flight = {jobs_in_flight}
requests_per_s = 500.0
attempts = {attempts}
job_timeout_s = {job_timeout_s}
settle_s = 1.0
"""
TRIAGE = """
[triage]
accept_above = 0.8
by_type = { contract = 0.9 }
"""
SECOND_LOOK = """
[escalation]
below_confidence = 0.7
unmatched = true
"""


@dataclass(frozen=True)
class Fatal:
    """When a process kills itself: at the first create that finds at least so much in the run directory.

    Attributes:
        committed: outcomes.
        out: attempts whose job the journal knows.
        unknown: accepted jobs that the journal doesn't know.
        unsent: attempts that the journal intends, of which no create was accepted.
        waiting: first answers whose second look has not brought its own.
        tail: bytes of results that were appended and not committed.
    """

    committed: int = 0
    out: int = 0
    unknown: int = 0
    unsent: int = 0
    waiting: int = 0
    tail: int = 0

    def is_reached_by(self, seen: Fatal) -> bool:
        return all(getattr(seen, name) >= least for name, least in vars(self).items())


@dataclass(frozen=True)
class Recipe:
    """How a directory is made; `words` go on with the command line, `rest` with the config."""

    name: str
    file_ids: Sequence[str]
    status: int = 0
    version: str = "v1"
    files_per_job: int = 5
    jobs_in_flight: int = 6
    attempts: int = 3
    job_timeout_s: float = 7200.0
    rest: str = ""
    words: Sequence[str] = ()
    faults: Mapping[str, Sequence[str]] = field(default_factory=dict)
    fatal: Fatal | None = None

    @property
    def config(self) -> str:
        names = ("version", "files_per_job", "jobs_in_flight", "attempts", "job_timeout_s")
        return CONFIG.format(**{name: getattr(self, name) for name in names}) + self.rest


def numbered(word: str, count: int, marks: Mapping[int, str]) -> list[str]:
    """File IDs with a number each, and some with a mark: `scan-007-long`."""
    return [f"{word}-{number:03}" + (f"-{marks[number]}" if number in marks else "") for number in range(count)]


ODD_ONES = ("Straße-№7", "2024/03/scan#4.pdf", 'mail-"17"')
MONDAY = [*numbered("mail", 20, {}), *ODD_ONES, *numbered("scan", 17, {})]
TUESDAY = [*numbered("fax", 9, {}), *MONDAY, *numbered("page", 11, {})]
FAILING_V1 = numbered(
    "file", 40, {3: "foreign", 7: "vague", 12: "poison", 16: "null", 19: "null", 22: "stuck", 27: "late"}
)
FAILING_V2 = numbered("file", 24, {3: "foreign", 6: "poison", 9: "null", 12: "null", 15: "late", 18: "late"})


def faults_of(file_ids: Sequence[str]) -> dict[str, list[str]]:
    """The settings of the sandbox's own faults: the file IDs that they hit."""
    marks = {"foreign": "foreign", "poison": "poison", "rejected_vaguely": "vague"}
    return {name: [each for each in file_ids if mark in each] for name, mark in marks.items()}


RECIPES = (
    Recipe("complete_v1", MONDAY, rest=TRIAGE),
    Recipe(
        "killed_second_look_v1",
        numbered("scan", 60, {2: "long", 17: "unanswered", 25: "unheard"}),
        files_per_job=4,
        jobs_in_flight=8,
        rest=SECOND_LOOK,
        fatal=Fatal(committed=20, out=2, unknown=2, unsent=1, waiting=4, tail=1),
    ),
    Recipe(
        "killed_v2",
        numbered("scan", 40, {1: "long", 4: "long", 9: "long", 11: "unanswered", 14: "unheard"}),
        version="v2",
        jobs_in_flight=12,
        fatal=Fatal(committed=10, out=4, unknown=2, unsent=1, tail=1),
    ),
    Recipe("reused_v1", TUESDAY, rest=TRIAGE, words=("--reuse", "../complete_v1/run")),
    Recipe("failures_v1", FAILING_V1, status=1, attempts=2, job_timeout_s=3.0, faults=faults_of(FAILING_V1)),
    Recipe(
        "failures_v2",
        FAILING_V2,
        status=1,
        version="v2",
        attempts=2,
        job_timeout_s=3.0,
        faults=faults_of(FAILING_V2),
    ),
)


# --- A directory ------------------------------------------------------------------------------------------------------


def make(recipe: Recipe) -> str:
    """Makes a directory; what it holds, in a line."""
    folder = HERE / recipe.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "ids.txt").write_text("".join(f"{each}\n" for each in recipe.file_ids), "utf-8")
    (folder / "job.toml").write_text(recipe.config, "utf-8")
    words = ("run", "job.toml", "--input", "ids.txt", "--run-dir", "run", *recipe.words)
    foreign = ("CLASSIFY_BATCH_", "LLAMA_CLOUD_")
    done = subprocess.run(
        [sys.executable, __file__, "--as-command", recipe.name, *words],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith(foreign)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    expected = recipe.status if recipe.fatal is None else -signal.SIGKILL
    if done.returncode != expected:
        raise SystemExit(f"{recipe.name}: exit status {done.returncode}, not {expected}\n{done.stdout}{done.stderr}")
    clean(folder)
    failures = Counter(line["code"] for line in lines_of(folder / "run" / "failures.jsonl"))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    told = {"files": len(recipe.file_ids), **vars(snapshot(folder / "run")), **dict(sorted(failures.items()))}
    return f"{recipe.name}: {', '.join(f'{name} {value}' for name, value in told.items() if value)}; {size:,} bytes"


def clean(folder: Path) -> None:
    """Leaves what a checkout has: no lock, which names a host, and the modes that git keeps."""
    (folder / "run" / "lock").unlink()
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    told = "".join(path.read_text("utf-8") for path in folder.rglob("*") if path.is_file())
    if any(word in told for word in (str(HERE.parents[1]), str(Path.home()), os.uname().nodename)):
        raise SystemExit(f"{folder.name} tells of the machine that it was made on")


def lines_of(path: Path) -> list[dict[str, Any]]:
    """A file's whole lines."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def snapshot(run_dir: Path) -> Fatal:
    """What there is in a run directory, by its journal and the sandbox's ledger."""
    jobs: dict[tuple[int, int], str | None] = {}
    known: set[str] = set()
    committed: Counter[str] = Counter()
    results_end = 0
    for line in lines_of(run_dir / "journal.jsonl"):
        for item in line.get("items", ()):
            key = item["chunk"], item["attempt"]
            if line["kind"] == "submitting":
                jobs.setdefault(key, None)
            elif line["kind"] in ("submitted", "adopted"):
                jobs[key] = item["job_id"]
                known.add(item["job_id"])
            elif line["kind"] in ("rejected", "split", "collected"):
                jobs.pop(key, None)
                committed.update(item.get("counts", {}))
                results_end = max(results_end, *item.get("results", (0, 0))[:2])
    ledger = lines_of(run_dir / "sandbox" / "jobs.jsonl")
    unknown = [job["file_ids"] for job in ledger if job["job_id"] not in known]
    planned = {line["chunk"]: line["file_ids"] for line in lines_of(run_dir / "plan.jsonl")}
    accepted = {file_id for file_ids in unknown for file_id in file_ids}
    unsent = [chunk for (chunk, _), job_id in jobs.items() if job_id is None and accepted.isdisjoint(planned[chunk])]
    first = {line["file_id"] for line in lines_of(run_dir / "provisional.jsonl")}
    second = {line["file_id"] for line in lines_of(run_dir / "results.jsonl")}
    out = sum(job_id is not None for job_id in jobs.values())
    results = run_dir / "results.jsonl"
    tail = max(0, results.stat().st_size - results_end) if results.exists() else 0
    return Fatal(committed.total(), out, len(unknown), len(unsent), len(first - second), tail)


# --- The command on a sandbox that is set to fail -----------------------------------------------------------------


def as_command(recipe: Recipe, words: Sequence[str]) -> None:
    """The command in this process, which it may kill."""
    if recipe.fatal is not None:
        slow_the_disk()  # first of all: the package keeps the call
    options = import_module("classify_batch.sandbox").Options
    faults = import_module("classify_batch.sandbox").Faults.of(dict(recipe.faults), recipe.name)
    options_of = options.of
    options.of = staticmethod(lambda **values: options_of(**values, faults=faults))
    tell_the_future()
    hold_creates()
    if recipe.fatal is not None:
        die_at(recipe.fatal)
    sys.argv[1:] = words
    import_module("classify_batch.__main__").main()


def slow_the_disk() -> None:
    fsync = os.fsync

    def slow_fsync(descriptor: int) -> None:
        time.sleep(FSYNC_S)
        fsync(descriptor)

    vars(os)["fsync"] = slow_fsync


def tell_the_future() -> None:
    """Has words in file IDs decide how long a job takes and how it ends."""
    world = import_module("classify_batch.sandbox.world").World
    status = import_module("classify_batch.records").JobStatus
    draft = world.draft

    def decided(self: Any, order: Any, project_id: str, now_s: float) -> Any:
        job = draft(self, order, project_id, now_s)
        holds = " ".join(job.file_ids)
        duration_s = LONG_S if "long" in holds else LATE_S if "late" in holds else JOB_S
        null = tuple(position for position, file_id in enumerate(job.file_ids) if "null" in file_id)
        ending = job.ending
        if "stuck" in holds:
            ending = ending._replace(status=status.PENDING)
        elif null and ending.status is status.SUCCESS:
            ending = ending._replace(status=status.PARTIAL_SUCCESS, null=null)
        return replace(job, duration_s=duration_s, ending=ending)

    world.draft = decided


def hold_creates() -> None:
    """Has creates never be answered whose file IDs hold the word `unanswered`, and never be read with `unheard`."""
    read_body = import_module("classify_batch.sandbox.asking").read_body
    for calls in ("calls_v1.CallsV1", "calls_v2.CallsV2"):
        module, _, name = calls.partition(".")
        kind = getattr(import_module(f"classify_batch.sandbox.{module}"), name)

        def held(create: Any) -> Any:
            async def create_and_hold(self: Any, request: Any, now_s: float) -> Any:
                body = await read_body(request)
                if b"-unheard" in body:
                    await asyncio.sleep(LONG_S)
                answer = await create(self, request, now_s)
                if b"-unanswered" in body:
                    await asyncio.sleep(LONG_S)
                return answer

            return create_and_hold

        kind.create = held(kind.create)


def die_at(fatal: Fatal) -> None:
    """Has the process killed when a job was accepted and before anybody knows, as soon as there is enough to lose."""
    ledger = import_module("classify_batch.sandbox.ledger").Ledger
    append = ledger.append

    def append_and_die(self: Any, job: Any) -> None:
        append(self, job)
        if fatal.is_reached_by(snapshot(self.path.parents[1])):
            os.kill(os.getpid(), signal.SIGKILL)

    ledger.append = append_and_die


def refuse_other_versions() -> None:
    package = Path(str(import_module("classify_batch").__file__)).parent
    git = ("git", "-C", str(package))
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    changed = subprocess.run([*git, "status", "--porcelain", "."], capture_output=True, text=True, check=True).stdout
    if not head.startswith(COMMIT) or changed:
        raise SystemExit(f"the package in {package} is not that of commit {COMMIT}")


def main() -> None:
    recipes = {recipe.name: recipe for recipe in RECIPES}
    if sys.argv[1:2] == ["--as-command"]:
        as_command(recipes[sys.argv[2]], sys.argv[3:])
        return
    refuse_other_versions()
    for name in sys.argv[1:] or recipes:
        sys.stdout.write(f"{make(recipes[name])}\n")


if __name__ == "__main__":
    main()
