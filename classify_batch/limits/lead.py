"""For how long a request that passed the gate waits until it is sent, so that requests made ready late go evenly."""

from __future__ import annotations

LEAD_S_MAX = 0.1
LEAD_FALLS_BY = 0.005
"""By so much of an interval the lead falls with each request: less than what the rate's spread leaves free."""


class Lead:
    """About as long as the slowest of the last requests took to be made ready."""

    def __init__(self) -> None:
        self._lead_s = 0.0

    def measure_lead_s(self, took_s: float, interval_s: float) -> float:
        """The lead of a request that took so long to be made ready; `interval_s`: between two requests."""
        self._lead_s = min(LEAD_S_MAX, max(took_s, self._lead_s - LEAD_FALLS_BY * interval_s))
        return self._lead_s
