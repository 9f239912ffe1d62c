"""The journal of a real run, cut at every byte, and the same command again.

A cut is what a dead disk leaves behind: so many bytes of the journal, the outcomes as far as those bytes commit them,
and some more. The sandbox is set back to fit. A create call leaves only after its intent is durable: so a job whose
intent was cut off was never made, one that the journal names was, and one between the two may have been or not.

All this runs in one process, on one socket: the sandbox of each cut is known by the organization ID of the calls. That
is a part of a run's identity, so each cut's run.json gets its own, of the same length, and the journal the hash of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import logging
import os
import random
import shutil
from collections import Counter
from collections.abc import Container, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from classify_batch import Settings, arun
from classify_batch.operations.shards.verify_run import verify_run
from classify_batch.rundir.journal.line import seal_line
from classify_batch.sandbox import App, Faults, Options, open_sandbox, read_jobs, serve_in_loop
from classify_batch.sandbox.jobs.job_table import count_billed
from classify_batch.sandbox.jobs.sandbox_job import SandboxJob
from crash_suite.case import Case, Score, Shape, lines_of
from crash_suite.forks import Forks
from crash_suite.sandbox import BRISK, FAULTS, Lab, Server
from crash_suite.suites import FAILING

FAULTS_OF_CUTS = FAULTS | BRISK | {"retry_after_s": 0.02, "error": 0.15, "null_result": 0.1}
AT_ONCE = 16
SETTLE_S = 0.5
TIMEOUT_S = 1.0
SHAPE = replace(FAILING, files=8, attempts=2)
SHORT_SHAPE = Shape(files=4, files_per_job=2, jobs_in_flight=2, attempts=2, settle_s=0.5, fails=True)
PATIENCE_S = 60.0


class Switchboard:
    """Many sandboxes behind one socket."""

    def __init__(self) -> None:
        self.apps: dict[str, App] = {}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        query = parse_qs(scope["query_string"].decode())
        await self.apps[query["organization_id"][0]](scope, receive, send)


async def cut_everywhere(lab: Lab, forks: Forks, share: float) -> Score:
    """Cuts the journal of a run at every byte, or at a share of them."""
    folder, rng = lab.folder / "cuts", random.Random(lab.seed)
    folder.mkdir()
    os.environ["LLAMA_CLOUD_API_KEY"] = "sandbox"
    board = Switchboard()
    logging.getLogger("classify_batch").addHandler(logging.NullHandler())  # torn tails are no news here
    async with serve_in_loop(board) as base_url:
        case, score = await _original(folder, board, base_url, lab, forks, short=share < 1)
        cuts = Cuts(case, board, lab)
        places = range(len(cuts.journal) + 1)
        chosen = rng.sample(places, max(1, round(share * len(places))))
        gate = asyncio.Semaphore(AT_ONCE)

        left_out = 0

        async def cut(place: int) -> None:
            nonlocal left_out
            async with gate:
                if lab.over:
                    left_out += 1
                else:
                    score.add(await cuts.at(place))

        async with asyncio.TaskGroup() as tasks:
            for place in chosen:
                tasks.create_task(cut(place))
    if left_out:
        score.left_out.append(f"journal cut: {left_out:,} of {len(chosen):,} bytes")
    return score


async def _original(
    folder: Path, board: Switchboard, base_url: str, lab: Lab, forks: Forks, *, short: bool
) -> tuple[Case, Score]:
    """A run of real processes that was killed twice on its way, so that its journal has been taken up, too."""
    ledger = folder / "ledger.jsonl"
    options = Options.from_values(
        seed=lab.seed, ledger=ledger, job_duration_s=0.1, faults=Faults.from_values(FAULTS_OF_CUTS, "cuts")
    )
    with open_sandbox(options) as app:
        board.apps[_organization(0)] = app
        case = Case(folder, Server(base_url, ledger, lab.version), SHORT_SHAPE if short else SHAPE, "cut", forks=forks)
        config = case.config.read_text()
        case.config.write_text(config.replace("[api]\n", f'[api]\norganization_id = "{_organization(0)}"\n'))
        for step in () if short else (45, 40):
            await case.start(order={"step": step, "how": "before"})
        await case.to_end()
    return case, case.score


class Cuts:
    """Worlds as they were when so many bytes of the journal were durable."""

    def __init__(self, case: Case, board: Switchboard, lab: Lab) -> None:
        self._case = case
        self._board = board
        self._lab = lab
        self._files = {each.name: each.read_bytes() for each in case.run_dir.iterdir()}
        self._jobs = list(read_jobs(case.server.ledger))
        self.journal = self._files["journal.jsonl"]
        items = [item for line in self._lines(self.journal) for item in line.get("items", ())]
        self._key_of = {job_id: (item["chunk"], item["attempt"]) for item in items for job_id in _jobs_of(item)}

    def _lines(self, journal: bytes) -> list[dict[str, Any]]:
        return [json.loads(line) for line in journal[: journal.rfind(b"\n") + 1].splitlines()]

    async def at(self, place: int) -> Score:
        """Cuts at one byte, goes on, and judges."""
        rng = random.Random(f"{self._lab.seed}/{place}")
        run_dir = self._case.folder / f"cut-{place}"
        lines = self._lines(self.journal[:place])
        self._lay_out(run_dir, place, lines, rng)
        score = Score(runs=1, files=self._case.shape.files)
        faults = Faults.from_values(FAULTS_OF_CUTS, "cuts")
        options = Options.from_values(seed=place, job_duration_s=0.05, faults=faults)
        with open_sandbox(options) as app:
            for number, job in enumerate(self._jobs_then(lines, rng), 1):
                app.job_table.add_job(replace(job, number=number))
            self._board.apps[_organization(place)] = app
            await self._go_on(run_dir, place, score)
            score.requests = sum(sum(by_status.values()) for by_status in app.meter.responses_by_call().values())
            await self._judge(run_dir, app, place, score)
            del self._board.apps[_organization(place)]
        if not (score.faults and self._lab.keep):
            shutil.rmtree(run_dir)
        return score

    def _lay_out(self, run_dir: Path, place: int, lines: list[dict[str, Any]], rng: random.Random) -> None:
        run_dir.mkdir()
        items = [item for line in lines for item in line.get("items", ())]
        run_file = self._files["run.json"].replace(_organization(0).encode(), _organization(place).encode())
        (run_dir / "plan.jsonl").write_bytes(self._files["plan.jsonl"])
        (run_dir / "run.json").write_bytes(run_file)
        (run_dir / "journal.jsonl").write_bytes(_begun_with(run_file, self.journal[:place]))
        begun = {
            (item["chunk"], item["attempt"]) for line in lines if line["kind"] == "submitting" for item in line["items"]
        }
        for name in ("results", "failures"):
            committed = max((item[name][1] for item in items if name in item), default=0)
            data = _outcomes_by_then(self._files[f"{name}.jsonl"], committed, begun)
            (run_dir / f"{name}.jsonl").write_bytes(data[: rng.randint(committed, len(data))])

    def _jobs_then(self, lines: list[dict[str, Any]], rng: random.Random) -> list[SandboxJob]:
        items = [(line["kind"], item) for line in lines for item in line.get("items", ())]
        named = {job_id for _, item in items for job_id in _jobs_of(item)}
        begun = {(item["chunk"], item["attempt"]) for kind, item in items if kind == "submitting"}
        return [
            job
            for job in self._jobs
            if job.job_id in named or (self._key_of.get(job.job_id) in begun and rng.random() < 0.5)
        ]

    async def _go_on(self, run_dir: Path, place: int, score: Score) -> None:
        api, limits = {"organization_id": _organization(place), "timeout_s": TIMEOUT_S}, {"settle_s": SETTLE_S}
        settings = Settings.load(self._case.config, api=api, limits=limits)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await arun(settings, str(self._case.ids), run_dir)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            score.faults.append(f"cut at byte {place}: {error!r}")

    async def _judge(self, run_dir: Path, app: App, place: int, score: Score) -> None:
        outcomes = Counter(
            line["file_id"] for name in ("results.jsonl", "failures.jsonl") for line in lines_of(run_dir / name)
        )
        billed = count_billed(app.job_table)
        score.lost = sum(not outcomes[each] for each in self._case.file_ids)
        score.twice = sum(outcomes[each] > 1 for each in self._case.file_ids)
        score.paid_twice = sum(count > 1 for count in billed.values())
        found = await verify_run(run_dir)
        if found.errors or not found.complete:
            score.faults.append(f"cut at byte {place}: verify: {'; '.join(found.errors) or 'incomplete'}")
        if score.lost or score.twice or score.paid_twice:
            counts = f"lost {score.lost}, twice {score.twice}, paid twice {score.paid_twice}"
            score.faults.append(f"cut at byte {place}: {counts}")


def _outcomes_by_then(data: bytes, committed: int, begun: Container[tuple[int, int]]) -> bytes:
    """What can stand in a file of outcomes: behind what is committed, those of attempts whose intents were durable."""
    tail = data[committed:].splitlines(keepends=True)
    known = itertools.takewhile(lambda line: (json.loads(line)["chunk"], json.loads(line)["attempt"]) in begun, tail)
    return data[:committed] + b"".join(known)


def _organization(place: int) -> str:
    return f"organization-{place:06}"


def _jobs_of(item: dict[str, Any]) -> list[str]:
    """The jobs that an item of a journal's line names."""
    return [*item.get("jobs", ()), *([item["job_id"]] if "job_id" in item else [])]


def _begun_with(run_file: bytes, journal: bytes) -> bytes:
    """A journal whose `opened` lines tell the hash of this run.json; what was cut in the middle of a line stays cut."""
    *lines, rest = journal.split(b"\n")
    whole = [_opened_with(run_file, line) if b'"run_sha256"' in line else line for line in lines]
    return b"\n".join([*whole, rest])


def _opened_with(run_file: bytes, line: bytes) -> bytes:
    body = {name: value for name, value in json.loads(line).items() if name != "crc"}
    body["run_sha256"] = hashlib.sha256(run_file).hexdigest()
    return seal_line(json.dumps(body, separators=(",", ":")).encode()).removesuffix(b"\n")
