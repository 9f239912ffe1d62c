"""Creates whose answers are lost, in a project that lists a million jobs of other people: what memory the run takes."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench_suite.clients import CONFIG, file_id
from bench_suite.lab import Lab
from bench_suite.singles import until_first_request
from bench_suite.table import print_table

FOREIGN_JOBS = 1_000_000
PAGE_SIZE = 1_000
WORK_S_MAX = 900.0
WORK_S_V2 = 60.0
"""A job that names another transaction ID is no candidate, and a create is repeated under its own."""

READINGS = 3
"""How often the list is read whole: then every foreign job was shown, and what was read of some has made room."""
LOST = 20


def crowd(lab: Lab, options: argparse.Namespace) -> list[dict[str, Any]]:
    """lost creates among a million foreign jobs, new and old, on v1 and v2: peak memory, the list read thrice"""
    rows = []
    for version in [options.version] if options.version else ["v1", "v2"]:
        for old in (False, True):
            print(f"{version}, foreign jobs {'old' if old else 'new'} …", file=sys.stderr, flush=True)
            foreign_jobs = (options.files or [FOREIGN_JOBS])[0]
            rows.append({"version": version, "old": old, **_measure(lab, version, foreign_jobs, old=old)})
            print(rows[-1], file=sys.stderr, flush=True)
    print_table(
        [
            {
                "API": row["version"],
                "foreign jobs": f"{row['foreign_jobs']:,} {'old' if row['old'] else 'new'}",
                "peak RSS MiB": f"{row['rss_mib']:.0f}",
                "list pages": row["list_pages"],
                "results read": row["results_read"],
                "paid twice": row["files_billed_again"],
            }
            for row in rows
        ]
    )
    return rows


def _measure(lab: Lab, version: str, foreign_jobs: int, *, old: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="classify-batch-bench-") as name:
        folder = Path(name)
        (folder / "config.toml").write_text(f'{CONFIG}[api]\nversion = "{version}"\ntimeout_s = 10\n')
        (folder / "ids.txt").write_text("".join(f"{file_id(number)}\n" for number in range(20_000)))
        told = {"version": version, "job_duration_s": 0.5, "page_size_max": PAGE_SIZE, "lost_creates": LOST}
        lab.server.reset({**told, "foreign_jobs": foreign_jobs, "foreign_old": old})
        limits = ("--jobs-in-flight", LOST, "--requests-per-s", 1000, "--requests-in-flight", 32)
        words = ("--input", folder / "ids.txt", "--run-dir", folder / "run")
        command = lab.classify_batch("run", folder / "config.toml", *words, *limits)
        pages = READINGS * -(-foreign_jobs // PAGE_SIZE)

        def has_read_the_list() -> bool:
            return bool(sum(lab.server.stats(LOST)["requests_by_call"].get("list", {}).values()) >= pages)

        figures = until_first_request(lab, command, WORK_S_MAX if version == "v1" else WORK_S_V2, has_read_the_list)
        stats = lab.server.stats(LOST)
        by_call = stats["requests_by_call"]
        return {
            "foreign_jobs": foreign_jobs,
            "list_pages": sum(by_call.get("list", {}).values()),
            "results_read": sum(by_call.get("results", {}).values()),
            "files_billed_again": stats["files_billed_again"],
            **figures,
        }
