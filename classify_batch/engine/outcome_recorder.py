"""Ends attempts: outcomes, first answers that wait for a second look, counts and credits, as one fact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import compress
from operator import attrgetter

from classify_batch.clock import to_iso
from classify_batch.engine.event_queue import EventQueue
from classify_batch.events import FilesFailed
from classify_batch.file_keys import is_parse_job
from classify_batch.lifecycle import Ended, Tally
from classify_batch.model import AnsweredFile, Attempt, Failure, Part, ProvisionalRange, to_ranges
from classify_batch.ports import Clock, OutcomeSink
from classify_batch.protocol.sanitize import printable_line
from classify_batch.rundir.failure_messages import without_ids
from classify_batch.rundir.manifest_json import without_decimal_point
from classify_batch.rundir.outcome_lines import (
    FIRST,
    SECOND,
    Other,
    ResultLine,
    encode_results,
    failure_lines,
    result_lines,
)
from classify_batch.settings import EscalationSettings, TriageSettings
from classify_batch.settings.job_spec import JobSpecs
from classify_batch.vocabulary import (
    ACCEPTED,
    BILLED,
    CREDITS,
    PARSE_JOBS_BILLED,
    SECOND_LOOKS,
    UNBILLED,
    FailureCode,
    Kind,
    Log,
    OutcomeKind,
)


class OutcomeRecorder:
    """Where the stages end their attempts.

    A file whose second look brings nothing keeps its first answer: it never fails.
    """

    def __init__(
        self,
        journal: OutcomeSink,
        clock: Clock,
        specs: JobSpecs,
        escalation: EscalationSettings | None = None,
        triage: TriageSettings | None = None,
        *,
        bills: bool = False,
        events: EventQueue | None = None,
    ) -> None:
        """`bills`: whether the API reports what it bills: then a job without a bill is counted. `events`: are notified
        of failures by message."""
        self._events = events
        self._journal = journal
        self._clock = clock
        self._specs = specs
        self._escalation = escalation
        self._triage = triage
        self._bills = bills

    def end_attempt(
        self,
        attempt: Attempt,
        kind: Kind,
        *,
        job_id: str | None = None,
        answers: Sequence[AnsweredFile] = (),
        failures: Sequence[Failure] = (),
        requeued: tuple[Part, ...] = (),
        free: bool = False,
        billed: float | None = None,
        found: tuple[str, ...] = (),
        created_at_s: float | None = None,
    ) -> None:
        """Appends an attempt's outcomes and the fact that ends it, without an await: nothing may come between them.

        Args:
            job_id: the job that it was; None where it never was one. Each answer names the job that gave it.
            free: whether it cost nothing, where the API doesn't say what was billed.
            billed: credits that the API said were billed.
            found, created_at_s: see lifecycle.Ended.
        """
        at_s = self._clock.wall_s()
        at = to_iso(at_s)
        lines = result_lines(attempt, answers, at)
        if attempt.sent_ids:
            # The plan knows a document by its content: only this says which of the project's files was asked about.
            sent = dict(zip(attempt.file_ids, attempt.sent_ids, strict=True))
            for line in lines:
                line.sent_id = sent[line.file_id]
        weak: list[ResultLine] = []
        if attempt.part.first is not None:
            lines = [self._result_of_second_look(attempt, line) for line in lines]
            lines += [self._keep_first_answer(attempt, job_id, failure) for failure in failures]
            failures = ()
        elif self._escalation is not None:
            flags = [self._escalation.is_weak(each.answer) for each in answers]
            weak = list(compress(lines, flags))
            lines = list(compress(lines, [not flag for flag in flags]))
        # First: the part for the second look, which the ending fact names, says where these stand.
        provisional = self._journal.append(Log.PROVISIONAL, encode_results(weak))
        if provisional is not None:
            requeued = (
                *requeued,
                second_look_part(attempt, weak, ProvisionalRange(provisional.start, provisional.end)),
            )
        results = self._journal.append(Log.RESULTS, encode_results(lines))
        lost = self._journal.append(Log.FAILURES, failure_lines(attempt, job_id, failures, at_s))
        unbilled = self._bills and billed is None and not free and job_id is not None
        sums = {
            ACCEPTED: 0.0 if self._triage is None else sum(map(self._is_accepted_by_triage, lines)),
            SECOND_LOOKS: len(weak),
            CREDITS: credits_spent(attempt, free, billed) - attempt.credits,  # the most was counted when it went out
            BILLED: billed or 0.0,
            # Kept in the journal, so that a later process doesn't take parse jobs for free.
            PARSE_JOBS_BILLED: (billed or 0.0) if self._bills and all(map(is_parse_job, attempt.file_ids)) else 0.0,
            UNBILLED: unbilled,
        }
        recorded = {name for name, value in sums.items() if value}
        if billed is not None:
            recorded.add(BILLED)  # a bill of nothing is a bill: without it the run's would count as unknown
        tally = tally_outcomes(
            lines, failures, {name: without_decimal_point(value) for name, value in sums.items() if name in recorded}
        )
        self._journal.record(Ended(attempt.key, kind, results, lost, provisional, tally, requeued, found, created_at_s))
        if failures and self._events is not None:
            for event in failures_by_message(attempt, job_id, failures):
                self._events.notify(event)

    def _result_of_second_look(self, attempt: Attempt, line: ResultLine) -> ResultLine:
        """An answer of the second look: it counts."""
        answer, mode, job_id, number, at = attempt.first_answers[line.file_id]
        line.counts = SECOND
        line.other = Other(mode, number, job_id, answer.type, answer.confidence, answer.reasoning, at)
        return line

    def _keep_first_answer(self, attempt: Attempt, job_id: str | None, failure: Failure) -> ResultLine:
        """The first answer, where the second look brought none."""
        file_id = attempt.file_ids[attempt.positions.index(failure.position)]
        answer, mode, first_job_id, number, at = attempt.first_answers[file_id]
        (line,) = result_lines(attempt, [AnsweredFile(file_id, answer, first_job_id, mode)], at)
        line.attempt, line.counts = number, FIRST
        second = self._specs.spec_of_part(attempt.part).mode
        line.other = Other(
            second,
            attempt.key.attempt,
            failure.job_id or job_id,
            code=failure.code,
            message=printable_line(failure.message),
        )
        return line

    def _is_accepted_by_triage(self, line: ResultLine) -> bool:
        return (
            self._triage is not None
            and line.type is not None
            and self._triage.accepts_answer(line.type, line.confidence)
        )


def failures_by_message(attempt: Attempt, job_id: str | None, failures: Sequence[Failure]) -> Iterator[FilesFailed]:
    """The failures of one attempt, those with the same code and message together."""
    ids = dict(zip(attempt.positions, attempt.file_ids, strict=True))
    counts = Counter(
        # With its IDs in it, each message would be one of its own, and a night's failures as many events.
        (each.code.value, without_ids(printable_line(each.message), ids.get(each.position), each.job_id or job_id))
        for each in failures
    )
    for (code, message), files in counts.items():
        yield FilesFailed(attempt.key.chunk, attempt.key.attempt, code, message, files)


def credits_spent(attempt: Attempt, free: bool, billed: float | None) -> float:
    """A bill counts, whatever was set aside; where there is none, the most that it can be."""
    return billed if billed is not None else 0.0 if free else attempt.credits


def second_look_part(attempt: Attempt, weak: list[ResultLine], first: ProvisionalRange) -> Part:
    positions = dict(zip(attempt.file_ids, attempt.positions, strict=True))
    ranges = to_ranges(sorted(positions[line.file_id] for line in weak))
    # The second look counts its own attempts: the first job has answered these files.
    return replace(attempt.part, ranges=ranges, bad_jobs=0, first=first, shared_bad_jobs=0, unnamed=0)


_TYPE_OF = attrgetter("type")


def tally_outcomes(lines: Sequence[ResultLine], failures: Sequence[Failure], sums: dict[str, float]) -> Tally:
    types = Counter(map(_TYPE_OF, lines))
    unmatched = types.pop(None, 0)
    outcomes = {
        OutcomeKind.CLASSIFIED.value: len(lines) - unmatched,
        OutcomeKind.UNMATCHED.value: unmatched,
        OutcomeKind.FAILED.value: len(failures),
    }
    codes = Counter([failure.code.value for failure in failures]) if failures else {}
    known = {kind: number for kind, number in types.items() if kind is not None}
    return Tally({kind: n for kind, n in outcomes.items() if n}, known, dict(codes), sums)


def fail_all_files(attempt: Attempt, code: FailureCode, message: str) -> list[Failure]:
    """The same failure for every file of an attempt."""
    return [Failure(position, code, message) for position in attempt.positions]
