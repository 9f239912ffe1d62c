"""The request gate of 0.2 under the names that it has now, so that both meet the same cases."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import IntEnum
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any


def install() -> None:
    """Makes `classify_batch.limits` out of the `classify_batch.gate` of an older checkout."""
    gate: Any = import_module("classify_batch.gate.gate")
    base: Any = gate.Gate
    turn_of = gate.Turn

    class Priority(IntEnum):
        RESULTS = 0
        POLL = 1
        CREATE = 2

    class RequestGate(base):  # type: ignore[misc]  # another checkout's
        def __init__(self, **options: Any) -> None:
            super().__init__(**{name: value for name, value in options.items() if name != "random"})

        @property
        def discovered_per_s(self) -> Any:
            return self.found_per_s

        @asynccontextmanager
        async def turn(self, turn: Priority) -> AsyncIterator[Any]:
            async with super().turn(turn_of(turn)) as sent_s:

                async def wait_and_mark_sent() -> float:
                    return float(sent_s)

                yield SimpleNamespace(wait_and_mark_sent=wait_and_mark_sent)

        def record_answered(self, priority: Priority = Priority.POLL, _sent_s: float | None = None) -> None:
            self.served(turn_of(priority))

        def record_rate_limited(self, retry_after_s: float | None, sent_s: float, priority: Priority) -> None:
            self.too_fast(retry_after_s, sent_s, turn_of(priority))

    names: dict[str, dict[str, Any]] = {
        "": {"Priority": Priority, "RequestGate": RequestGate},
        ".rate": {"Rate": None},
        ".request_gate": {"COOL_DOWN_S_MAX": gate.COOL_DOWN_S_MAX, "COOL_DOWN_S_MIN": gate.COOL_DOWN_S_MIN},
        ".retry": {"Backoff": None},
    }
    for end, members in names.items():
        module = ModuleType("classify_batch.limits" + end)
        vars(module).update(members)
        sys.modules[module.__name__] = module
