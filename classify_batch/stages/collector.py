"""Takes the answers of finished jobs and commits one outcome per file: set arithmetic on file IDs.

What came is committed; what is missing goes out again in a smaller part, within the attempts; a job that ended badly
goes out once more as it is, and is then split. All of that is one fact in the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import anyio
from anyio.abc import ObjectReceiveStream

from classify_batch.backoff import patiently
from classify_batch.errors import ApiError, Verdict
from classify_batch.outcomes import Outcomes, fail_all
from classify_batch.outcomes.ending import LOOKED_AT_AGAIN
from classify_batch.ports import Api
from classify_batch.records import Answer, Answers, Attempt, Failure, FailureCode, Job, JobStatus, JobView, Part
from classify_batch.states import Kind, after_bad_job, after_missing, remainder
from classify_batch.stopping import Stop, Stopping
from classify_batch.wire.words import clean

_SOON = frozenset({Verdict.LATER, Verdict.MISSING})
"""A job that the list shows as finished may be 404 elsewhere for a moment."""


RESULTS_TRIES = 12
LATE_RESULTS_S = 1.0


@dataclass(frozen=True, slots=True)
class Settled:
    """What follows from a job's answers.

    Attributes:
        answers: (file ID, answer) of the files that have their outcome.
        odd: what the API said beyond what was asked, in words.
    """

    answers: list[tuple[str, Answer]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    again: tuple[Part, ...] = ()
    odd: list[str] = field(default_factory=list)


class Collector:
    """One of several workers over the same stream."""

    def __init__(
        self,
        api: Api,
        outcomes: Outcomes,
        stopping: Stopping,
        *,
        attempts: int,
        warn: Callable[[str], None],
    ) -> None:
        self._api = api
        self._outcomes = outcomes
        self._stopping = stopping
        self._attempts = attempts
        self._warn = warn

    async def work(self, finished: ObjectReceiveStream[Job]) -> None:
        """Collects until the stream ends."""
        async with finished:
            async for job in finished:
                try:
                    await self._collect(job)
                except ApiError as error:
                    self._stopping.ask(Stop.because(error))

    async def _collect(self, job: Job) -> None:
        view = job.finished
        if view is None:
            self._commit(job, Settled(failures=gone(job) if _looked_at_again(job.attempt) else overdue(job)))
        elif view.answered:
            answers = await self._results(job, view)
            settled = settle(job.attempt, answers.items, self._attempts, view, answers.withheld)
            self._commit(job, settled, answers.billed)
        else:
            self._commit(job, settle_bad(job.attempt, view, self._attempts), view.credits)

    async def _results(self, job: Job, view: JobView) -> Answers:
        """A job that ended well and leaves a file unanswered is read once more: its results may only be late, and what
        is asked for again is paid again."""
        asked = job.attempt.file_ids
        if _looked_at_again(job.attempt):
            return await self._read_again(view, asked)
        answers = await self._read(view, asked)
        if view.status == JobStatus.SUCCESS and not answers.withheld and _unanswered(answers, asked):
            await anyio.sleep(LATE_RESULTS_S)
            answers = await self._read(view, asked)
        return answers

    async def _read(self, view: JobView, asked: Sequence[str]) -> Answers:
        return await patiently(lambda: self._api.results(view, asked), again=_SOON, tries=RESULTS_TRIES)

    async def _read_again(self, view: JobView, asked: Sequence[str]) -> Answers:
        """An old job's results are not late. Where they can't be had any more, the run goes on without them."""
        try:
            return await patiently(lambda: self._api.results(view, asked), tries=RESULTS_TRIES)
        except ApiError as error:
            if error.verdict not in (Verdict.MISSING, Verdict.REFUSED):
                raise
            return Answers((), f"the API doesn't hand the job's results out any more ({error})")

    def _commit(self, job: Job, settled: Settled, billed: float | None = None) -> None:
        for words in settled.odd:
            self._warn(f"job {clean(job.job_id)}: {words}")
        view = job.finished
        only_again = bool(settled.again) and not settled.answers and not settled.failures
        bad = view is not None and not view.answered
        self._outcomes.end(
            job.attempt,
            Kind.SPLIT if only_again and bad else Kind.COLLECTED,
            job_id=job.job_id,
            answers=settled.answers,
            failures=settled.failures,
            again=settled.again,
            free=bad,
            billed=billed,
        )


def _unanswered(answers: Answers, asked: Sequence[str]) -> bool:
    return not {answer.file_id for answer in answers.items if answer.answered}.issuperset(asked)


def settle(attempt: Attempt, answers: Sequence[Answer], attempts: int, view: JobView, withheld: str = "") -> Settled:
    """Asked, answered, missing, never asked, answered twice, nameless: every case has its outcome or its warning.

    `withheld`: why there may be more answers that can't be had. What is missing then was perhaps paid: it fails.
    """
    positions = dict(zip(attempt.file_ids, attempt.positions, strict=True))
    answered: dict[str, Answer] = {}
    twice = nameless = foreign = 0
    for answer in answers:
        if answer.file_id is None:
            nameless += 1
        elif answer.file_id not in positions:
            foreign += 1
        elif not answer.answered:
            continue
        elif answer.file_id in answered:
            twice += answered[answer.file_id] != answer
        else:
            answered[answer.file_id] = answer
    missing = [position for file_id, position in positions.items() if file_id not in answered]
    again = () if withheld else _again(attempt, missing, attempts)
    words = withheld or f"no answer in a job that ended with {clean(view.status)}"
    if view.error_message:
        words += f": {view.error_message}"
    odd = [
        f"{count} {what}"
        for count, what in (
            (nameless, "answers name no file; they are ignored"),
            (foreign, "answers are about files that were not asked for; they are ignored"),
            (twice, "files have two different answers; the first counts"),
        )
        if count
    ]
    return Settled(
        list(answered.items()),
        [] if again else [Failure(position, FailureCode.NOT_ANSWERED, words) for position in missing],
        again,
        odd,
    )


def _looked_at_again(attempt: Attempt) -> bool:
    return attempt.part.bad_jobs <= LOOKED_AT_AGAIN


def _again(attempt: Attempt, missing: Sequence[int], attempts: int) -> tuple[Part, ...]:
    """What goes out again after a job that was read to its end. A retry is a new beginning, as it is for files that
    failed otherwise."""
    if not _looked_at_again(attempt):
        return after_missing(attempt.part, len(attempt.positions), missing, attempts)
    if len(missing) == len(attempt.positions):
        return (replace(attempt.part, bad_jobs=0),)
    return remainder(attempt.part, missing, 0)


def settle_bad(attempt: Attempt, view: JobView, attempts: int) -> Settled:
    """A job that ended with ERROR or CANCELLED."""
    again = after_bad_job(attempt.part, attempt.positions, attempts)
    if again:
        return Settled(again=again)
    cancelled = view.status == JobStatus.CANCELLED
    code = FailureCode.JOB_CANCELLED if cancelled else FailureCode.JOB_ERROR
    words = view.error_message or f"the job ended with {clean(view.status)} and gave no reason"
    return Settled(failures=fail_all(attempt, code, words))


def overdue(job: Job) -> list[Failure]:
    """v1 can't cancel: the job goes on, and is named, so that a later retry can look at it first."""
    words = f"job {clean(job.job_id)} was not finished within limits.job_timeout_s"
    return fail_all(job.attempt, FailureCode.OVERDUE, words)


def gone(job: Job) -> list[Failure]:
    """A job that left files unanswered, and shows itself no more: perhaps they were paid, so they fail again."""
    words = f"the API doesn't show job {clean(job.job_id)} as finished any more, so it can't be read again"
    return fail_all(job.attempt, FailureCode.NOT_ANSWERED, words)
