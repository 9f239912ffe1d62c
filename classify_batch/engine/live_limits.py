"""Takes what `tune` and `cancel` send while a run is on: looks for their files every half second, and journals them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from pydantic import ValidationError

from classify_batch.engine.context import EngineContext
from classify_batch.engine.gate_spans import GateSpans
from classify_batch.events import LimitsChanged
from classify_batch.limits import Gate
from classify_batch.limits.credit_budget import CreditBudget
from classify_batch.ports import RunStore
from classify_batch.rundir.requests import claim_request, finish_request
from classify_batch.settings.limit_changes import Tuning
from classify_batch.vocabulary import CANCEL_JSON, TUNE_JSON, Kind, RunState

EVERY_S = 0.5


class LiveLimits:
    """Watches for the files of `tune` and `cancel`, and does what they say.

    Attributes:
        on_rates: called when the rate limits were changed.
    """

    def __init__(
        self,
        store: RunStore,
        context: EngineContext,
        gate: Gate,
        budget: CreditBudget,
        unbounded: int,
        cancel: Callable[[], Awaitable[None]],
        write_manifest: Callable[[RunState], Awaitable[object]],
    ) -> None:
        """`unbounded`: how many slots there are where any number of jobs may be in flight. `cancel`: returns when it is
        durable that the run is cancelled. `write_manifest`: so that `status` knows the limits in force."""
        self._store = store
        self._context = context
        self._gate = gate
        self._budget = budget
        self._unbounded = unbounded
        self._cancel = cancel
        self._write_manifest = write_manifest
        self._spans = GateSpans(gate, budget, context.events)
        self.on_rates: Callable[[], None] = lambda: None

    async def apply_changes_until_cancelled(self) -> None:
        """Applies changes until it is cancelled."""
        while True:
            await anyio.sleep(EVERY_S)
            self._spans.report_changes()
            names = await self._store.names()
            if TUNE_JSON in names:
                await self._apply_tune_file()
            if CANCEL_JSON in names:
                with anyio.CancelScope(shield=True):  # a run in which nothing is in flight is over at once
                    if await claim_request(self._store, CANCEL_JSON) is not None:
                        await self._cancel()
                        await finish_request(self._store, CANCEL_JSON)

    async def _apply_tune_file(self) -> None:
        data = await claim_request(self._store, TUNE_JSON)
        if data is None:
            return  # `tune` took it back
        context = self._context
        try:
            tuning = Tuning.model_validate_json(data)
        except ValidationError as error:
            context.notify_warning(
                f"{TUNE_JSON} has limits that can't be applied: {error.errors(include_url=False)[0]['msg']}"
            )
        else:
            self._set_limits(tuning)
            changed = tuning.changed_limits()
            context.journal.record_about_run(Kind.TUNED, {"limits": changed})
            # All of it before the file goes, below: `tune` takes that for the answer.
            await context.journal.wait_durable()
            await self._write_manifest(RunState.RUNNING)
            context.events.notify(LimitsChanged(changed))
            context.notify_warning(
                f"limits changed: {', '.join(f'{name} = {value}' for name, value in changed.items())}"
            )
        await finish_request(self._store, TUNE_JSON)

    def _set_limits(self, tuning: Tuning) -> None:
        self._gate.set_limits(tuning.requests_per_s, tuning.creates_per_s)
        self.on_rates()
        if tuning.jobs_in_flight is not None:
            self._context.slots.set_limit(tuning.jobs_in_flight or self._unbounded)
        if tuning.max_credits is not None:
            self._budget.set_limit(tuning.max_credits)
        if tuning.paused is not None:
            self._gate.pause(tuning.paused)
