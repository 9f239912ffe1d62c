"""What a case may cost: nothing twice, but for what these rules say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.changed_answers.changer import JOB, LOST_JOB, ONCE, Case
from tests.changed_answers.changes import OTHER_JOB
from tests.changed_answers.fields import EACH

ATTEMPTS = 2


def payments_allowed(case: Case, file_ids: Sequence[str], lost_job: Sequence[str]) -> Mapping[str, int]:
    """How often each file may be paid. `lost_job`: the files of the job whose create answer is lost."""
    if leaves_files_unanswered(case):
        return dict.fromkeys(file_ids, ATTEMPTS)
    if lost_job_shows_as_anothers(case):
        return dict.fromkeys(file_ids, 1) | dict.fromkeys(lost_job, 2)
    return dict.fromkeys(file_ids, 1)


HARMLESS = {"items reversed", "items doubled", "empty page first", "each page twice", "numbered pages"}
"""Changes of whole answers that leave all that they say."""


def is_harmless(case: Case) -> bool:
    """Whether a case leaves all that is to be known: then each file has to be classified."""
    return not case.path and case.change in HARMLESS


def leaves_files_unanswered(case: Case) -> bool:
    """Whether finished jobs say of files, and don't take it back, that they have no answer: such files go out again, up
    to `limits.attempts` times."""
    if case.scope == ONCE:
        return False
    if case.version == "v2":
        # Before a job has ended, another one's `result` is null.
        return case.kind in {"get", JOB} and case.path == ("result",) and case.change in {"removed", "null", OTHER_JOB}
    if case.kind != "results":
        return False
    if case.path == ("items", EACH, "result"):
        return case.change in {"removed", "null"}
    # Of results that are fewer than their total, the others were perhaps paid.
    return not case.path and case.change == "no items, and none in total"


def lost_job_shows_as_anothers(case: Case) -> bool:
    """Whether of all jobs the very one whose create answer is lost shows what only somebody else's job would: another
    configuration, a time before the intent, another job's ID, or other files. On v1 there is nothing else to know it
    by."""
    if case.version != "v1" or case.scope != LOST_JOB:
        return False
    if case.kind == "results":
        # A whole answer of another job names that job.
        return case.path[-1:] == ("file_id",) and case.change in {OTHER_JOB, "text", "huge"}
    path = case.path[2:] if case.kind == "list" else case.path
    if case.kind not in {"list", JOB}:
        return False
    if path in {("id",), ("created_at",)}:
        return case.change in {OTHER_JOB, "earlier"}
    return bool(path) and path[0] in {"rules", "mode", "parsing_configuration"}
