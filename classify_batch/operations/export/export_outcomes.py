"""The committed outcomes of a run as one stream of bytes, whatever their number."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from itertools import compress
from typing import TYPE_CHECKING

from classify_batch.operations.export.formats import OutputFormat, TableRow
from classify_batch.operations.export.selection import Selection
from classify_batch.ports import RunStore
from classify_batch.rundir.committed_outcomes import Line, LineReader, committed_lines
from classify_batch.rundir.opened_run import RunOnDisk
from classify_batch.streams.closing import closing
from classify_batch.vocabulary import Log

if TYPE_CHECKING:
    from arro3.core import RecordBatch

    from classify_batch.operations.export.columns import OutcomeColumns


ROWS_A_BATCH = 4096
"""Fewer make each row dearer: a batch costs as much as some hundred rows."""


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
            async with closing(self._selected_lines(log, self._format.reader)) as stream:
                async for data, lines, included in stream:
                    yield self._format.encode_outcomes(data, lines, included)

    async def batches(self, columns: OutcomeColumns) -> AsyncGenerator[RecordBatch, None]:
        """The same outcomes as record batches; see `encoded_blocks`."""
        self.files = 0
        for log in self._selection.logs:
            held: list[TableRow] = []
            async with closing(self._selected_lines(log, LineReader(TableRow))) as stream:
                async for _, lines, included in stream:
                    held += lines if all(included) else compress(lines, included)
                    if len(held) >= ROWS_A_BATCH:
                        yield columns.make_batch(log, held)
                        held = []
            if held:
                yield columns.make_batch(log, held)

    async def _selected_lines(
        self, log: Log, reader: LineReader[Line]
    ) -> AsyncGenerator[tuple[bytes, list[Line], list[bool]], None]:
        async with closing(committed_lines(self._store, self._run, log, reader)) as stream:
            async for data, lines in stream:
                included = self._selection.select(lines)
                self.files += sum(included)
                yield data, lines, included
