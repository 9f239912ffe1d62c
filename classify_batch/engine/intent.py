"""The intent of a create: what is on disk before the first byte of the call leaves."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import anyio

from classify_batch.engine.shutdown import Shutdown
from classify_batch.lifecycle import Submitting
from classify_batch.model import Attempt
from classify_batch.ports import Clock, Journal


class NoMoreCreatesError(Exception):
    """The run stopped creating while this attempt waited for its turn."""


class Intent:
    """Makes an attempt's intent durable once, before the first byte of its first call leaves.

    Attributes:
        left: whether a call of this process may have left.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        shutdown: Shutdown,
        attempt: Attempt,
        project_id: str | None,
        unwritten: list[Intent] | None = None,
    ) -> None:
        """`unwritten`: those of all attempts that wait for their turn, which are written down together with the first
        that may go. None where each is written when its own turn comes, since a process that finds an intent has to
        search for its job: on v1, where that takes minutes."""
        self._journal = journal
        self._clock = clock
        self._shutdown = shutdown
        self._project_id = project_id
        self._unwritten = unwritten
        self._durable = bool(attempt.since_s)  # of an earlier process, or from the reconciler
        self._unanswered_call = ExitStack()
        self.ambiguous_calls = 0
        self.left = False
        self.attempt = attempt
        if unwritten is not None and not attempt.since_s:
            unwritten.append(self)

    def __enter__(self) -> Intent:
        return self

    def __exit__(self, *_: object) -> None:
        if self._unwritten and self in self._unwritten:
            self._unwritten.remove(self)
        self.mark_answered(ambiguous=False)

    def mark_answered(self, *, ambiguous: bool) -> None:
        """The call has returned. `ambiguous`: whether it may have been accepted all the same."""
        self._unanswered_call.close()
        if ambiguous:
            self.ambiguous_calls += 1
            self.attempt = replace(self.attempt, ambiguous=True)

    async def about_to_send(self) -> None:
        # Asked here, after all waiting: a create that has not left yet is never ambiguous.
        if not self._shutdown.creating:
            raise NoMoreCreatesError
        self._unanswered_call.enter_context(self._shutdown.busy())
        if not self.attempt.since_s:
            written = [self]
            if self._unwritten is not None:
                written = self._unwritten.copy()
                self._unwritten.clear()
            for intent in written:
                intent.record()
            await self._journal.durable()
            for intent in written:
                intent.mark_durable()
        elif not self._durable:
            await self._journal.durable()  # another one has recorded it, and its fsync may be under way
            self._durable = True
        self.left = True

    def record(self) -> None:
        self.attempt = attempt = replace(
            self.attempt,
            since_s=self._clock.wall_s(),
            server_s=self._journal.server_s,
            intended_s=anyio.current_time(),
        )
        self._journal.record(
            Submitting(
                attempt.key,
                attempt.part,
                attempt.since_s,
                attempt.credits,
                attempt.server_s,
                self._project_id,
                attempt.sent_ids,
            )
        )

    def mark_durable(self) -> None:
        self._durable = True
