"""What the faults cost a large run: it must end complete by itself, with few requests more than the faults demand.

A request that was answered badly is demanded once more, and isn't counted. The others are held to what a job needs, by
kind: a create, and on v1 a call for its results; and polls. Polls are repeats of nothing: how many there are follows
from how long jobs take and how many are in flight, so they have a bound of their own, and a run that its faults make
longer isn't blamed for polling longer. Jobs last long enough for the schedule to decide when to poll, and not the speed
of this machine.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from crash_suite.case import Case, Score, Shape
from crash_suite.sandbox import FAULTS, Lab, sandbox

BAD_ANSWERS = ("429", "503", "no answer")
POLLS = ("get", "list")
JOB_DURATION_S = 1.0

CALLS_PER_JOB = {"v1": 2, "v2": 1}
MORE_MAX = 0.05
"""Of the calls that aren't polls: a page of results that is read again since the next one was answered badly."""

POLLS_PER_JOB_MAX = 1.0
POLLS_PER_JOB_MAX_WITH_FAULTS = 1.5
"""Pages of the list and single jobs. The schedule plans 0.78 pages for a job where 30 are in flight. With faults, v1's
list is also read for creates whose answers were lost, and four bad answers of it in a row, which one run in twenty
sees, let single jobs be polled for five seconds."""


@dataclass(frozen=True)
class Asked:
    """What a run asked for: what was answered, by the call, and how many answers were bad, or none."""

    jobs: int
    answered: Counter[str]
    bad: int

    @property
    def polls_per_job(self) -> float:
        return sum(self.answered[call] for call in POLLS) / self.jobs

    @property
    def others_per_job(self) -> float:
        return self.answered.total() / self.jobs - self.polls_per_job

    @property
    def all(self) -> int:
        return self.answered.total() + self.bad

    def waste(self, version: str, polls_max: float) -> list[str]:
        """What exceeds the bounds."""
        bounds = {
            "polls": (self.polls_per_job, polls_max),
            "other requests": (self.others_per_job, CALLS_PER_JOB[version] * (1 + MORE_MAX)),
        }
        return [
            f"{found:.2f} {what} a job, and at most {most:.2f} are needed: {dict(self.answered)}"
            for what, (found, most) in bounds.items()
            if found > most
        ]


async def faults_cost(lab: Lab, files: int) -> tuple[dict[str, Any], Score]:
    """The same run without faults and with them, one after the other."""
    shape = Shape(files=files, files_per_job=20, jobs_in_flight=30, settle_s=5.0)
    calm, calm_score = await _run(lab, shape, "calm", {})
    with_faults, score = await _run(lab, shape, "with_faults", FAULTS)
    score.add(calm_score)
    score.requests = calm.all + with_faults.all
    wasted = [f"without faults: {each}" for each in calm.waste(lab.version, POLLS_PER_JOB_MAX)]
    wasted += [f"with faults: {each}" for each in with_faults.waste(lab.version, POLLS_PER_JOB_MAX_WITH_FAULTS)]
    score.faults += wasted
    told = {
        "files": files,
        "jobs": calm.jobs,
        "requests without faults": calm.all,
        "requests with faults": with_faults.all,
        "of these answered badly, or not at all": with_faults.bad,
        "polls a job without faults, and with them": f"{calm.polls_per_job:.2f}, {with_faults.polls_per_job:.2f}",
        "other requests a job": f"{calm.others_per_job:.2f}, {with_faults.others_per_job:.2f}",
        "files lost": score.lost,
        "files twice": score.twice,
        "paid twice": score.paid_twice,
    }
    return told, score


async def _run(lab: Lab, shape: Shape, name: str, faults: dict[str, float]) -> tuple[Asked, Score]:
    folder = lab.folder / name
    folder.mkdir()
    async with sandbox(folder, lab.seed, faults, job_duration_s=JOB_DURATION_S, version=lab.version) as server:
        case = Case(folder, server, shape, name)
        if (status := await case.start()) != 0:
            case.fault(f"it doesn't end by itself: exit status {status}")
        score = await case.judge(by_command=True)
        stats = server.stats()
    answered = Counter[str]()
    bad = 0
    for call, by_status in stats["requests"].items():
        for answer, count in by_status.items():
            if answer in BAD_ANSWERS:
                bad += count
            else:
                answered[call] += count
    return Asked(max(1, stats["creates_accepted"]), answered, bad), score
