"""The rate that is found against limits and noise, in virtual time: the cases of the tests, over several seeds.

Run by `scripts/bench rate-table`; with `--tree`, another checkout's package is measured beside this one's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench_suite.lab import ROOT

SEEDS = 3


def rate_table(options: argparse.Namespace) -> list[dict[str, Any]]:
    """429s by chance and by hidden limits, in virtual time; with --tree before and after (a round: 5 minutes)"""
    seeds = options.rounds if options.rounds > 1 else SEEDS
    trees = {"now": ROOT} if options.tree is None else {"before": options.tree, "now": ROOT}
    running = {name: _start(tree, seeds) for name, tree in trees.items()}
    measured = {name: json.loads(child.communicate()[0]) for name, child in running.items()}
    print(f"| case | promised | {' | '.join(f'{name}: used, 429s of our own' for name in measured)} |")
    print(f"|---|---|{'---|' * len(measured)}")
    for rows in zip(*measured.values(), strict=True):
        first = rows[0]
        told = " | ".join(f"{100 * row['used']:.1f} %, {100 * row['own']:.2f} %" for row in rows)
        promised = f"≥ {100 * first['used_min']:.0f} %, ≤ {100 * first['own_max']:.0f} %"
        print(f"| {first['case']} | {promised} | {told} |")
    print(f"(the worst of {seeds} seeds)")
    return [{"tree": name, **row} for name, rows in measured.items() for row in rows]


def _start(tree: Path, seeds: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__)), str(seeds)]
    paths = os.pathsep.join([str(tree), str(ROOT / "scripts")])
    environment = os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(command, cwd=tree, env=environment, stdout=subprocess.PIPE, text=True)


def _measure_all(seeds: int) -> list[dict[str, Any]]:
    """In a process of its own, whose package may be another checkout's."""
    import trio
    from trio.testing import MockClock

    if find_spec("classify_batch.limits") is None:
        from bench_suite.gate_0_2 import install

        install()
    sys.path.append(str(ROOT))
    from tests.support.rate_limited_server import CASES, measure

    rows = []
    for case in CASES:
        runs = [trio.run(measure, case, seed, clock=MockClock(autojump_threshold=0)) for seed in range(1, seeds + 1)]
        row = {"case": case.name, "used_min": case.used_min, "own_max": case.own_max}
        row |= {"used": min(run.used for run in runs), "own": max(run.own for run in runs)}
        rows.append(row | {"discovered_per_s": [run.discovered_per_s for run in runs]})
        print(case.name, file=sys.stderr, flush=True)
    return rows


if __name__ == "__main__":
    print(json.dumps(_measure_all(int(sys.argv[1]))))
