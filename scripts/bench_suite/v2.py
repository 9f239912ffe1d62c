"""v2 under the vendor's limit of creates: how much of it a run uses, and what a file costs."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import Any

from bench_suite.clients import Work, measure
from bench_suite.lab import Lab
from bench_suite.table import print_table

CREATES_PER_S = 40.0
"""What the vendor documents, and what a run on v2 keeps to by itself."""

FILES = 20_000
FILES_QUICK = 2_000


def v2(lab: Lab, options: argparse.Namespace) -> list[dict[str, Any]]:
    """ours on v2, 20,000 files at 40 creates a second (9 minutes; --quick for 2,000 files, a minute)"""
    # Slots and requests are plenty, so that nothing but the rate of creates is the limit.
    work = Work(
        version="v2",
        files=FILES_QUICK if options.quick else FILES,
        files_per_job=1,
        jobs_in_flight=(options.jobs_in_flight or [200])[0],
        creates_per_s=CREATES_PER_S,
    )
    names = Work.__dataclass_fields__.keys() - {"version", "files", "files_per_job", "jobs_in_flight"}
    told = {name: value for name in names if (value := getattr(options, name)) is not None}
    rows = []
    for files in options.files or [work.files]:
        for number in range(options.rounds):
            print(f"round {number + 1}: {files:,} files …", file=sys.stderr, flush=True)
            rows.append({"round": number, **measure(lab, "ours", replace(work, **told, files=files))})
    print_table([_line(row) for row in rows])
    return rows


def _line(row: dict[str, Any]) -> dict[str, object]:
    files, creates = row["work"]["files"], row["requests_by_call"]["create"]
    asked, allowed_per_s = sum(creates.values()), row["work"]["creates_per_s"]
    return {
        "files": f"{files:,}",
        "s": f"{row['makespan_s']:.1f}",
        "creates/s": f"{_per_s(row):.2f}",
        f"share of {allowed_per_s:g}": f"{_per_s(row) / allowed_per_s:.1%}",
        "whole run": f"{row['jobs'] / row['makespan_s'] / allowed_per_s:.1%}",
        "429": f"{row['requests_429'] / row['requests']:.2%}",
        "creates a file": f"{asked / files:.3f}",
        "others a file": f"{(row['requests'] - asked) / files:.3f}",
        "CPU ms a file": f"{1000 * row['cpu_s'] / files:.2f}",
        "peak RSS MiB": f"{row['rss_mib']:.0f}",
        "journal bytes a file": f"{row['bytes']['journal.jsonl'] / files:.0f}",
        "delay mean": f"{row['delay']['mean_share']:.1%}",
        "p95": f"{row['delay']['p95_share']:.1%}",
        "files failed": row["said"]["counts"].get("failed", 0),
        "paid twice": row["files_billed_again"],
    }


def _per_s(row: dict[str, Any]) -> float:
    """From the first create to the last: without the wait for the last jobs."""
    return float((row["jobs"] - 1) / row["creating_s"])
