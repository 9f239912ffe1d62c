"""The committed outcomes of a run as one stream of bytes, whatever their number."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from classify_batch.operations.export.formats import OutputFormat
from classify_batch.operations.export.selection import Selection
from classify_batch.ports import RunStore
from classify_batch.rundir.committed_outcomes import committed_lines
from classify_batch.rundir.opened_run import RunOnDisk
from classify_batch.streams.closing import closing


class OutcomeExport:
    """The selected outcomes of a run, encoded in a format.

    Attributes:
        files: how many outcomes were encoded so far.
    """

    def __init__(self, store: RunStore, run: RunOnDisk, selection: Selection, output_format: OutputFormat) -> None:
        self._store = store
        self._run = run
        self._selection = selection
        self._format = output_format
        self.files = 0

    async def encoded_blocks(self) -> AsyncGenerator[bytes, None]:
        """The bytes to write: results first, then failures.

        Raises:
            DamagedError: what was committed is not there as it was written.
            WorldError: `retry_failed` reopened the run while it was read.
        """
        yield self._format.encode_header()
        for log in self._selection.logs:
            async with closing(committed_lines(self._store, self._run, log, self._format.reader)) as stream:
                async for data, lines in stream:
                    included = self._selection.select(lines)
                    self.files += sum(included)
                    yield self._format.encode_outcomes(data, lines, included)
