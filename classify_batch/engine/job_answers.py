"""What follows from a job's answers: set arithmetic on file IDs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from classify_batch.engine.outcome_recorder import fail_all_files
from classify_batch.file_keys import file_key, file_keys
from classify_batch.lifecycle import after_bad_job, after_missing, remainder
from classify_batch.model import Answer, Answers, Attempt, Failure, Job, JobView, Part
from classify_batch.protocol.sanitize import printable_line
from classify_batch.vocabulary import FailureCode, JobStatus


@dataclass(frozen=True, slots=True)
class Settled:
    """What follows from a job's answers.

    Attributes:
        answers: (file ID, answer) of the answered files.
        warnings: about answers that nobody asked for.
        only_foreign: set if the job answered only files that it wasn't asked for: one of their IDs. Never set for a
            recheck: that job also held files that have their outcomes by now.
    """

    answers: list[tuple[str, Answer]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    requeued: tuple[Part, ...] = ()
    warnings: list[str] = field(default_factory=list)
    only_foreign: str | None = None

    @property
    def odd_confidences(self) -> int:
        """How many answers have a confidence that is no number."""
        return sum([answer.odd_confidence for _, answer in self.answers])


def has_missing_answers(answers: Answers, asked: Sequence[str]) -> bool:
    if answers_each_in_order(answers.items, asked):
        return False
    answered = {answer.file_id for answer in answers.items if answer.answered and answer.file_id is not None}
    if answered.issuperset(asked):
        return False  # the usual answer, spelled as we asked
    return not set(file_keys(list(answered))).issuperset(file_keys(asked))


def answers_each_in_order(answers: Sequence[Answer], asked: Sequence[str]) -> bool:
    """Whether each file has one answer, all of them in the order and the spelling in which they were asked for. So it
    nearly always is, and then nothing has to be matched."""
    return [answer.file_id for answer in answers if answer.answered] == list(asked) and len(answers) == len(asked)


def decide_answered_job(
    attempt: Attempt, answers: Sequence[Answer], attempts: int, view: JobView, withheld: str = ""
) -> Settled:
    """What follows from a job's answers. Each file that was asked for is answered, failed or sent again; answers
    without a file ID, about other files, or different ones about the same file become warnings.

    `withheld`: why the API may have more answers than it hands out. Files without an answer were perhaps paid then, so
    they fail. Likewise where answers name no file.
    """
    if answers_each_in_order(answers, attempt.api_ids):
        odd = sum([has_odd_confidence(answer) for answer in answers])
        return Settled(list(zip(attempt.file_ids, answers, strict=True)), warnings=warn_of_answers(odd=odd))
    return match_answers(attempt, answers, attempts, view, withheld)


def match_answers(attempt: Attempt, answers: Sequence[Answer], attempts: int, view: JobView, withheld: str) -> Settled:
    """The same, for answers in any order and spelling."""
    ours: dict[str, str] | None = None
    positions = dict(zip(attempt.api_ids, attempt.positions, strict=True))
    answered: dict[str, Answer] = {}
    conflicting = unnamed = unnamed_answers = foreign = odd = 0
    named, foreign_file_id = False, None
    for answer in answers:
        if answer.file_id is None:
            unnamed += 1
            unnamed_answers += answer.answered
            continue
        file_id: str | None = answer.file_id
        if file_id not in positions:
            # Made only for the first strange ID: most servers spell all of them as they were sent.
            if ours is None:  # the server spells IDs in its own way
                ours = dict(zip(file_keys(attempt.api_ids), attempt.api_ids, strict=True))
            file_id = ours.get(file_key(answer.file_id))
        if file_id is None:
            foreign, foreign_file_id = foreign + 1, foreign_file_id or answer.file_id
            continue
        named = True
        if not answer.answered:
            continue
        if file_id in answered:
            conflicting += answered[file_id] != answer
            continue
        answered[file_id] = answer
        odd += has_odd_confidence(answer)
    if foreign_file_id is not None and not named and not attempt.part.recheck:
        return Settled(only_foreign=foreign_file_id)
    if attempt.part.recheck:
        foreign = 0  # most are other files of its job, which have their outcomes
    missing = [position for file_id, position in positions.items() if file_id not in answered]
    requeued = () if withheld or unnamed_answers else parts_to_requeue(attempt, missing, attempts)
    words = explain_missing(view, withheld, unnamed_answers)
    planned = dict(zip(attempt.api_ids, attempt.file_ids, strict=True))
    return Settled(
        [(planned[file_id], answer) for file_id, answer in answered.items()],
        [] if requeued else [Failure(position, FailureCode.NOT_ANSWERED, words) for position in missing],
        requeued,
        warn_of_answers(unnamed, foreign, conflicting, odd),
    )


def explain_missing(view: JobView, withheld: str, unnamed_answers: int) -> str:
    """Why a file has no answer."""
    words = f"no answer in a job that ended with {printable_line(view.status)}"
    if unnamed_answers:
        words = f"{unnamed_answers} answers of the job name no file: one of them may be about this one"
    words = withheld or words
    return f"{words}: {view.error_message}" if view.error_message else words


def has_odd_confidence(answer: Answer) -> bool:
    """Whether its confidence lies outside of 0 to 1."""
    return answer.confidence is not None and not 0.0 <= answer.confidence <= 1.0


def warn_of_answers(unnamed: int = 0, foreign: int = 0, conflicting: int = 0, odd: int = 0) -> list[str]:
    """A warning for each kind of answer that there was."""
    return [
        f"{count} {what}"
        for count, what in (
            (unnamed, "answers name no file; they are ignored"),
            (foreign, "answers are about files that were not asked for; they are ignored"),
            (conflicting, "files have two different answers; the first counts"),
            (odd, "answers have a confidence outside 0 to 1"),
        )
        if count
    ]


def parts_to_requeue(attempt: Attempt, missing: Sequence[int], attempts: int) -> tuple[Part, ...]:
    """What is sent again after a job that was read to its end. After the recheck of an old job, counting attempts
    begins anew, as it does for all files of a retry."""
    if not attempt.part.recheck:
        return after_missing(attempt.part, len(attempt.positions), missing, attempts)
    if len(missing) == len(attempt.positions):
        return (replace(attempt.part, recheck=False),)
    return remainder(attempt.part, missing)


def decide_failed_job(attempt: Attempt, view: JobView, attempts: int, *, other_file_suspected: bool = False) -> Settled:
    """What follows for a job that ended with ERROR or CANCELLED. `other_file_suspected`: whether another file of the
    chunk may have been the reason of the failed jobs that its files shared."""
    requeued = after_bad_job(attempt.part, attempt.positions, attempts, other_file_suspected=other_file_suspected)
    if requeued:
        return Settled(requeued=requeued)
    cancelled = view.status == JobStatus.CANCELLED
    code = FailureCode.JOB_CANCELLED if cancelled else FailureCode.JOB_ERROR
    words = view.error_message or f"the job ended with {printable_line(view.status)} and gave no reason"
    return Settled(failures=fail_all_files(attempt, code, words))


def decide_cancelled_job(attempt: Attempt) -> Settled:
    """What follows where it was us who cancelled the job: it says nothing of its files, and is no attempt of theirs. So
    the same part goes out again, in a later process."""
    return Settled(requeued=(replace(attempt.part, recheck=False),))


def fail_overdue_job(job: Job) -> list[Failure]:
    """The failures of an overdue job. v1 can't cancel it: it is named, so that a retry reads it first."""
    words = f"job {printable_line(job.job_id)} was not finished within limits.job_timeout_s"
    if job.unknown_status:
        words += f"; its status {printable_line(job.unknown_status)!r} is unknown"
    return fail_all_files(job.attempt, FailureCode.OVERDUE, words)


def fail_vanished_job(job: Job) -> list[Failure]:
    """The failures of a job that left files unanswered and is not shown any more: perhaps they were paid, so they
    fail."""
    words = f"the API doesn't show job {printable_line(job.job_id)} as finished any more, so it can't be read again"
    return fail_all_files(job.attempt, FailureCode.NOT_ANSWERED, words)
