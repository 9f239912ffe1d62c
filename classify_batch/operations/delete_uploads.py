"""Deletes files from the project that were uploaded to it: those that an `uploads.jsonl`, or the output of
`files upload`, names.

A line that holds an outcome is refused: it names a file that a run classified, and that may be anybody's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from classify_batch.clock import SystemClock
from classify_batch.errors import SourceError
from classify_batch.inputs.ids import all_valid
from classify_batch.llamacloud.file_client import FileClient, FileRefusedError
from classify_batch.operations.jobs.single_calls import connect_client, ending_single_call
from classify_batch.operations.own_task import run_in_own_task
from classify_batch.protocol.sanitize import printable_line
from classify_batch.settings import Settings

UPLOADS_JSONL = "uploads.jsonl"
DELETES_AT_ONCE = 4

WHAT_IT_TAKES = "give the output of `files upload`, or a run directory whose input was a folder"


class Deleted(NamedTuple):
    """The end of one file. `there`: whether the project had it; `refused`: why it still has it."""

    file_id: str
    there: bool
    refused: str | None = None


def read_uploaded_ids(paths: Sequence[Path]) -> list[str]:
    """The different file IDs that were uploaded, by files of lines and by run directories.

    Raises:
        SourceError: names the file, and the line, that can't be read as uploads.
    """
    return list(dict.fromkeys(file_id for path in paths for file_id in _read_file(path)))


def _read_file(path: Path) -> Iterator[str]:
    source = path
    try:
        source = path / UPLOADS_JSONL if path.is_dir() else path
        lines = source.read_bytes().split(b"\n")
    except OSError as error:
        raise SourceError(f"{printable_line(str(source))}: {error.strerror or error}", hint=WHAT_IT_TAKES) from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError:
            if number == len(lines):  # a process was killed in the middle of it
                continue
            raise SourceError(f"{printable_line(str(source))}, line {number}: not JSON", hint=WHAT_IT_TAKES) from None
        if (file_id := _file_id_of(values, f"{printable_line(str(source))}, line {number}")) is not None:
            yield file_id


def _file_id_of(values: object, where: str) -> str | None:
    """The project's ID of an upload. None: a run found it there, and didn't upload it; it may be anybody's."""
    if not isinstance(values, dict) or "file_id" not in values:
        raise SourceError(f"{where}: no object with a file_id", hint=WHAT_IT_TAKES)
    if "outcome" in values:
        raise SourceError(f"{where}: an outcome of a run, and no upload; nothing was deleted", hint=WHAT_IT_TAKES)
    if values.get("sent") is False:
        return None
    file_id = values["sent_id"] if "sent_id" in values else values["file_id"]  # a folder's file_id is a content
    if not isinstance(file_id, str) or not file_id or not all_valid([file_id]):
        raise SourceError(f"{where}: {printable_line(json.dumps(file_id))} is no file ID", hint=WHAT_IT_TAKES)
    return file_id


async def delete_files(settings: Settings, file_ids: Sequence[str], on_end: Callable[[Deleted], None]) -> None:
    """Deletes files, a few at a time; calls `on_end` with the end of each, in no particular order.

    Raises:
        ApiError: the API is down, or a person must act. What `on_end` was called with is done.
    """

    async def run_workers() -> None:
        async with connect_client(settings) as client, anyio.create_task_group() as tasks:
            files = FileClient(client, SystemClock())
            give, take = anyio.create_memory_object_stream[str]()
            async with give, take:
                for _ in range(DELETES_AT_ONCE):
                    tasks.start_soon(_delete_all, files, take.clone(), on_end)
                for file_id in file_ids:
                    await give.send(file_id)

    await run_in_own_task(run_workers)


async def _delete_all(
    files: FileClient, file_ids: MemoryObjectReceiveStream[str], on_end: Callable[[Deleted], None]
) -> None:
    """One worker: deletes one file after the other, until there is none left."""
    async with file_ids:
        async for file_id in file_ids:
            with ending_single_call():
                try:
                    on_end(Deleted(file_id, await files.delete_file(file_id)))
                except FileRefusedError as error:
                    on_end(Deleted(file_id, True, str(error)))
