"""What the jobs that were found for an attempt mean for its files. Pure set arithmetic, over all of them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from classify_batch.file_keys import file_key
from classify_batch.lifecycle import after_missing, remainder
from classify_batch.model import Answer, AnsweredFile, Answers, Attempt, Failure, JobView, Part
from classify_batch.protocol.sanitize import printable_line
from classify_batch.vocabulary import FailureCode


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A job, and what it said."""

    view: JobView
    answers: Answers


@dataclass(frozen=True, slots=True)
class Settlement:
    """The outcome of each of an attempt's files: an answer, a failure, or another turn.

    Attributes:
        mode_unproven: whether one of the answers is a job's whose mode the server doesn't tell.
    """

    answers: list[AnsweredFile] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    requeued: tuple[Part, ...] = ()
    mode_unproven: bool = False


def decide_found_jobs(attempt: Attempt, found: Sequence[FoundJob], attempts: int, unresolved: str = "") -> Settlement:
    """Takes, for each file, the answer of the first job that has one.

    A file that a job names without an answer was in it: that was an attempt. One that none of them names was perhaps in
    no job at all: it is sent again, and after `attempts` such rounds it is unresolved.

    Args:
        unresolved: why a file without an answer may be in a job that was not found: then it isn't sent again.
    """
    answers, named = gather_answers(attempt, found)
    missing = [at for at, file_id in enumerate(attempt.file_ids) if file_id not in answers]
    settled = [answers[file_id] for file_id in attempt.file_ids if file_id in answers]
    unproven = any(each.mode is None for each in settled)
    if unresolved:
        words = f"perhaps paid, and it could not be proven; {unresolved}"
        failures = [Failure(attempt.positions[at], FailureCode.UNRESOLVED, words) for at in missing]
        return Settlement(settled, failures, (), unproven)
    empty = {attempt.positions[at]: named[attempt.file_ids[at]] for at in missing if attempt.file_ids[at] in named}
    unnamed = [attempt.positions[at] for at in missing if attempt.file_ids[at] not in named]
    withheld = next((each.answers.withheld for each in found if each.answers.withheld), "")
    requeued = () if withheld else after_missing(attempt.part, len(attempt.positions), list(empty), attempts)
    failures = [] if requeued else [not_answered_failure(position, jobs, withheld) for position, jobs in empty.items()]
    more, failed = settle_unnamed(attempt, unnamed, attempts, withheld)
    return Settlement(settled, failures + failed, requeued + more, unproven)


def gather_answers(attempt: Attempt, found: Sequence[FoundJob]) -> tuple[dict[str, AnsweredFile], dict[str, list[str]]]:
    """The answers by the attempt's own spelling of the file IDs, and for each ID the jobs that name it."""
    ours = {file_key(sent): file_id for sent, file_id in zip(attempt.api_ids, attempt.file_ids, strict=True)}
    answers, named = dict[str, AnsweredFile](), dict[str, list[str]]()
    for job in found:
        for answer in job.answers.items:
            file_id = ours.get(file_key(answer.file_id)) if answer.file_id is not None else None
            if file_id is None:
                continue
            # Also without an answer: a file that was in a job has used an attempt up.
            named.setdefault(file_id, []).append(job.view.job_id)
            if answer.answered and file_id not in answers:
                answers[file_id] = answered_file(file_id, answer, job.view)
    return answers, named


def answered_file(file_id: str, answer: Answer, view: JobView) -> AnsweredFile:
    mode = None if view.mode is None else view.mode.strip().upper()  # a server may spell it in its own way
    return AnsweredFile(file_id, answer, view.job_id, mode)


def not_answered_failure(position: int, jobs: Sequence[str], withheld: str) -> Failure:
    """Names a job that held the file: `--retry-failed` looks at it again first."""
    names = ", ".join(map(printable_line, jobs[:3]))
    words = withheld or f"no answer in the jobs that held it ({names})"
    return Failure(position, FailureCode.NOT_ANSWERED, words, jobs[0])


def settle_unnamed(
    attempt: Attempt, positions: list[int], attempts: int, withheld: str
) -> tuple[tuple[Part, ...], list[Failure]]:
    rounds = attempt.part.unnamed + 1
    if rounds < attempts and not withheld:
        return remainder(attempt.part, positions, unnamed=rounds), []
    words = withheld or f"{rounds} times a create was not answered, and no job that was found names the file"
    return (), [Failure(position, FailureCode.UNRESOLVED, words) for position in positions]
