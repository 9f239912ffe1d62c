"""What a person or a program names as the input → the source that reads it."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from os import PathLike
from pathlib import Path

from classify_batch.errors import SourceError
from classify_batch.inputs import iterables as memory
from classify_batch.inputs import project
from classify_batch.inputs.formats import read_csv, read_jsonl, read_text
from classify_batch.inputs.ids import COLUMN, Fault, TookFault, refuse
from classify_batch.streams.blocks import read_file, read_stdin
from classify_batch.streams.closing import closing

STDIN = "-"
PROJECT = project.NAME

SourceSpec = str | PathLike[str] | Iterable[str] | AsyncIterable[str]
"""A path, `-`, `project:`, or the file IDs themselves."""


def open_source(
    spec: SourceSpec,
    *,
    column: str | None = None,
    carry: Sequence[str] = (),
    pages: project.Pages | None = None,
    took_fault: TookFault = refuse,
) -> AsyncIterator[list[str]]:
    """The source behind `spec`; nothing is read before its first batch is asked for.

    Args:
        spec: a path (its suffix tells the format: `.csv`, `.jsonl`, `.ndjson`, anything else is one file ID a
            line), `-` for stdin (one a line), `project:`, or an iterable of file IDs, asynchronous or not.
        column: the CSV column or JSON key of the file IDs; "file_id" if None. Other formats have no columns.
        carry: further columns that are told along with each file ID: batches are then rows, see rows.py.
        pages: the project's file list; `project:` needs it.
        took_fault: hears of each line, or item, that holds no file ID; as it is, the first of them is raised.

    Raises:
        SourceError: at once for a format that can't be read; while reading for a value that is no file ID, a
            file that can't be read, and a source without file IDs and without faults.
    """
    hearing = _Hearing(took_fault)
    batches, name = _open_spec(spec, column, carry, pages, hearing.take)
    return _refuse_empty(batches, name, hearing)


def is_repeatable(spec: SourceSpec) -> bool:
    """Whether the spec can be read again, so that a resumed run can compare its file IDs with the plan's."""
    return spec not in (STDIN, PROJECT) if isinstance(spec, str) else isinstance(spec, PathLike | Iterable)


def _open_spec(
    spec: SourceSpec, column: str | None, carry: Sequence[str], pages: project.Pages | None, took_fault: TookFault
) -> tuple[AsyncIterator[list[str]], str]:
    if isinstance(spec, str | PathLike) and spec not in (STDIN, PROJECT):
        return _open_file(Path(spec), column, carry, took_fault)
    if column is not None or carry:
        raise _no_columns_error("this input")
    if spec == STDIN:
        return read_text(read_stdin(), "stdin", took_fault), "stdin"
    if spec == PROJECT:
        if pages is None:
            raise SourceError("project: needs the API", hint="give a file of file IDs, or the IDs themselves")
        return project.from_project(pages, took_fault), PROJECT
    if isinstance(spec, AsyncIterable):
        return memory.from_async_iterable(spec, took_fault), memory.NAME
    if isinstance(spec, PathLike):
        raise AssertionError("paths were opened above")
    return memory.from_iterable(spec, took_fault), memory.NAME


def _no_columns_error(name: str) -> SourceError:
    return SourceError(
        f"{name}: a column was named, but only .csv and .jsonl files have columns",
        hint="leave --column and --carry out",
    )


def _open_file(
    path: Path, column: str | None, carry: Sequence[str], took_fault: TookFault
) -> tuple[AsyncIterator[list[str]], str]:
    name = str(path) if str(path).isprintable() else repr(str(path))
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        raise SourceError(
            f"{name}: Parquet is not supported in this version",
            hint="convert it to CSV or JSONL with a file_id column",
        )
    if suffix == ".csv":
        return read_csv(read_file(path), name, column or COLUMN, carry, took_fault), name
    if suffix in (".jsonl", ".ndjson"):
        return read_jsonl(read_file(path), name, column or COLUMN, carry, took_fault), name
    if column is not None or carry:
        raise _no_columns_error(name)
    return read_text(read_file(path), name, took_fault), name


class _Hearing:
    """Remembers whether there was a fault: then a source without file IDs has been told of."""

    def __init__(self, took_fault: TookFault) -> None:
        self._took_fault = took_fault
        self.any = False

    def take(self, fault: Fault) -> None:
        self.any = True
        self._took_fault(fault)


async def _refuse_empty(batches: AsyncIterator[list[str]], name: str, hearing: _Hearing) -> AsyncIterator[list[str]]:
    """The batches that hold something. Raises SourceError at the end if there was none, and nothing was said of it."""
    empty = True
    async with closing(batches) as stream:
        async for batch in stream:
            if batch:
                empty = False
                yield batch
    if empty and not hearing.any:
        raise SourceError(f"{name} holds no file IDs", hint="was the input written to its end?")
