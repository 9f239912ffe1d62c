"""Measures the real command against a sandbox in a process of its own, as ratios to the ideal of the same run.

The ideal is list scheduling of the very durations that the sandbox drew onto the same number of slots: no client can be
faster. Requests a job can't be fewer than 2 on v1 (create, results). Run it through scripts/bench.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "classify_batch"]
CONFIG = """
[job]
rules = [
  { type = "invoice", description = "has an invoice number, line items and a total amount" },
  { type = "contract", description = "an agreement between parties with terms, obligations and signatures" },
]
[limits]
requests_in_flight = 32
requests_per_s = 2000.0
"""


def main() -> None:
    options = parse()
    columns = ("files", "jobs", "makespan ÷ ideal", "requests a job", "CPU ms a job", "peak RSS MiB", "paid twice")
    print(" | ".join(columns))
    for _ in range(options.rounds):
        row = measure(options)
        if options.json:
            print(json.dumps(row), flush=True)
        else:
            print(" | ".join(f"{row[column]:>{len(column)}}" for column in columns), flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--files", type=int, default=25_000)
    parser.add_argument("--files-per-job", type=int, default=100)
    parser.add_argument("--jobs-in-flight", type=int, default=20)
    parser.add_argument("--job-duration-s", type=float, default=0.2, help="median; lognormal, sigma 0.6")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fault", action="append", default=[], metavar="NAME=VALUE", help="of the sandbox")
    parser.add_argument("--settle-s", type=float, default=2.0)
    parser.add_argument("--json", action="store_true", help="a JSON object a round")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="classify-batch-bench-") as name:
        folder = Path(name)
        (folder / "config.toml").write_text(CONFIG)
        (folder / "ids.txt").write_text("".join(f"file-{number}\n" for number in range(options.files)))
        with sandbox(folder / "ledger.jsonl", options) as base_url:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            manifest = run(folder, base_url, options)
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
        jobs = [json.loads(line) for line in (folder / "ledger.jsonl").open()]
    cpu_s = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    makespan_s = seconds(manifest["stopped_at"]) - seconds(manifest["started_at"])
    return {
        "files": options.files,
        "jobs": len(jobs),
        "makespan ÷ ideal": round(makespan_s / ideal_s(jobs, options.jobs_in_flight), 3),
        "requests a job": round(manifest["requests"] / len(jobs), 2),
        "CPU ms a job": round(1000 * cpu_s / len(jobs), 1),
        "peak RSS MiB": round(used.ru_maxrss / 1024),
        "paid twice": paid_twice(jobs),
    }


@contextmanager
def sandbox(ledger: Path, options: argparse.Namespace) -> Iterator[str]:
    told = ["--port", "0", "--ledger", str(ledger), "--job-duration-s", str(options.job_duration_s)]
    faults = [word for fault in options.fault for word in ("--fault", fault)]
    server = subprocess.Popen([*COMMAND, "sandbox", *told, *faults], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip()
    finally:
        server.terminate()
        server.wait(timeout=10)
        server.stdout.close()


def run(folder: Path, base_url: str, options: argparse.Namespace) -> dict[str, Any]:
    limits = {"files-per-job": options.files_per_job, "jobs-in-flight": options.jobs_in_flight}
    told = [word for key, value in limits.items() for word in (f"--{key}", str(value))]
    told += ["--settle-s", str(options.settle_s), "--base-url", base_url, "--json"]
    paths = [str(folder / "config.toml"), "--input", str(folder / "ids.txt"), "--run-dir", str(folder / "run")]
    done = subprocess.run(
        [*COMMAND, "run", *paths, *told],
        env=os.environ | {"LLAMA_CLOUD_API_KEY": "sandbox"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        sys.exit(f"the run ended with {done.returncode}:\n{done.stderr}")
    manifest: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return manifest


def ideal_s(jobs: list[dict[str, Any]], slots: int) -> float:
    """List scheduling: each job begins as soon as one of the slots is free."""
    free_at_s = [0.0] * slots
    for job in jobs:
        heapq.heapreplace(free_at_s, free_at_s[0] + job["duration_s"])
    return max(free_at_s)


def paid_twice(jobs: list[dict[str, Any]]) -> int:
    """Files that more than one job answered."""
    seen: set[str] = set()
    twice: set[str] = set()
    for job in jobs:
        if job["status"] in ("SUCCESS", "PARTIAL_SUCCESS"):
            unanswered = {*job["null"], *job["absent"]}
            answered = {each for position, each in enumerate(job["file_ids"]) if position not in unanswered}
            twice |= seen & answered
            seen |= answered
    return len(twice)


def seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


if __name__ == "__main__":
    main()
