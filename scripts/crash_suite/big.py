"""What the faults cost a large run: it must end complete by itself, with few requests more than the faults demand."""

from __future__ import annotations

from typing import Any

from crash_suite.case import Case, Score, Shape
from crash_suite.sandbox import FAULTS, Lab, sandbox

BAD_ANSWERS = ("429", "503", "no answer")
MORE_MAX = 0.15


async def faults_cost(lab: Lab, files: int) -> tuple[dict[str, Any], Score]:
    """The same run without faults and with them, side by side."""
    shape = Shape(files=files, files_per_job=100, jobs_in_flight=20, settle_s=5.0)
    calm, calm_score, _ = await _run(lab, shape, "calm", {})
    with_faults, score, bad = await _run(lab, shape, "with_faults", FAULTS)
    score.add(calm_score)
    score.requests = calm + with_faults
    more = (with_faults - bad) / calm - 1
    if more > MORE_MAX:
        score.faults.append(f"{with_faults} requests with faults, {calm} without: {100 * more:.1f} % more than repeats")
    told = {
        "files": files,
        "requests without faults": calm,
        "requests with faults": with_faults,
        "of these answered badly, or not at all": bad,
        "more than without faults, these not counted": f"{100 * more:.1f} %",
        "files lost": score.lost,
        "files twice": score.twice,
        "paid twice": score.paid_twice,
    }
    return told, score


async def _run(lab: Lab, shape: Shape, name: str, faults: dict[str, float]) -> tuple[int, Score, int]:
    folder = lab.folder / name
    folder.mkdir()
    async with sandbox(folder, lab.seed, faults, job_duration_s=0.2, version=lab.version) as server:
        case = Case(folder, server, shape, name)
        if (status := await case.start()) != 0:
            case.fault(f"it doesn't end by itself: exit status {status}")
        score = await case.judge(by_command=True)
        answers = server.requests()
    return sum(answers.values()), score, sum(answers[each] for each in BAD_ANSWERS)
