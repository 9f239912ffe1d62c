"""The rate that a run on v2 uses against limits and noise, on real sockets: each situation before and now, in one run.

A situation is a server process of its own with its limit, and the real command against it, which is stopped when the
time is over. What the server accepted and refused is counted by the second. 429s that are injected as noise never reach
the limit, and are not counted as ours. All trees meet a situation in the same minutes, and some situations are measured
at once: at these rates a run takes a tenth of a core.

Run by `scripts/bench rate`; `--tree OTHER` measures another checkout beside this one, `--cases WORD,…` those with one
of these words in their names. The same in virtual time, over many seeds: `scripts/bench rate-table`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_suite.clients import CONFIG, write_ids
from bench_suite.lab import KEY, ROOT, Server

FROM_S = 30
"""A client that doesn't know the rate may take this long to find it."""

AT_ONCE = 2
JOB_S = 2.0
JOBS_IN_FLIGHT = 200
PLENTY_PER_S = 1000.0
STOP_S_MAX = 30.0


@dataclass(frozen=True, slots=True)
class Situation:
    """A server, what the run knows of it, and what is promised.

    Attributes:
        told_per_s: creates a second (`calls` create), or requests a second (`calls` all).
        allowed_per_s: what the server allows of these; None: as much as the run is told.
        server: the bench server's options.
        used_min, own_max: shares; None: nothing is promised but what was before.
        from_s, to_s: the seconds that count, since the first request; the run ends with the last of them.
        halved_s: how many of these others take half of it.
    """

    name: str
    told_per_s: float
    allowed_per_s: float | None
    server: Mapping[str, Any]
    used_min: float | None
    own_max: float | None
    from_s: int = FROM_S
    to_s: int = 130
    halved_s: int = 0
    calls: str = "create"
    jobs_in_flight: int = JOBS_IN_FLIGHT

    @property
    def most(self) -> float:
        """How many requests the limit allows in the seconds that count."""
        per_s = self.told_per_s if self.allowed_per_s is None else min(self.told_per_s, self.allowed_per_s)
        return per_s * (self.to_s - self.from_s - self.halved_s / 2)


def _hidden(name: str, told_per_s: float, per_s: float, used: float, own: float, **more: Any) -> Situation:
    to_s = more.pop("to_s", 130)
    from_s = more.pop("from_s", FROM_S)
    return Situation(name, told_per_s, per_s, {"creates_per_s": per_s, **more}, used, own, from_s=from_s, to_s=to_s)


def _halved(name: str, used: float, own: float, from_s: int, to_s: int) -> Situation:
    server = {"creates_per_s": 40.0, "halved_from_s": 60.0, "halved_to_s": 180.0}
    halved_s = max(0, 180 - max(60, from_s))
    return Situation(name, 40.0, 40.0, server, used, own, from_s=from_s, to_s=to_s, halved_s=halved_s)


A_MINUTE = 20 / 60
SITUATIONS = (
    Situation("no limit but ours", 40.0, None, {"creates_per_s": 40.0}, 0.98, 0.0),
    Situation("noise 0.5 %", 40.0, None, {"noise": 0.005}, 0.85, None),
    Situation("noise 2 %", 40.0, None, {"noise": 0.02}, 0.85, None),
    Situation("noise 5 %", 40.0, None, {"noise": 0.05}, 0.75, None),
    _hidden("hidden: a tenth of 200", 200.0, 20.0, 0.93, 0.01),
    _hidden("hidden: a tenth of 40", 40.0, 4.0, 0.93, 0.01, from_s=38, to_s=338),
    _hidden("hidden: 90 % of 40", 40.0, 36.0, 0.93, 0.01),
    _hidden("hidden: half of 40", 40.0, 20.0, 0.93, 0.01),
    _hidden("hidden half, noise 2 %", 40.0, 20.0, 0.80, 0.03, noise=0.02, to_s=190),
    _hidden("hidden half, noise 5 %", 40.0, 20.0, 0.80, 0.03, noise=0.05, to_s=190),
    _halved("others take half, 2 min", 0.85, 0.03, FROM_S, 210),
    _halved("full again after 30 s", 0.93, 0.03, 210, 240),
    Situation("a plan of 20 jobs", 40.0, 20 / JOB_S, {"jobs_at_once": 20, "sigma": 0.0}, None, None, to_s=100),
    Situation(
        "20 a minute", A_MINUTE, A_MINUTE, {"requests_per_s": A_MINUTE}, 0.95, 0.01, from_s=0, to_s=600, calls="all"
    ),
    _hidden("a bucket of 10 s", 40.0, 20.0, 0.90, 0.02, rate_window="bucket", burst_s=10.0, to_s=190),
    _hidden("a fixed window", 40.0, 20.0, 0.90, 0.02, rate_window="fixed"),
    _hidden("creates and reads apart", 40.0, 20.0, 0.90, 0.02, reads_per_s=30.0),
)


def rate(options: argparse.Namespace) -> list[dict[str, Any]]:
    """the real command against hidden limits and noise; with --tree before and now (all: 25 minutes; see --cases)"""
    words = options.cases or [""]
    chosen = [each for each in SITUATIONS if any(word in each.name for word in words)]
    if not chosen:
        sys.exit(f"the cases are: {', '.join(each.name for each in SITUATIONS)}")
    trees = {"now": ROOT} if options.tree is None else {"before": options.tree.resolve(), "now": ROOT}
    print(f"| case | promised | {' | '.join(f'{name}: used, 429s of our own' for name in trees)} |")
    print(f"|---|---|{'---|' * len(trees)}", flush=True)
    rows: list[dict[str, Any]] = []
    with ThreadPoolExecutor(options.at_once or AT_ONCE) as pool:
        for measured in pool.map(lambda each: _measure_beside(each, trees), chosen):
            print(_line(measured), flush=True)
            rows += measured
    return rows


def _line(rows: list[dict[str, Any]]) -> str:
    first = rows[0]
    told = " | ".join(f"{100 * row['used']:.1f} %, {100 * row['own']:.2f} %" for row in rows)
    used, own = first["used_min"], first["own_max"]
    promised = (
        "as before" if used is None else f"≥ {100 * used:.0f} %" + ("" if own is None else f", ≤ {100 * own:.0f} %")
    )
    return f"| {first['case']} | {promised} | {told} |"


def _measure_beside(situation: Situation, trees: Mapping[str, Path]) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(len(trees)) as pool:
        return list(pool.map(lambda name: {"tree": name, **_measure(situation, trees[name])}, trees))


def _measure(situation: Situation, tree: Path) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory(prefix="classify-batch-rate-") as name,
        Server(Path(sys.executable), None) as server,
    ):
        folder = Path(name)
        all_calls = situation.calls == "all"
        server.reset({"version": "v2", "job_duration_s": JOB_S, **situation.server})
        write_ids(folder / "ids.txt", int(situation.told_per_s * (situation.to_s + 60)) + 1000)
        (folder / "config.toml").write_text(_config(situation, all_calls=all_calls))
        with _running(folder, tree, server.base_url) as process:
            _wait(situation.to_s + 1.0, process, server)
        seconds = server.stats(situation.jobs_in_flight)["seconds"]
    counted = range(situation.from_s, situation.to_s)

    def total(*names: str) -> int:
        return sum(sum(seconds.get(each, [])[counted.start : counted.stop]) for each in names)

    kinds = ("create", "read") if all_calls else ("create",)
    accepted = total(*(f"{kind} accepted" for kind in kinds))
    refused = total(*(f"{kind} {cause}" for kind in ("create", "read") for cause in ("limit", "full")))
    requests = accepted + total(*(f"{kind} {cause}" for kind in kinds for cause in ("limit", "full", "noise")))
    row = {"case": situation.name, "used_min": situation.used_min, "own_max": situation.own_max}
    return row | {"used": accepted / situation.most, "own": refused / max(1, requests), "seconds": seconds}


def _config(situation: Situation, *, all_calls: bool) -> str:
    rates = {
        "requests_per_s": situation.told_per_s if all_calls else PLENTY_PER_S,
        "creates_per_s": PLENTY_PER_S if all_calls else situation.told_per_s,
        "jobs_in_flight": situation.jobs_in_flight,
        "requests_in_flight": 60,
    }
    limits = "".join(f"{name} = {value}\n" for name, value in rates.items())
    return f'{CONFIG}{limits}[api]\nversion = "v2"\n'


@contextmanager
def _running(folder: Path, tree: Path, base_url: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command, stopped at the end of the block."""
    command = [sys.executable, "-m", "classify_batch", "run", "config.toml", "--input", "ids.txt", "--run-dir", "run"]
    others = {name: value for name, value in os.environ.items() if not name.startswith("CLASSIFY_BATCH_")}
    told = {"LLAMA_CLOUD_API_KEY": KEY, "LLAMA_CLOUD_BASE_URL": base_url}
    told |= {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    with (folder / "stderr.txt").open("wb") as stderr:
        process = subprocess.Popen(command, cwd=folder, env=others | told, stdout=subprocess.DEVNULL, stderr=stderr)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(seconds: float, process: subprocess.Popen[bytes], server: Server) -> None:
    """Until so long after the first request; leaves the bench where the command ends before."""
    began_s = time.monotonic()
    while True:
        first_s = server.first_s()
        if time.monotonic() - (began_s if first_s is None else first_s) >= seconds:
            return
        try:
            status = process.wait(0.5)
        except subprocess.TimeoutExpired:
            continue
        raise RuntimeError(f"the command ended early, with {status}")
