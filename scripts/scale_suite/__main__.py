"""Proves the shards of a run on a real Ray cluster: a head, two nodes, and a server that allows 22 requests a second.

The rate is counted by the server. Then workers are killed, nodes are killed, workers stand still past their lease and
wake up, the whole cluster is killed and the command repeated, and two processes are given one shard at the same moment.
After each the directories are verified, and the server's ledger says what was paid.

Exits with 1 if anything was lost, doubled, paid twice, or otherwise not as promised.
"""

from __future__ import annotations

import argparse
import random
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from scale_suite.case import (
    ALLOWED_PER_S,
    BUDGET_PER_S,
    SHARDS,
    Case,
    Server,
    cluster_killed,
    environment,
    rate_of,
    server,
    undisturbed,
    worker_killed,
    worker_stopped,
)
from scale_suite.nodes import cluster

USED_MIN, USED_MAX = 0.93, 1.01
USED_MIN_BUSY = 0.5
"""Where other work keeps the CPUs busy all the time: eight that each used a share of their own would fail this, too."""

LATE_S_MAX = 1.0
"""Where processes wait for a CPU they send late: what they were allowed before the counted time may come inside it."""

COST_MAX = 1.10


class Proof:
    """All cases, and what they found."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.chance = folder, random.Random(seed)
        self.faults: list[str] = []

    def rate(self, files: int) -> None:
        """Eight shards over two nodes: how much of the budget is used, and how often the server refused."""
        with server(self.folder / "rate-server") as served, cluster(environment()) as nodes:
            case = Case("rate", self.folder / "rate", served, files)
            undisturbed(case, nodes)
            found = case.judge()
            self.faults += case.faults
            if case.faults:  # perhaps nothing was sent at all
                return
            said = rate_of(served.requests(), SHARDS)
        used = said["per s"] / BUDGET_PER_S
        used_min = max(USED_MIN * (1 - said["busy"]), USED_MIN_BUSY)
        used_max = USED_MAX + said["busy"] * LATE_S_MAX / said["lasted s"]
        print(
            f"rate: {said['per s']:.2f} requests/s, {used:.1%} of {BUDGET_PER_S:g}; at most "
            f"{said['most in a second']} in a second of {ALLOWED_PER_S}; {said['429']} times 429; "
            f"{said['busy']:.0%} of the time processes waited for a CPU; {found}",
            flush=True,
        )
        if used < used_min:
            self.faults.append(f"rate: only {used:.1%} of the budget, where {used_min:.1%} could be used")
        if used > used_max:
            self.faults.append(f"rate: {used:.1%} of the budget")
        if said["most in a second"] > ALLOWED_PER_S or said["429"]:
            self.faults.append(f"rate: {said}")

    def strikes(self, kills: int, stops: int, losses: int) -> None:
        """Workers killed, workers stopped, clusters killed."""
        with server(self.folder / "strike-server") as served:
            for kind, count, strike in (("killed", kills, worker_killed), ("stopped", stops, worker_stopped)):
                if not count:
                    continue
                found, interrupted = Counter[str](), 0
                with cluster(environment()) as nodes:
                    for number in range(count):
                        case = Case(f"{kind}-{number}", self.folder / f"{kind}-{number}", served)
                        interrupted += strike(case, nodes, self.chance)
                        found.update(case.judge())
                        self.faults += case.faults
                print(f"worker {kind}: {interrupted} of {count} runs interrupted; {dict(found)}", flush=True)
            found, interrupted = Counter[str](), 0
            for number in range(losses):
                case = Case(f"lost-{number}", self.folder / f"lost-{number}", served)
                with cluster(environment()) as nodes:
                    interrupted += cluster_killed(case, nodes, self.chance)
                with cluster(environment()) as nodes:
                    undisturbed(case, nodes)
                found.update(case.judge())
                self.faults += case.faults
            if losses:
                print(f"cluster killed: {interrupted} of {losses} runs interrupted; {dict(found)}", flush=True)

    def pairs(self, count: int) -> None:
        """Two processes that are given one shard at the same moment: one works, the other leaves with 75."""
        found, statuses = Counter[str](), Counter[str]()
        with (
            server(self.folder / "pair-server", per_s=None, job_s=2.5) as quick,
            server(self.folder / "slow-pair-server", per_s=None, job_s=20.0) as slow,
        ):
            for number in range(count):
                ended, case = self._pair(f"pair-{number}", quick)
                if ended == [0, 0]:  # on a busy machine one may have ended before the other began
                    self.faults += case.faults
                    ended, case = self._pair(f"slow-pair-{number}", slow)
                statuses[str(ended)] += 1
                if ended != [0, 75]:
                    case.faults.append(f"{case.name}: exit statuses {ended}")
                found.update(case.judge())
                self.faults += case.faults
        print(f"two at once: {count} times, exit statuses {dict(statuses)}; {dict(found)}", flush=True)

    def _pair(self, name: str, served: Server) -> tuple[list[int], Case]:
        case = Case(name, self.folder / name, served, files=10, per_s=200.0, shards=1)
        planned = [*case.words("--shards", "1")]
        planned[planned.index("run")] = "plan"
        planned = [word for word in planned if word not in ("--progress", "none")]
        subprocess.run(planned, env=environment(), capture_output=True, check=True)
        both = [case.start(case.words("--shard", "0/1")) for _ in range(2)]
        return sorted(case.end(each, (0, 75)) for each in both), case

    def cost(self, files: int) -> None:
        """What a run of one shard costs by the cluster, apart from the cluster's own start."""
        spans: dict[str, float] = {}
        with server(self.folder / "cost-server", per_s=None) as served, cluster(environment()) as nodes:
            for how in ("plain", "ray"):
                case = Case(how, self.folder / f"cost-{how}", served, files, per_s=100.0, shards=1)
                before = len(served.requests()) if how == "ray" else 0
                case.end(case.start(case.on(nodes) if how == "ray" else case.words()))
                times = [each.at_s for each in served.requests()[before:]]
                spans[how] = times[-1] - times[0]
                if how == "ray":
                    case.judge()
                self.faults += case.faults
        ratio = spans["ray"] / spans["plain"]
        print(f"one shard: {spans['ray']:.2f} s by the cluster, {spans['plain']:.2f} s plain: ×{ratio:.3f}", flush=True)
        if ratio > COST_MAX:
            self.faults.append(f"one shard costs ×{ratio:.3f}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/scale-test", description=__doc__)
    parser.add_argument("--short", action="store_true", help="one of each, in two minutes")
    parser.add_argument("--rate-files", type=int, default=3000, help="files of the run whose rate is counted")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--losses", type=int, default=5, help="clusters killed")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--cost-files", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    given = parser.parse_args()
    if given.short:
        given.rate_files, given.kills, given.stops, given.losses, given.pairs, given.cost_files = 400, 1, 1, 0, 2, 0
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        proof = Proof(Path(folder), given.seed)
        if given.rate_files:
            proof.rate(given.rate_files)
        if given.cost_files:
            proof.cost(given.cost_files)
        proof.strikes(given.kills, given.stops, given.losses)
        if given.pairs:
            proof.pairs(given.pairs)
    print(f"seed {given.seed}, {time.monotonic() - began_s:.0f} s, faults: {len(proof.faults)}")
    for fault in proof.faults:
        print(f"fault: {fault}", file=sys.stderr)
    return 1 if proof.faults else 0


if __name__ == "__main__":
    sys.exit(main())
