"""Makes jobs of attempts: the one place that may cost money.

The intent is durable before the POST leaves. After that an attempt is in one of four hands: the poller's (accepted),
the reconciler's (perhaps accepted), the plan's again (surely refused), or still ours (surely not accepted: tried
again under the same attempt).
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import replace

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream

from classify_batch.backoff import patiently
from classify_batch.errors import ApiError, ExitStatus, Verdict
from classify_batch.gate import Slots
from classify_batch.outcomes import Outcomes
from classify_batch.ports import Api, Clock, Journal
from classify_batch.records import Attempt, Failure, FailureCode, Job, JobView, Part
from classify_batch.states import Kind, Submitted, Submitting, halves, remainder
from classify_batch.stopping import Stop, Stopping

PLAN_FULL_WAIT_S = 15.0
PLAN_FULL_TRIES = 40
"""Ten minutes in which none of our jobs made room: others fill the plan, or a count by the month is used up."""

_VENDORS_WORDS = re.compile(r"\bFile ID (\S+) is not in\b")
"""`File ID … is not in Project ID …`: any other word of it may be some file's ID, too."""

_PUNCTUATION = "\"'`.,;:!?()[]{}<>…"
"""What may stand around an ID in a sentence. An ID may hold any of it: it is compared as a whole, never looked for."""


class _NoMoreCreatesError(Exception):
    """The run stopped creating while this attempt waited for its turn."""


class Submitter:
    """One of several workers over the same streams."""

    def __init__(
        self,
        api: Api,
        journal: Journal,
        outcomes: Outcomes,
        clock: Clock,
        slots: Slots,
        stopping: Stopping,
        project_id: str | None,
    ) -> None:
        self._api = api
        self._journal = journal
        self._outcomes = outcomes
        self._clock = clock
        self._slots = slots
        self._stopping = stopping
        self._project_id = project_id
        self._next_for_room = anyio.Lock()

    async def work(
        self,
        intake: ObjectReceiveStream[Attempt],
        submitted: ObjectSendStream[Job],
        doubtful: ObjectSendStream[Attempt],
    ) -> None:
        """Takes attempts, each of which holds a slot, until the stream ends."""
        async with intake, submitted, doubtful:
            async for attempt in intake:
                await self._submit(attempt, submitted, doubtful)

    async def _submit(
        self, attempt: Attempt, submitted: ObjectSendStream[Job], doubtful: ObjectSendStream[Attempt]
    ) -> None:
        with _Intent(self._journal, self._clock, self._stopping, attempt, repeatable=self._api.idempotent) as intent:
            try:
                view = await patiently(lambda: self._create(intent))
            except _NoMoreCreatesError:
                self._give_back(intent.attempt)
            except ApiError as error:
                if error.verdict is Verdict.DOUBTFUL:
                    await doubtful.send(intent.attempt)
                else:
                    self._refused(intent.attempt, error)
            else:
                await submitted.send(self._accept(intent.attempt, view))
                if not self._api.idempotent:
                    await self._journal.durable()  # or a later process has to ask the API whose job it is

    async def _create(self, intent: _Intent) -> JobView:
        """A create call; patient with a plan that allows no more jobs at once."""
        try:
            return await self._call(intent)
        except ApiError as error:
            if error.verdict is not Verdict.PLAN_FULL:
                raise
        self._slots.full()
        async with self._next_for_room:
            return await self._create_when_there_is_room(intent)

    async def _create_when_there_is_room(self, intent: _Intent) -> JobView:
        """Tries again whenever one of our jobs has ended, one attempt at a time; gives up where none has for long."""
        tries = 0
        while True:
            try:
                return await self._call(intent)
            except ApiError as error:
                if error.verdict is not Verdict.PLAN_FULL:
                    raise
                if tries == PLAN_FULL_TRIES:
                    words, hint = str(error), "wait for the plan's count, or raise it"
                    raise ApiError("create", Verdict.PERSON, words, status=error.status, hint=hint) from error
            tries += 1
            with anyio.move_on_after(PLAN_FULL_WAIT_S):
                await self._slots.one_ended()
                tries = 0

    async def _call(self, intent: _Intent) -> JobView:
        try:
            return await self._api.create(intent.attempt, intent.about_to_send)
        except ApiError:
            intent.not_on_the_wire()
            raise

    def _accept(self, attempt: Attempt, view: JobView) -> Job:
        at_s = self._clock.wall_s()
        self._journal.record(Submitted(attempt.key, view.job_id, at_s, view.project_id))
        if self._project_id is None:
            self._project_id = view.project_id
        elif view.project_id not in (None, self._project_id):
            self._stopping.ask(
                Stop(
                    f"job {view.job_id} was made in project {view.project_id}, and the run's jobs are in project "
                    f"{self._project_id}",
                    ExitStatus.PERSON,
                    "use the key and api.project_id that the run was begun with, then give the same command",
                )
            )
        return Job(attempt, view.job_id, at_s)

    def _refused(self, attempt: Attempt, error: ApiError) -> None:
        if error.verdict is Verdict.REFUSED:
            failures, again = after_refusal(attempt, error)
            self._outcomes.end(attempt, Kind.REJECTED, failures=failures, again=again, free=True)
            self._slots.release()
            return
        self._give_back(attempt)
        collects = error.verdict in (Verdict.NO_CREDIT, Verdict.PERSON)
        self._stopping.ask(Stop.because(error, collects=collects))

    def _give_back(self, attempt: Attempt) -> None:
        """It surely made no job: a later process sends it without having to ask the API first."""
        if attempt.since_s:
            self._outcomes.end(attempt, Kind.REJECTED, again=(attempt.part,), free=True)
        self._slots.release()


class _Intent:
    """An attempt on its way out: written down once, right before the first byte of the first call leaves.

    Where a create may be repeated, nobody waits for the disk: a process that knows nothing of it makes the same call.
    """

    def __init__(
        self, journal: Journal, clock: Clock, stopping: Stopping, attempt: Attempt, *, repeatable: bool
    ) -> None:
        self._repeatable = repeatable
        self._journal = journal
        self._clock = clock
        self._stopping = stopping
        self._on_the_wire = ExitStack()
        self.attempt = attempt

    def __enter__(self) -> _Intent:
        return self

    def __exit__(self, *_: object) -> None:
        self.not_on_the_wire()

    def not_on_the_wire(self) -> None:
        self._on_the_wire.close()

    async def about_to_send(self) -> None:
        if not self._stopping.creating:
            raise _NoMoreCreatesError
        self._on_the_wire.enter_context(self._stopping.busy())
        if not self.attempt.since_s:
            self.attempt = replace(self.attempt, since_s=self._clock.wall_s())
            attempt = self.attempt
            self._journal.record(Submitting(attempt.key, attempt.part, attempt.since_s, attempt.credits))
            if not self._repeatable:
                await self._journal.durable()


def after_refusal(attempt: Attempt, error: ApiError) -> tuple[list[Failure], tuple[Part, ...]]:
    """What follows when the API said no: the files that it named fail and the rest goes out again; where it named none,
    the halves do, down to the file at fault."""
    words = f"HTTP {error.status}: {error.detail}"
    named = named_positions(attempt, error)
    if not named and len(attempt.positions) == 1:
        named = list(attempt.positions)
    failures = [Failure(position, FailureCode.REJECTED, words) for position in named]
    if not named:
        return [], halves(attempt.part, attempt.positions, attempt.part.bad_jobs)
    rest = [position for position in attempt.positions if position not in set(named)]
    return failures, remainder(attempt.part, rest, attempt.part.bad_jobs)


def named_positions(attempt: Attempt, error: ApiError) -> list[int]:
    """The files that an error names, by index or in its words."""
    by_index = [attempt.positions[i] for i in error.file_indexes if 0 <= i < len(attempt.positions)]
    if by_index:
        return sorted(set(by_index))
    pairs = list(zip(attempt.positions, attempt.file_ids, strict=True))
    named = set(_VENDORS_WORDS.findall(error.detail))
    if positions := [position for position, file_id in pairs if file_id in named]:
        return positions
    words = {part for word in error.detail.split() for part in (word, word.strip(_PUNCTUATION))}
    return [position for position, file_id in pairs if file_id in words]
