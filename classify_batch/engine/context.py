"""What every stage of a run needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from classify_batch.engine.event_queue import EventQueue
from classify_batch.engine.outcome_recorder import OutcomeRecorder
from classify_batch.engine.shutdown import Shutdown
from classify_batch.events import Warned
from classify_batch.limits import JobSlots
from classify_batch.ports import Api, Clock, Documents, Journal
from classify_batch.rundir.cost import Price
from classify_batch.rundir.opened_run import RunOnDisk
from classify_batch.rundir.plan import PlanReader
from classify_batch.settings import Settings


@dataclass(frozen=True, slots=True)
class EngineContext:
    """One for all stages of a run."""

    settings: Settings
    api: Api
    journal: Journal
    recorder: OutcomeRecorder
    clock: Clock
    slots: JobSlots
    shutdown: Shutdown
    events: EventQueue
    price: Price = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "price", Price(self.settings))  # the way to set a field of a frozen dataclass

    def notify_warning(self, message: str) -> None:
        self.events.notify(Warned(message))


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run that is to be carried out.

    Attributes:
        found: as it lies in its directory; plan: scanned.
        documents: brings those of the folder that is its input to the project; None: its file IDs are the project's.
    """

    found: RunOnDisk
    plan: PlanReader
    documents: Documents | None = None


class ProvenProject(Protocol):
    """The project that the key speaks for, once a read has shown it.

    Attributes:
        project_id: None where nothing says it.
    """

    project_id: str | None

    async def wait_until_proven(self) -> bool:
        """Returns when creates may be sent, and absence may be believed. False: nothing says which project it is, nor
        which it should be."""
