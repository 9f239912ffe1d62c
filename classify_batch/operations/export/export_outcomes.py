"""The committed outcomes of a run as one stream of bytes, whatever their number."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from classify_batch.operations.export.formats import Form
from classify_batch.operations.export.selection import Selection
from classify_batch.ports import RunStore
from classify_batch.rundir.committed_outcomes import committed_lines
from classify_batch.rundir.opened_run import RunOnDisk
from classify_batch.streams.closing import closing


class Export:
    """The outcomes of a run, selected and written in a form.

    Attributes:
        files: how many were given so far.
    """

    def __init__(self, store: RunStore, run: RunOnDisk, selection: Selection, form: Form) -> None:
        self._store = store
        self._run = run
        self._selection = selection
        self._form = form
        self.files = 0

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """What is to be written: results first, then failures.

        Raises:
            DamagedError: what was committed is not there as it was written.
            WorldError: the run took its failed files up again while they were read.
        """
        yield self._form.head()
        for log in self._selection.logs:
            async with closing(committed_lines(self._store, self._run, log, self._form.reader)) as stream:
                async for data, lines in stream:
                    taken = list(map(self._selection.takes, lines))
                    self.files += sum(taken)
                    yield self._form.encode(data, lines, taken)
