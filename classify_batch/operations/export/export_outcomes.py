"""The committed outcomes of a run as one stream of bytes, whatever their number."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from itertools import compress, product
from typing import TYPE_CHECKING

from classify_batch.operations.export.formats import OutputFormat, TableRow
from classify_batch.operations.export.selection import Selection
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

    def __init__(self, parts: Sequence[RunOnDisk], selection: Selection, output_format: OutputFormat) -> None:
        """`parts`: where the outcomes are; of most runs there is one."""
        self._parts = parts
        self._selection = selection
        self._format = output_format
        self.files = 0

    async def encoded_blocks(self) -> AsyncGenerator[bytes, None]:
        """The bytes to write: of each part results first, then failures.

        Raises:
            DamagedError: what was committed is not there as it was written.
            WorldError: `retry_failed` reopened the run while it was read.
        """
        yield self._format.encode_header()
        for part, log in product(self._parts, self._selection.needed_logs):
            async with closing(self._selected_lines(part, log, self._format.line_reader)) as stream:
                async for data, lines, included in stream:
                    yield self._format.encode_outcomes(data, lines, included)

    async def record_batches(self, columns: OutcomeColumns) -> AsyncGenerator[RecordBatch, None]:
        """The same outcomes as record batches; see `encoded_blocks`."""
        self.files = 0
        for part, log in product(self._parts, self._selection.needed_logs):
            held: list[TableRow] = []
            async with closing(self._selected_lines(part, log, LineReader(TableRow))) as stream:
                async for _, lines, included in stream:
                    held += lines if all(included) else compress(lines, included)
                    if len(held) >= ROWS_A_BATCH:
                        yield columns.make_batch(log, held)
                        held = []
            if held:
                yield columns.make_batch(log, held)

    async def _selected_lines(
        self, part: RunOnDisk, log: Log, reader: LineReader[Line]
    ) -> AsyncGenerator[tuple[bytes, list[Line], list[bool]], None]:
        async with closing(committed_lines(part.store, part, log, reader)) as stream:
            async for data, lines in stream:
                included = self._selection.select_lines(lines)
                self.files += sum(included)
                yield data, lines, included
