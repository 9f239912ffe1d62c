"""Measures the real command against a fast server on a core of its own, beside the vendor's own clients.

The figures to trust are ratios of the same minute. "Ideal" is list scheduling of the very same job durations onto the
same number of slots: no client can be faster. Two requests a job (create, results) is the floor on v1. Run it through
scripts/bench.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_suite.clients import CLIENTS
from bench_suite.compare import CASES, compare
from bench_suite.crowd import crowd
from bench_suite.files import export, plan, reuse, verify
from bench_suite.growth import growth
from bench_suite.lab import SCRIPTS, Lab, NoServer, Server, environment, pin_clients, spread_clients
from bench_suite.rate import rate
from bench_suite.rate_table import rate_table
from bench_suite.retry import retry
from bench_suite.singles import journal, resume, server, start
from bench_suite.v2 import v2

Rows = list[dict[str, Any]]


SUITES: dict[str, Callable[[Lab, argparse.Namespace], Rows]] = {
    **dict.fromkeys(CASES, compare),
    "growth": growth,
    "v2": v2,
    "journal": journal,
    "start": start,
    "plan": plan,
    "resume": resume,
    "reuse": reuse,
    "verify": verify,
    "export": export,
    "retry": retry,
    "crowd": crowd,
    "server": server,
}
DRAWN = {*CASES, "growth"}

WITHOUT_SERVER = frozenset({"plan", "reuse", "verify", "export"})
BY_THEMSELVES = {"rate": rate, "rate-table": rate_table}
"""Suites that start what they need."""


def main() -> None:
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing that was started is left behind
    rows = measure(options)
    if options.json:
        about = {"suite": options.suite, "arguments": sys.argv[1:], "python": platform.python_version()}
        about |= {"cores": os.cpu_count(), "machine": platform.machine()}
        options.json.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    if options.picture:
        draw(options.suite, rows, options.picture)


def measure(options: argparse.Namespace) -> Rows:
    if options.suite in BY_THEMSELVES:
        return BY_THEMSELVES[options.suite](options)
    core = pin_clients()
    if options.suite in WITHOUT_SERVER:
        spread_clients(core)
        return SUITES[options.suite](Lab(NoServer(), options.tree), options)
    with Server(environment("tools"), core) as bench_server:
        return SUITES[options.suite](Lab(bench_server, options.tree), options)


def draw(suite: str, rows: Rows, path: Path) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"suite": suite, "rows": rows}, file)
        file.flush()
        subprocess.run([environment("tools"), SCRIPTS / "picture.py", file.name, path], check=True)


def parse() -> argparse.Namespace:
    told = "\n".join(f"  {name:12} {suite.__doc__}" for name, suite in {**SUITES, **CASES, **BY_THEMSELVES}.items())
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=f"{__doc__}\nSuites, with how long they take:\n{told}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("suite", nargs="?", choices=[*SUITES, *BY_THEMSELVES], default="run", metavar="SUITE")
    parser.add_argument(
        "--quick", action="store_true", help="the same as the suite `quick`: under two minutes; `v2` with few files"
    )
    parser.add_argument("--server-only", action="store_true", help="the same as the suite `server`")
    work = parser.add_argument_group("the work")
    work.add_argument("--files", type=numbers, help="one number; more with commas between them for `growth`")
    work.add_argument("--files-per-job", type=int)
    work.add_argument("--api-version", dest="version", choices=["v1", "v2"], help="v2 for ours only, a file a job")
    work.add_argument("--jobs-in-flight", type=numbers, help="one, or more with commas between them")
    work.add_argument("--job-duration-s", type=float, help="median; lognormal, sigma 0.6")
    work.add_argument("--seed", type=int, help="of the durations")
    work.add_argument("--cases", type=lambda words: words.split(","), help="of `rate`: those with such words in them")
    work.add_argument("--at-once", type=int, help="of `rate`: so many cases")
    limits = parser.add_argument_group("what the server allows")
    limits.add_argument("--requests-per-s", type=float, metavar="R", help="429 beyond")
    limits.add_argument("--creates-per-s", type=float, metavar="R", help="429 for a create beyond")
    limits.add_argument("--rate-window", choices=["sliding", "bucket", "fixed"])
    limits.add_argument("--jobs-at-once", type=int, metavar="N", help="429 for a create beyond")
    limits.add_argument("--list-status", type=int, metavar="STATUS", help="404 or 500: the list is unusable")
    limits.add_argument("--list-order", choices=["newest", "oldest", "shuffled"])
    limits.add_argument("--page-size-max", type=int)
    limits.add_argument("--gzip", action="store_true", default=None, help="answers are packed for who asks for it")
    clients = parser.add_argument_group("the clients")
    clients.add_argument("--clients", type=names, help=",".join(CLIENTS))
    clients.add_argument("--told-requests-per-s", type=float, help="the rate that ours is given")
    clients.add_argument("--requests-in-flight", type=int, help="of ours")
    clients.add_argument(
        "--tree",
        type=Path,
        help="measure the package in this other checkout instead; `plan`, `reuse`, `verify` and `export`: as well",
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything, raw")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg")
    options = parser.parse_args()
    if options.quick and options.suite != "v2":
        options.suite = "quick"
    options.suite = "server" if options.server_only else options.suite
    if options.picture and options.suite not in DRAWN:
        parser.error(f"there is no picture of {options.suite}")
    return options


def numbers(words: str) -> list[int]:
    return [int(word) for word in words.split(",")]


def names(words: str) -> list[str]:
    clients = words.split(",")
    if strangers := set(clients) - set(CLIENTS):
        raise argparse.ArgumentTypeError(f"no such client: {', '.join(sorted(strangers))}")
    return clients


if __name__ == "__main__":
    main()
