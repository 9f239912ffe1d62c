"""What grows with the input and what doesn't: runs of ours over ever more files, each verified afterwards."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench_suite.clients import Work, measure_in
from bench_suite.lab import Lab
from bench_suite.table import print_table

FILES = [10_000, 100_000, 1_000_000]
MIB = 1024 * 1024


def growth(lab: Lab, options: argparse.Namespace) -> list[dict[str, Any]]:
    """ours over 10,000, 100,000 and 1,000,000 files, then `verify` and `status` (a minute; --files for more)"""
    rows = []
    for files in options.files or FILES:
        print(f"{files:,} files …", file=sys.stderr, flush=True)
        work = Work(
            files=files,
            files_per_job=options.files_per_job or 500,
            jobs_in_flight=(options.jobs_in_flight or [50])[0],
            job_duration_s=0.2 if options.job_duration_s is None else options.job_duration_s,
            requests_in_flight=options.requests_in_flight or 32,
        )
        with tempfile.TemporaryDirectory(prefix="classify-batch-bench-") as name:
            row = measure_in(Path(name), lab, "ours", work)
            for command in ("verify", "status"):
                cost = lab.cost(lab.classify_batch(command, Path(name) / "run"))
                row |= {f"{command}_s": cost.wall_s, f"{command}_rss_mib": cost.rss_mib}
        rows.append(row)
    print_table([_line(row) for row in rows])
    return rows


def _line(row: dict[str, Any]) -> dict[str, object]:
    return {
        "files": f"{row['work']['files']:,}",
        "jobs": f"{row['jobs']:,}",
        "s": f"{row['wall_s']:.1f}",
        "makespan ÷ ideal": f"{row['makespan_s'] / row['ideal_s']:.2f}",
        "CPU s": f"{row['cpu_s']:.1f}",
        "peak RSS MiB": f"{row['rss_mib']:.0f}",
        "requests a job": f"{row['requests'] / row['jobs']:.2f}",
        "directory MiB": f"{sum(row['bytes'].values()) / MIB:.1f}",
        "journal MiB": f"{row['bytes']['journal.jsonl'] / MIB:.2f}",
        "verify s": f"{row['verify_s']:.1f}",
        "verify MiB": f"{row['verify_rss_mib']:.0f}",
        "status s": f"{row['status_s']:.2f}",
        "status MiB": f"{row['status_rss_mib']:.0f}",
        "paid twice": row["files_billed_again"],
    }
