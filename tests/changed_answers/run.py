"""A small run against changed answers, and the judgement of what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from uuid import NAMESPACE_URL, uuid5

import anyio

from classify_batch.errors import ClassifyBatchError, ExitStatus, the_cause
from classify_batch.inputs.folder import CONTENT_PREFIX, PATH_COLUMN
from classify_batch.sandbox.documents.uploaded_text import classify_upload
from classify_batch.vocabulary import Log
from tests.changed_answers.allowances import ATTEMPTS, is_harmless, payments_allowed
from tests.changed_answers.changer import FOLDER, LOST_CREATE, ONLY_CHANGED, TAKEN_OVER, Case, Changer
from tests.changed_answers.server import ChangingServer
from tests.support.documents_in_memory import content_id
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
def small_laboratory(version: str, besides: str = ONLY_CHANGED) -> Iterator[Lab]:
    """Jobs that take a second, more than one page of each list, and file IDs that have a case."""
    config: dict[str, object] = {"job": {"parsing_configuration": {"lang": "en", "max_pages": 3}}}
    if besides == FOLDER:
        config["plan"] = {"carry": (PATH_COLUMN,)}
    with laboratory(
        0,
        files_per_job=2,
        version=version,
        timeout_s=2.0,
        limits=LIMITS,
        config=config,
        job_duration_s=1.0,
        job_duration_sigma=0.3,
        results_page_size=1,
        list_page_size_max=1,
        list_page_size_clamp=True,
        seed=3,
    ) as lab:
        lab.file_ids = [str(uuid5(NAMESPACE_URL, str(number))) for number in range(FILES[version])]
        if besides == FOLDER:
            lab.folder = {f"{number}.txt": f"document {number}".encode() for number in range(FILES[version])}
            lab.file_ids = [content_id(content) for content in lab.folder.values()]
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
    with small_laboratory(case.version, case.besides) as lab:
        changer = Changer(case)
        server = ChangingServer(lab, case.lost_creates, changer)
        if case.besides == TAKEN_OVER:
            await run_until_killed(lab, server)
        status = await run_to_end(lab)
        # What happens besides moves the times, and may leave a case nothing to change.
        faults: dict[str, object] = {} if changer.changed or case.besides else {"changed": "no answer"}
        faults |= {f"changed: {name}": found for name, found in (await judge(lab, server, case, status)).items()}
        if status not in {ExitStatus.COMPLETE, ExitStatus.FAILURES}:
            server.is_changing = False
            status = await run_to_end(lab)
            faults |= {f"unchanged: {name}": found for name, found in (await judge(lab, server, case, status)).items()}
    return faults


async def judge(lab: Lab, server: ChangingServer, case: Case, status: ExitStatus) -> dict[str, object]:
    """What doesn't hold of a run that ended with this status."""
    verified, outcomes = await lab.verify(), lab.outcomes()
    complete = status in {ExitStatus.COMPLETE, ExitStatus.FAILURES}
    lost_job = next((each.file_ids for each in lab.app.job_table if each.number == LOST_CREATE), ())
    contents = contents_by_sent_id(server)
    lost_job = tuple(contents.get(each, each) for each in lost_job)
    paid_times = count_payments(lab, contents)
    allowed = payments_allowed(case, lab.file_ids, lost_job)
    faults: dict[str, object] = {
        "status": [] if status in (UNHARMED if is_harmless(case) else ALLOWED) else status,
        "lost": sorted(set(lab.file_ids) - outcomes.keys()) if complete else [],
        "invented": sorted(outcomes.keys() - set(lab.file_ids)),
        "paid too often": {file_id: paid for file_id, paid in paid_times.items() if paid > allowed[file_id]},
        "verify": verified.errors + ([] if verified.complete == complete else [f"complete: {verified.complete}"]),
        "wrong": wrong_results(lab, case, contents),
    }
    return {name: found for name, found in faults.items() if found}


ANSWER = ("type", "confidence", "reasoning")


def contents_by_sent_id(server: ChangingServer) -> Mapping[str, str]:
    """The content of each upload, as the plan's file ID."""
    return {
        file_id: CONTENT_PREFIX + external_id.removeprefix("sha256-")
        for file_id, external_id in server.uploaded().items()
    }


def count_payments(lab: Lab, contents: Mapping[str, str]) -> Mapping[str, int]:
    """How often each file of the plan was paid, whichever of its uploads was."""
    times = Counter[str]()
    for file_id, paid in lab.billed().items():
        times[contents.get(file_id, file_id)] += paid
    if contents:  # the sandbox knows every file ID, also one that it never gave out
        return {file_id: paid for file_id, paid in times.items() if file_id in lab.file_ids}
    return times


def wrong_results(lab: Lab, case: Case, contents: Mapping[str, str]) -> list[dict[str, object]]:
    """The lines of results.jsonl that say what the file's job didn't answer; but for what the case changes in it."""
    names = set(ANSWER) - set(case.path[-1:])
    # Where an upload is shown with another ID, nobody can know that it isn't that file.
    if case.path[-1:] in {("result",), ("file_id",)} or (
        case.kind in {"upload", "content"} and case.path[-1:] == ("id",)
    ):
        return []
    right: dict[tuple[str, str], dict[str, object]] = {}
    texts = {content_id(content): content.decode() for content in lab.folder.values()}
    for job in lab.app.job_table:
        classify = lab.app.project.make_classifier(job.config)
        for _, file_id, has_answer in job.answered_files():
            if has_answer and file_id in contents:
                text = texts[contents[file_id]]
                right[job.job_id, contents[file_id]] = dict(classify_upload("x.txt", text, job.config))
            elif has_answer:
                right[job.job_id, file_id] = dict(classify(file_id))
    return [
        line
        for line in lab.lines(Log.RESULTS)
        if (answer := right.get((line["job_id"], line["file_id"]))) is None
        or any(line[name] != answer[name] for name in names)
    ]
