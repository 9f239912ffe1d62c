"""The suites that run clients over workloads: which, how often, and in which order.

Clients take turns within a round, so that a machine that slows down for a while slows all of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from bench_suite.clients import CLIENTS, Work, measure, measure_start
from bench_suite.lab import Lab
from bench_suite.table import print_table, summary


@dataclass(frozen=True, slots=True)
class Case:
    """A workload and who meets it.

    Attributes:
        from_s: the rate is judged from this second on, to the last create; None: it isn't judged.
    """

    name: str
    work: Work
    clients: tuple[str, ...] = ("ours",)
    from_s: int | None = None


ALL = tuple(CLIENTS)
STEADY_FROM_S = 5


def closeness(_options: argparse.Namespace) -> list[Case]:
    """all clients, jobs of about 2 s, 20 and 100 out: how close to the ideal (a round: 13 minutes)"""
    return [Case(f"{slots} out", Work(jobs_in_flight=slots), ALL) for slots in (20, 100)]


def cpu(_options: argparse.Namespace) -> list[Case]:
    """all clients, jobs of about 0.05 s; then ours with 100 and 1,000 out (a round: 5 minutes)"""
    short = [Case(f"{slots} out", Work(jobs_in_flight=slots, job_duration_s=0.05), ALL) for slots in (20, 100)]
    return short + [Case(f"{slots} long out", Work(files=300_000, jobs_in_flight=slots)) for slots in (100, 1000)]


def single_gets(_options: argparse.Namespace) -> list[Case]:
    """the list answers 500, so that each job must be looked at by itself (a round: 6 minutes)"""
    return [
        Case(f"{slots} out, no list", Work(jobs_in_flight=slots, list_status=500), ("ours", "sdk"))
        for slots in (20, 100)
    ]


def free_tier(_options: argparse.Namespace) -> list[Case]:
    """20 requests a minute, 5 jobs out (a round: 4 minutes)"""
    a_minute = 20 / 60
    work = Work(files=2_000, jobs_in_flight=5, requests_per_s=a_minute, told_requests_per_s=a_minute)
    return [Case("20 a minute", work, from_s=0)]


def quick(_options: argparse.Namespace) -> list[Case]:
    """ours and the SDK over 300 jobs, and ours under a limit of 50 requests a second (under two minutes)"""
    work = Work(files=30_000, job_duration_s=0.5)
    limited = replace(work, files=6_000, files_per_job=10, jobs_in_flight=100, requests_per_s=50.0)
    return [
        Case("300 jobs", work, ("ours", "sdk")),
        Case("50/s known", replace(limited, told_requests_per_s=50.0), from_s=STEADY_FROM_S),
    ]


def custom(options: argparse.Namespace) -> list[Case]:
    """the workload that the options give; 1,000 jobs of 100 files and of about 2 s without any"""
    return [
        Case(
            f"{slots} out",
            Work(jobs_in_flight=slots),
            ("ours", "sdk"),
            STEADY_FROM_S if options.requests_per_s else None,
        )
        for slots in options.jobs_in_flight or (20,)
    ]


CASES: dict[str, Callable[[argparse.Namespace], list[Case]]] = {
    "run": custom,
    "closeness": closeness,
    "cpu": cpu,
    "single-gets": single_gets,
    "free-tier": free_tier,
    "quick": quick,
}


def compare(lab: Lab, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Runs a suite; gives its raw rounds."""
    cases = [_told(case, options) for case in CASES[options.suite](options)]
    if wanted := options.jobs_in_flight:
        known = sorted({case.work.jobs_in_flight for case in cases})
        cases = [case for case in cases if case.work.jobs_in_flight in wanted]
        if not cases:
            sys.exit(f"the cases of {options.suite} keep {', '.join(map(str, known))} jobs out")
    rows: list[dict[str, Any]] = []
    starts: dict[str, float] = {}
    for number in range(options.rounds):
        for case in cases:
            for client in case.clients:
                print(f"round {number + 1}: {case.name}, {client} …", file=sys.stderr, flush=True)
                if client not in starts:
                    starts[client] = measure_start(lab, client, case.work)
                row = measure(lab, client, case.work)
                more = {"case": case.name, "round": number, "from_s": case.from_s, "start_cpu_s": starts[client]}
                rows.append(more | row)
    print_table(summary(rows))
    return rows


def _told(case: Case, options: argparse.Namespace) -> Case:
    """A case with what the command line says otherwise."""
    names = Work.__dataclass_fields__.keys() - {"jobs_in_flight"}
    told = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.files:
        told["files"] = options.files[0]
    return replace(case, work=replace(case.work, **told), clients=tuple(options.clients or case.clients))
