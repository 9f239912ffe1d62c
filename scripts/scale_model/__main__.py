"""Prints what 1 to 1,000 workers reach, with one key and with a key for every ten of them, up to a billion files."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from classify_batch.rundir.disk_space import JOURNAL_BYTES_PER_JOB, JOURNAL_BYTES_PER_JOB_OF_ONE
from scale_model.one_key import OneKey, Reached, Simulation

WORKERS = (1, 10, 100, 1000)
WORKERS_PER_KEY = 10
FILES = (1_000_000, 100_000_000, 1_000_000_000)
FILES_PER_JOB = {"v1": 500, "v2": 1}

CPU_MS_PER_JOB = {"v1": 5.0, "v2": 2.7}
"""Of a process: `scripts/bench cpu` and `v2`."""
JOURNAL_BYTES = {"v1": JOURNAL_BYTES_PER_JOB, "v2": JOURNAL_BYTES_PER_JOB_OF_ONE}
"""Of a job."""
RUN_BYTES_PER_FILE = {"v1": 350, "v2": 330 + JOURNAL_BYTES_PER_JOB_OF_ONE}
"""With short answers; on v2 with the journal's line: the manual's page on performance."""
WARM_JOBS, JOBS = 300, 100
"""Of each worker at least: many that share a rate take long until they have found their pace."""


@dataclass(frozen=True, slots=True)
class Row:
    """Workers and keys, and what they reach together."""

    workers: int
    keys: int
    reached: Reached

    @property
    def jobs_per_s(self) -> float:
        return self.keys * self.reached.jobs_per_s

    def limit(self, version: str, requests_per_s: float) -> str:
        """What keeps them from being faster."""
        if self.jobs_per_s / self.workers * CPU_MS_PER_JOB[version] / 1000 > 0.9:
            return "the CPU of a process"
        if self.reached.jobs_per_s * sum(self.reached.requests_by_call.values()) < 0.9 * requests_per_s:
            return "jobs in flight"
        return "the rate of the keys" if self.keys > 1 else "the rate of the key"


def main() -> None:
    """Simulates each number of workers of a key once, and prints both tables."""
    options = parse()
    version = options.version
    print(
        f"{version}: {FILES_PER_JOB[version]} files a job, jobs of {options.mean_s:g} s, {options.requests_per_s:g} "
        f"requests a second a key, {options.slots} jobs in flight a worker\n"
    )
    rows = [row for workers in options.workers for row in rows_of(workers, options)]
    print_reached(rows, version, options.requests_per_s)
    print_nights(rows, version)


def rows_of(workers: int, options: argparse.Namespace) -> list[Row]:
    """One key for all of them; and where they are many, a key for every ten."""
    rows = [Row(workers, 1, simulate(workers, options))]
    if workers > WORKERS_PER_KEY:
        rows.append(Row(workers, workers // WORKERS_PER_KEY, simulate(WORKERS_PER_KEY, options)))
    return rows


def simulate(workers: int, options: argparse.Namespace) -> Reached:
    """The workers of one key, after each has had some jobs."""
    key = OneKey(workers, options.requests_per_s, options.slots, options.mean_s, options.version == "v1")
    warm = max(options.jobs // 2, WARM_JOBS * workers)
    return Simulation(key, options.seed).run(max(options.jobs, JOBS * workers), warm)


def print_reached(rows: list[Row], version: str, requests_per_s: float) -> None:
    """A line for each number of workers and keys."""
    print("| workers | keys | requests a job (create, results, list, poll) | jobs a second | limit |")
    print("|---|---|---|---|---|")
    for row in rows:
        calls = row.reached.requests_by_call
        parts = ", ".join(f"{calls.get(call, 0.0):.2f}" for call in ("create", "results", "list", "poll"))
        total = sum(calls.values())
        print(
            f"| {row.workers:,} | {row.keys:,} | {total:.2f} ({parts}) | {row.jobs_per_s:,.1f} "
            f"| {row.limit(version, requests_per_s)} |"
        )


def print_nights(rows: list[Row], version: str) -> None:
    """How long so many files take, and what they leave behind."""
    names = " | ".join(f"{files:,} files" for files in FILES)
    print(f"\n| workers, keys | {names} | journal a worker, of the most |\n|---|{'---|' * len(FILES)}---|")
    for row in rows:
        spans = [span_of(files / FILES_PER_JOB[version] / row.jobs_per_s) for files in FILES]
        journal = FILES[-1] / FILES_PER_JOB[version] / row.workers * JOURNAL_BYTES[version]
        print(f"| {row.workers:,}, {row.keys:,} | {' | '.join(spans)} | {size_of(journal)} |")
    sizes = ", ".join(f"{files:,} files {size_of(files * RUN_BYTES_PER_FILE[version])}" for files in FILES)
    print(f"\nRun directories of all shards together: {sizes}")


def span_of(seconds: float) -> str:
    """A span in the unit that fits."""
    for unit, size in (("years", 365 * 86_400), ("days", 86_400), ("hours", 3600)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds / 60:,.1f} minutes"


def size_of(size: float) -> str:
    """Bytes in the unit that fits."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size / 1e6:,.1f} MB"


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="scripts/scale-model", description=__doc__)
    parser.add_argument("--version", choices=("v1", "v2"), default="v1")
    parser.add_argument("--workers", type=int, nargs="+", default=list(WORKERS))
    parser.add_argument("--requests-per-s", type=float, default=20.0, help="of each key (20)")
    parser.add_argument("--slots", type=int, default=50, help="jobs in flight of each worker (50)")
    parser.add_argument("--mean-s", type=float, default=60.0, help="how long a job takes (60)")
    parser.add_argument("--jobs", type=int, default=4_000, help="that are simulated for each key (4,000)")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
