"""A small run against changed answers, and the judgement of what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import NAMESPACE_URL, uuid5

import anyio

from classify_batch.errors import ClassifyBatchError, ExitStatus, the_cause
from classify_batch.vocabulary import Log
from tests.changed_answers.allowances import ATTEMPTS, is_harmless, payments_allowed
from tests.changed_answers.changer import LOST_CREATE, TAKEN_OVER, Case, Changer
from tests.changed_answers.server import ChangingServer
from tests.support.simulated_run import Lab, laboratory

FILES = {"v1": 10, "v2": 6}
RUNTIME_S_MAX, DRAIN_S = 120.0, 20.0
KILLED_AFTER_S = 0.5
LIMITS = {
    "jobs_in_flight": 4,
    "attempts": ATTEMPTS,
    "settle_s": 2.0,
    "accept_s": 2.0,
    "job_timeout_s": 15.0,
    "patience_s": 10.0,
    "drain_s": DRAIN_S,
}
ALLOWED = {ExitStatus.COMPLETE, ExitStatus.FAILURES, ExitStatus.INCOMPLETE, ExitStatus.PERSON}
"""How a run may end against whatever a server answers: never with a fault of ours, and it is no wrong usage."""

UNHARMED = {ExitStatus.COMPLETE}


@contextmanager
def small_laboratory(version: str) -> Iterator[Lab]:
    """Jobs that take a second, more than one page of each list, and file IDs that have a case."""
    with laboratory(
        0,
        files_per_job=2,
        version=version,
        timeout_s=2.0,
        limits=LIMITS,
        config={"job": {"parsing_configuration": {"lang": "en", "max_pages": 3}}},
        job_duration_s=1.0,
        job_duration_sigma=0.3,
        results_page_size=1,
        list_page_size_max=1,
        list_page_size_clamp=True,
        seed=3,
    ) as lab:
        lab.file_ids = [str(uuid5(NAMESPACE_URL, str(number))) for number in range(FILES[version])]
        yield lab


async def run_to_end(lab: Lab) -> ExitStatus:
    """Runs in bounded time; gives the exit status that the command would have."""
    began_s = anyio.current_time()
    try:
        status = (await lab.run(max_runtime_s=RUNTIME_S_MAX)).exit_status
    except ClassifyBatchError as error:
        status = error.exit_status
    except BaseExceptionGroup as group:
        cause = the_cause(group)
        if not isinstance(cause, ClassifyBatchError):
            raise
        status = cause.exit_status
    assert anyio.current_time() - began_s < RUNTIME_S_MAX + DRAIN_S + 30.0
    return status


async def run_until_killed(lab: Lab, server: ChangingServer) -> None:
    """Runs against unchanged answers until jobs are in flight, and one create is ambiguous."""
    server.is_changing = False
    assert await lab.run_until_power_cut(KILLED_AFTER_S) is None
    server.is_changing = True


async def carry_out(case: Case) -> dict[str, object]:
    """Runs against changed answers, and once more against unchanged ones if the run isn't complete then. Returns all
    that is promised and doesn't hold; nothing, if all is well."""
    with small_laboratory(case.version) as lab:
        changer = Changer(case)
        server = ChangingServer(lab, case.lost_creates, changer)
        if case.besides == TAKEN_OVER:
            await run_until_killed(lab, server)
        status = await run_to_end(lab)
        # What happens besides moves the times, and may leave a case nothing to change.
        faults: dict[str, object] = {} if changer.changed or case.besides else {"changed": "no answer"}
        faults |= {f"changed: {name}": found for name, found in (await judge(lab, case, status)).items()}
        if status not in {ExitStatus.COMPLETE, ExitStatus.FAILURES}:
            server.is_changing = False
            status = await run_to_end(lab)
            faults |= {f"unchanged: {name}": found for name, found in (await judge(lab, case, status)).items()}
    return faults


async def judge(lab: Lab, case: Case, status: ExitStatus) -> dict[str, object]:
    """What doesn't hold of a run that ended with this status."""
    verified, outcomes = await lab.verify(), lab.outcomes()
    complete = status in {ExitStatus.COMPLETE, ExitStatus.FAILURES}
    lost_job = next((each.file_ids for each in lab.app.job_table if each.number == LOST_CREATE), ())
    allowed = payments_allowed(case, lab.file_ids, lost_job)
    faults: dict[str, object] = {
        "status": [] if status in (UNHARMED if is_harmless(case) else ALLOWED) else status,
        "lost": sorted(set(lab.file_ids) - outcomes.keys()) if complete else [],
        "invented": sorted(outcomes.keys() - set(lab.file_ids)),
        "paid too often": {file_id: paid for file_id, paid in lab.billed().items() if paid > allowed[file_id]},
        "verify": verified.errors + ([] if verified.complete == complete else [f"complete: {verified.complete}"]),
        "wrong": wrong_results(lab, case),
    }
    return {name: found for name, found in faults.items() if found}


ANSWER = ("type", "confidence", "reasoning")


def wrong_results(lab: Lab, case: Case) -> list[dict[str, object]]:
    """The lines of results.jsonl that say what the file's job didn't answer; but for what the case changes in it."""
    names = set(ANSWER) - set(case.path[-1:])
    if case.path[-1:] in {("result",), ("file_id",)}:
        return []
    right: dict[tuple[str, str], dict[str, object]] = {}
    for job in lab.app.job_table:
        classify = lab.app.project.make_classifier(job.config)
        right |= {
            (job.job_id, file_id): dict(classify(file_id)) for _, file_id, answers in job.answered_files() if answers
        }
    return [
        line
        for line in lab.lines(Log.RESULTS)
        if (answer := right.get((line["job_id"], line["file_id"]))) is None
        or any(line[name] != answer[name] for name in names)
    ]
