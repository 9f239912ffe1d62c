"""Kills runs at every moment that there is, and counts what is lost, what is there twice, and what was paid twice.

Real processes against a real sandbox that loses 5 % of the create answers after accepting them, answers 5 % with 429
and 5 % of the reads with 503. Whatever happened, the same command is given again until the run is complete. Then the
directory is judged (`verify`, and line by line), and the sandbox's ledger says what was paid.

Exits with 1 if anything was lost, doubled, paid twice, or otherwise not as promised. Run it through scripts/crash.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from crash_suite.big import faults_cost
from crash_suite.case import Score
from crash_suite.cuts import cut_everywhere
from crash_suite.forks import forks
from crash_suite.sandbox import Lab
from crash_suite.suites import LONGER, SMALL, Suites, carry_out, measure

COUNTS = ("kills", "stops", "runs", "files", "files lost", "files twice", "paid twice")
SUITE_COLUMNS = (*COUNTS, "other faults", "requests")
JOURNAL_CUT = "journal cut"
SHORT_SHARE = 0.02
"""Of all steps, and of the bytes at which a journal is cut: what the short form has time for."""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/crash", description=__doc__)
    parser.add_argument("--seed", type=int, help="of the strikes and the faults; drawn and printed if not given")
    parser.add_argument("--version", choices=["v1", "v2"], default="v1", help="of the API")
    parser.add_argument(
        "--noise", type=float, metavar="SHARE", help="of 429s without Retry-After (0.02), instead of 5 %% with one"
    )
    parser.add_argument("--short", action="store_true", help="a sample of everything, in less than half a minute")
    parser.add_argument("--only", default="", metavar="WORD", help="suites with this word in their names")
    parser.add_argument("--kills", type=int, help="SIGKILLs at random moments; 600, or 9 with --short")
    parser.add_argument(
        "--files",
        type=int,
        help="of the run that bears the faults by itself; 20,000, or 1,000 on v2",
    )
    parser.add_argument("--lanes", type=int, default=3, help="runs at once")
    parser.add_argument("--minutes", type=float, default=60.0, help="no longer than this")
    parser.add_argument("--keep", action="store_true", help="keep the directories of what went wrong")
    parser.add_argument("--json", action="store_true", help="a JSON object a line")
    return parser.parse_args()


def main() -> int:
    options = parse()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # else, under `nohup`, all that is started here ignores it, too
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    folder = Path(tempfile.mkdtemp(prefix="classify-batch-crash-"))
    good = False
    try:
        good = asyncio.run(prove(options, folder, seed))
    finally:
        if options.keep and not good:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if good else 1


async def prove(options: argparse.Namespace, folder: Path, seed: int) -> bool:
    teller, total = Teller(seed, as_json=options.json), Score()
    share = SHORT_SHARE if options.short else 1.0
    until_s = time.monotonic() + 60 * options.minutes

    here = Lab(folder, seed, options.lanes, until_s, options.keep, options.version, options.noise)
    async with here as lab, forks(here.lanes) as made:

        async def tell(name: str, carrying_out: Awaitable[Score]) -> None:
            began_s, requests_before = time.monotonic(), lab.requests()
            score = await carrying_out
            if not options.short:
                score.requests += lab.requests() - requests_before
            teller.tell(name, score, time.monotonic() - began_s)
            total.add(score)

        found = await measure(lab, made, SMALL if options.short else LONGER)
        kills = options.kills if options.kills is not None else 9 if options.short else 600
        suites = [
            suite
            for suite in Suites(found, kills, share, random.Random(seed), options.version).all()
            if options.only in suite.name
        ]
        if options.short:  # all at once, each on one lane: most of the time a case waits
            await asyncio.gather(*(tell(suite.name, carry_out(suite, lab, made, lanes=1)) for suite in suites))
            total.requests += lab.requests()
        else:
            for left, suite in zip(range(len(suites) + 1, 1, -1), suites, strict=True):
                now_s = time.monotonic()
                lab.until_s = now_s + max(0.0, until_s - now_s) / left  # what one doesn't need is the next ones'
                await tell(suite.name, carry_out(suite, lab, made, lanes=lab.lanes))
        lab.until_s = until_s
        if options.only in JOURNAL_CUT:
            await tell(JOURNAL_CUT, cut_everywhere(lab, made, share))
        if not options.short and options.only in "faults alone":
            files = options.files or (20_000 if options.version == "v1" else 1_000)
            cost, score = await faults_cost(lab, files)
            teller.say(cost)
            total.add(score)
        teller.tell("all", total, time.monotonic() - until_s + 60 * options.minutes)
    for words in total.left_out:
        print(f"no time for: {words}", file=sys.stderr)
    for fault in total.faults:
        print(f"fault: {fault}", file=sys.stderr)
    return total.good


class Teller:
    """Prints the table, a line as soon as it is known."""

    def __init__(self, seed: int, *, as_json: bool) -> None:
        self._seed = seed
        self._as_json = as_json
        if not as_json:
            print(f"{'':<18} | {' | '.join(SUITE_COLUMNS)} | seconds   (seed {seed})", flush=True)

    def tell(self, name: str, score: Score, seconds: float) -> None:
        numbers = (score.kills, score.stops, score.runs, score.files, score.lost, score.twice, score.paid_twice)
        values = dict(zip(SUITE_COLUMNS, (*numbers, len(score.faults), score.requests or None), strict=True))
        if self._as_json:
            self.say({"suite": name, **values, "seconds": round(seconds, 1)})
        else:
            cells = " | ".join(
                f"{'' if values[column] is None else values[column]:>{len(column)}}" for column in SUITE_COLUMNS
            )
            print(f"{name:<18} | {cells} | {seconds:7.1f}", flush=True)

    def say(self, values: dict[str, Any]) -> None:
        if self._as_json:
            print(json.dumps({**values, "seed": self._seed}, ensure_ascii=False), flush=True)
        else:
            print("\n".join(f"{name}: {value}" for name, value in values.items()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
