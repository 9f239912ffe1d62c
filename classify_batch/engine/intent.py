"""The intent of a create: what is on disk before the first byte of the call is sent."""

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
    """Makes an attempt's intent durable once, right before the first byte of its first call is sent.

    Not ahead for all creates that wait, though they could share a line and an fsync: a later process must take every
    intent that it finds for a call that may have been sent, and repeats it or searches for its job, also past a bound
    of credits that was set meanwhile.
    """

    def __init__(
        self, journal: Journal, clock: Clock, shutdown: Shutdown, attempt: Attempt, project_id: str | None
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._shutdown = shutdown
        self._project_id = project_id
        self._unanswered_call = ExitStack()
        self.ambiguous_calls = 0
        self.attempt = attempt

    def __enter__(self) -> Intent:
        return self

    def __exit__(self, *_: object) -> None:
        # A call that was cancelled only stops holding up the shutdown: its intent stays for a later process.
        self.mark_answered(ambiguous=False)

    def mark_answered(self, *, ambiguous: bool) -> None:
        """The call has ended, with an answer or without. `ambiguous`: whether it may have been accepted all the
        same."""
        self._unanswered_call.close()
        if ambiguous:
            self.ambiguous_calls += 1
            self.attempt = replace(self.attempt, ambiguous=True)

    async def make_durable(self) -> None:
        """Writes the intent ahead of the first call, and marks the call as on the wire.

        Raises:
            NoMoreCreatesError: the run stopped creating: nothing was written, and nothing may be sent.
        """
        # Asked here, once the gate has let it pass: a create that was not sent yet is never ambiguous.
        if not self._shutdown.creating:
            raise NoMoreCreatesError
        # A stop waits for the intent and the call.
        self._unanswered_call.enter_context(self._shutdown.call_in_flight())
        if not self.attempt.since_s:
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
            await self._journal.wait_durable()
