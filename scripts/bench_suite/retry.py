"""`--retry-failed` on a complete run all of whose files failed: how soon it begins, and what memory it takes."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench_suite.clients import CONFIG
from bench_suite.lab import SCRIPTS, Lab
from bench_suite.singles import until_first_request
from bench_suite.table import print_table

FILES = [100_000, 1_000_000]
WORK_S = 15.0
FILES_PER_JOB = {"v1": 100, "v2": 1}


def retry(lab: Lab, options: argparse.Namespace) -> list[dict[str, Any]]:
    """`--retry-failed` of 100,000 and a million files on v1 and v2, until its first request and 15 s on (5 minutes)"""
    rows = []
    for version in [options.version] if options.version else FILES_PER_JOB:
        for files in options.files or FILES:
            for code in ("job_error", "overdue"):
                print(f"{version}, {files:,} files, {code} …", file=sys.stderr, flush=True)
                rows.append(_measure(lab, version, files, options.files_per_job or FILES_PER_JOB[version], code))
    print_table(
        [
            {
                "API": row["version"],
                "failed files": f"{row['files']:,}",
                "code": row["code"],
                "s to the first request": f"{row['seconds']:.1f}",
                "CPU s until then": f"{row['cpu_s']:.1f}",
                "peak RSS MiB": f"{row['rss_mib']:.0f}",
                "requests": row["requests"],
                "paid twice": row["files_billed_again"],
            }
            for row in rows
        ]
    )
    return rows


def _measure(lab: Lab, version: str, files: int, files_per_job: int, code: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="classify-batch-bench-") as name:
        folder = Path(name)
        (folder / "config.toml").write_text(f'{CONFIG}[api]\nversion = "{version}"\n')
        words = [folder, "--files", files, "--files-per-job", files_per_job, "--code", code]
        lab.cost([sys.executable, SCRIPTS / "build_failed.py", *words])
        lab.server.reset({"version": version, "job_duration_s": 0.5})
        limits = ("--jobs-in-flight", 100, "--requests-per-s", 1000, "--requests-in-flight", 32)
        command = lab.classify_batch("resume", folder / "run", "--retry-failed", *limits)
        figures = until_first_request(lab, command, WORK_S)
        return {"version": version, "files": files, "code": code, **lab.server.stats(100), **figures}
