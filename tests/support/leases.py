"""A lease that ends when a test says so."""

from __future__ import annotations

from collections.abc import Callable

import anyio


class LeaseUntil:
    """`ports.Lease` that is valid for as long as `is_still_valid` says, each time that it is asked."""

    def __init__(self, is_still_valid: Callable[[], bool]) -> None:
        self.epoch, self.lost = 1, anyio.Event()
        self._is_still_valid = is_still_valid

    @property
    def is_valid(self) -> bool:
        return self._is_still_valid()

    def check_held(self) -> bool:
        return self._is_still_valid()

    async def keep(self) -> None: ...

    async def release(self) -> None: ...
