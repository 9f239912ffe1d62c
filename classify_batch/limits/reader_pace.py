"""How far a run may be ahead of who reads its outcomes while it is on."""

from __future__ import annotations

from collections.abc import Callable

import anyio


class ReaderPace:
    """No more jobs are created while too many committed outcomes are unread.

    What is unread is in the run directory, so a slow reader costs no memory; and jobs that are in flight are collected
    meanwhile, since they are paid.

    A run with shards has a pace for each that this process carries out, and all of them count together. What another
    process commits is read as well, but it can't be slowed, and slows nothing here.

    Args:
        ahead_max: so many outcomes may be unread when a job is created.
        whole: of all shards together; None: this is it.

    Attributes:
        started: whether the run is open, so that its outcomes may be read; of a whole run, whether any shard is.
    """

    def __init__(self, ahead_max: int, whole: ReaderPace | None = None) -> None:
        self._ahead_max = ahead_max
        self._whole = self if whole is None else whole
        self._shards: dict[int, ReaderPace] = {}
        self._committed: Callable[[], int] = lambda: 0
        self._read = 0
        self._changed = anyio.Event()
        self.started = anyio.Event()

    def of_shard(self, shard: int) -> ReaderPace:
        """The pace of one shard: always the same."""
        if shard not in self._shards:
            self._shards[shard] = ReaderPace(self._ahead_max, self)
        return self._shards[shard]

    def mark_started(self) -> None:
        """The run is open."""
        self.started.set()
        self._whole.started.set()

    def has_started(self, shard: int) -> bool:
        """Whether a shard is open."""
        return shard in self._shards and self._shards[shard].started.is_set()

    def count_read(self, outcomes: int, shard: int | None = None) -> None:
        """So many more outcomes were read. `shard`: of this one, if the run has some."""
        part = self if shard is None else self.of_shard(shard)
        part._read += outcomes  # noqa: SLF001 - of the same class
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def wait_for_reader(self, committed: Callable[[], int]) -> None:
        """Returns when a further job may be created. `committed`: how many outcomes there are."""
        self._committed = committed
        whole = self._whole
        while whole._count_unread() > whole._ahead_max:  # noqa: SLF001 - of the same class
            await whole._changed.wait()  # noqa: SLF001 - of the same class

    def _count_unread(self) -> int:
        # At least 0: of what another process commits only the reading is known.
        unread = max(0, self._committed() - self._read)
        return unread + sum(shard._count_unread() for shard in self._shards.values())  # noqa: SLF001 - of the same class
