"""Which processes worked on a run, and by which limits the last one works: what `opened`, `tuned` and `closed`
say."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from classify_batch.clock import to_iso
from classify_batch.run_records import StartKeys
from classify_batch.vocabulary import Kind

STARTS_KEPT = 100
"""A run that is started every minute for a month has 43,200."""

PAUSED = "paused"


class Starts:
    """Follows the lines about the run as a whole.

    Attributes:
        kept: the last starts, the latest last; count: of all.
        limits: in force, by the name of the setting, and `paused`; empty before the first start.
    """

    def __init__(self) -> None:
        self.kept: deque[StartKeys] = deque(maxlen=STARTS_KEPT)
        self.count = 0
        self.limits: dict[str, object] = {}

    def apply_line(self, kind: Kind, values: Mapping[str, Any], at_s: float, done: int) -> None:
        """Takes a line of the journal, written at `at_s`, when `done` files had their outcome. Lines of older
        versions say less."""
        if kind is Kind.OPENED:
            self.count += 1
            self.kept.append(
                {
                    "started_at": to_iso(at_s),
                    "host": values.get("host"),
                    "pid": values.get("pid"),
                    "version": values.get("version"),
                    "done": done,
                    "stopped_at": None,
                    "exit_status": None,
                    "reason": None,
                }
            )
            if (account := values.get("account")) is not None:
                self.kept[-1]["account"] = account["name"]
            self.limits = {**values.get("limits", {}), PAUSED: False}
        elif kind is Kind.TUNED:
            self.limits.update(values.get("limits", {}))
        elif kind is Kind.CLOSED and self.kept:
            last = self.kept[-1]
            last["stopped_at"] = to_iso(at_s)
            last["exit_status"], last["reason"] = values.get("exit_status"), values.get("reason")
