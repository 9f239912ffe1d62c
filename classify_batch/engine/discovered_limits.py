"""The limits of the API that were found to be lower than the configured ones: kept for later processes, and
reported."""

from __future__ import annotations

from classify_batch.engine.event_queue import EventQueue, events_of_limits
from classify_batch.limits import Gate, JobSlots
from classify_batch.rundir.journal.replay import RunSnapshot
from classify_batch.vocabulary import NOISE_SHARE


class DiscoveredLimits:
    """What gate and slots have found, what the journal says of it, and what observers were notified of."""

    def __init__(self, gate: Gate, slots: JobSlots, snapshot: RunSnapshot, events: EventQueue) -> None:
        self._gate = gate
        self._slots = slots
        self._snapshot = snapshot
        self._events = events
        self._announced = snapshot.found

    def current_limits(self) -> dict[str, float]:
        """The limits, and the share of 429s that don't depend on our rate."""
        limits = {
            "requests_per_s": self._gate.discovered_per_s,
            "creates_per_s": self._gate.discovered_creates_per_s,
            "jobs_in_flight": self._slots.discovered,
            NOISE_SHARE: self._gate.noise_share,
        }
        return {name: round(value, 4) for name, value in limits.items() if value is not None}

    def restore_from_journal(self) -> None:
        """Begins with what an earlier process has found."""
        found = self._snapshot.found
        self._gate.restore(found.get("requests_per_s"), found.get("creates_per_s"))
        if (jobs := found.get("jobs_in_flight")) is not None:
            self._slots.restore(int(jobs))

    def announce(self) -> None:
        """Notifies observers of limits that the journal has written down; it leaves small changes out."""
        written, announced = self._snapshot.found, self._announced
        if written is announced:  # the journal replaces the mapping when it writes one, and never changes it
            return
        self._announced = written
        for event in events_of_limits(announced, written):
            self._events.notify(event)
