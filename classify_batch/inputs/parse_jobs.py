"""Parse jobs among file IDs (`pjb-…`): v2 classifies what they have parsed, in the place of a file; v1 doesn't."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from classify_batch.errors import SourceError
from classify_batch.file_keys import is_parse_job
from classify_batch.inputs.ids import shorten
from classify_batch.inputs.rows import file_ids_of_rows
from classify_batch.streams.closing import closing
from classify_batch.streams.uuid_lines import UuidLines
from classify_batch.vocabulary import PARSE_JOB_PREFIX

ONLY_V2 = 'set api.version = "v2", which classifies parse jobs, or give the IDs of the files'


def find_parse_jobs(file_ids: Sequence[str]) -> list[str]:
    """The parse jobs among file IDs."""
    if isinstance(file_ids, UuidLines):
        return []
    if PARSE_JOB_PREFIX not in "\n".join(file_ids):  # of tens of millions of IDs usually none is one
        return []
    return list(filter(is_parse_job, file_ids))


async def refuse_parse_jobs(batches: AsyncIterator[Sequence[str]]) -> AsyncGenerator[Sequence[str], None]:
    """The rows of an input. Raises SourceError at the first parse job, naming it."""
    before = 0
    async with closing(batches) as stream:
        async for rows in stream:
            file_ids = file_ids_of_rows(rows)
            if found := find_parse_jobs(file_ids):
                number = before + file_ids.index(found[0]) + 1
                raise SourceError(
                    f"file ID {number:,} of the input, {shorten(found[0])}, is a parse job, and v1 of the API takes "
                    "files only",
                    hint=ONLY_V2,
                )
            before += len(rows)
            yield rows
