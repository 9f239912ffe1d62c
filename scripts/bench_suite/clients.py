"""The clients that are compared, and one run of one of them.

All read the same file of IDs, cut the same chunks, keep the same number of jobs out, and append the answers to a file.
The makespan is the server's: from the first create to the last answer with results, for all of them alike. To see what
a job costs without the start of the program, each client is also run over a single job.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench_suite.lab import SCRIPTS, Lab, environment

STARTS = 3
CONFIG = """
[job]
rules = [
  { type = "invoice", description = "has an invoice number, line items and a total amount" },
  { type = "contract", description = "an agreement between parties with terms, obligations and signatures" },
]
[limits]
settle_s = 2.0
"""


@dataclass(frozen=True, slots=True)
class Work:
    """A workload, and the server that it meets.

    Attributes:
        told_requests_per_s, requests_in_flight: our own settings.
        requests_per_s, creates_per_s, rate_window, jobs_at_once, list_status, page_size_max: the server's limits.
    """

    files: int = 100_000
    files_per_job: int = 100
    jobs_in_flight: int = 20
    job_duration_s: float = 2.0
    seed: int = 1
    told_requests_per_s: float = 2000.0
    requests_in_flight: int = 32
    requests_per_s: float | None = None
    rate_window: str = "sliding"
    jobs_at_once: int | None = None
    list_status: int = 200
    list_order: str = "newest"
    page_size_max: int = 100
    gzip: bool = False
    version: str = "v1"
    creates_per_s: float | None = None

    @property
    def server_options(self) -> dict[str, Any]:
        ours = {"files", "files_per_job", "jobs_in_flight", "told_requests_per_s", "requests_in_flight"}
        return {name: value for name, value in asdict(self).items() if name not in ours}


Command = Callable[[Lab, Work, Path], list[str]]


def _ours(lab: Lab, work: Work, folder: Path) -> list[str]:
    paths = (folder / "config.toml", "--input", folder / "ids.txt", "--run-dir", folder / "run")
    limits = {
        "files-per-job": work.files_per_job,
        "jobs-in-flight": work.jobs_in_flight,
        "requests-in-flight": work.requests_in_flight,
        "requests-per-s": work.told_requests_per_s,
    }
    told = [word for name, value in limits.items() for word in (f"--{name}", value)]
    return lab.classify_batch("run", *paths, *told, "--json")


def _peer(script: str, env: str, *more: str) -> Command:
    def command(_lab: Lab, work: Work, folder: Path) -> list[str]:
        paths = [folder / "ids.txt", folder / "answers.jsonl"]
        told = ["--files-per-job", work.files_per_job, "--jobs-in-flight", work.jobs_in_flight, *more]
        return [str(word) for word in (environment(env), SCRIPTS / script, *paths, *told)]

    return command


CLIENTS: dict[str, Command] = {
    "ours": _ours,
    "sdk": _peer("peer_sdk.py", "sdk"),
    "sdk-fast": _peer("peer_sdk.py", "sdk", "--polling-interval", "0.1", "--backoff", "constant"),
    "llamaclassify": _peer("peer_llamaclassify.py", "llamaclassify"),
}


def measure(lab: Lab, client: str, work: Work) -> dict[str, Any]:
    """One run in a directory that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="classify-batch-bench-") as name:
        return measure_in(Path(name), lab, client, work)


def measure_in(folder: Path, lab: Lab, client: str, work: Work) -> dict[str, Any]:
    """One run: everything that the server, the kernel and the client say of it. Ours leaves its directory in `run`."""
    lab.server.reset(work.server_options)
    (folder / "config.toml").write_text(f'{CONFIG}[api]\nversion = "{work.version}"\n')
    write_ids(folder / "ids.txt", work.files)
    cost = lab.cost(CLIENTS[client](lab, work, folder), statuses=(0, 1))  # 1: complete, with failures
    return {
        "client": client,
        "work": asdict(work),
        "wall_s": cost.wall_s,
        "cpu_s": cost.cpu_s,
        "rss_mib": cost.rss_mib,
        "said": json.loads(cost.stdout.splitlines()[-1]),
        "bytes": {path.name: path.stat().st_size for path in (folder / "run").glob("*.jsonl")},
        **lab.server.stats(min(work.jobs_in_flight, work.jobs_at_once or work.jobs_in_flight)),
    }


def measure_start(lab: Lab, client: str, work: Work) -> float:
    """CPU seconds of a run over a single short job: what the client costs before it does anything."""
    one = replace(work, files=min(work.files, work.files_per_job), job_duration_s=0.01, requests_per_s=None)
    return statistics.median(float(measure(lab, client, one)["cpu_s"]) for _ in range(STARTS))


def file_id(number: int) -> str:
    """IDs of the usual length that end in their number, by which the server knows what it billed before."""
    return f"f11e0000-0000-4000-8000-{number:012d}"


def write_ids(path: Path, files: int) -> None:
    with path.open("w") as file:
        for start in range(0, files, 10_000):
            file.writelines(f"{file_id(number)}\n" for number in range(start, min(files, start + 10_000)))
