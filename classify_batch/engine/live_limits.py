"""Limits that change while a run is on: told by a file in its directory, obeyed within a second, and written down."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio
from pydantic import ValidationError

from classify_batch.limits import JobSlots, RequestGate
from classify_batch.limits.credit_budget import CreditBudget
from classify_batch.ports import RunStore
from classify_batch.rundir.journal.writer import JournalWriter
from classify_batch.settings.limit_changes import Tuning
from classify_batch.vocabulary import TUNE_JSON, Kind

EVERY_S = 0.5

log = logging.getLogger("classify_batch")


class LiveLimits:
    """Hears what `tune` says.

    Attributes:
        on_rates: called when other rates were told.
    """

    def __init__(
        self,
        store: RunStore,
        journal: JournalWriter,
        gate: RequestGate,
        slots: JobSlots,
        budget: CreditBudget,
        unbounded: int,
    ) -> None:
        """`unbounded`: how many slots there are where as many jobs may be out as there are."""
        self._store = store
        self._journal = journal
        self._gate = gate
        self._slots = slots
        self._budget = budget
        self._unbounded = unbounded
        self.on_rates: Callable[[], None] = lambda: None

    async def work(self) -> None:
        """Obeys until it is cancelled."""
        while True:
            await anyio.sleep(EVERY_S)
            if await self._store.size(TUNE_JSON) is not None:
                await self._obey()

    async def _obey(self) -> None:
        data = await self._store.read(TUNE_JSON)
        try:
            tuning = Tuning.model_validate_json(data)
        except ValidationError as error:
            log.warning("%s says what can't be obeyed: %s", TUNE_JSON, error.errors(include_url=False)[0]["msg"])
        else:
            self._turn(tuning)
            self._journal.record_about_run(Kind.TUNED, {"limits": tuning.told()})
            await self._journal.durable()
            log.warning("told anew: %s", ", ".join(f"{name} = {value}" for name, value in tuning.told().items()))
        await self._store.remove(TUNE_JSON)

    def _turn(self, tuning: Tuning) -> None:
        self._gate.tell(tuning.requests_per_s, tuning.creates_per_s)
        self.on_rates()
        if tuning.jobs_in_flight is not None:
            self._slots.tell(tuning.jobs_in_flight or self._unbounded)
        if tuning.max_credits is not None:
            self._budget.set_limit(tuning.max_credits)
        if tuning.paused is not None:
            self._gate.pause(tuning.paused)
