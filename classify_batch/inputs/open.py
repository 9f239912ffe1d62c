"""What a person or a program names as the input → the source that reads it.

A new kind of input is a file of its own that gives blocks of bytes (then `text.py` reads them) or rows, and a line in
`_open_spec`.
"""

from __future__ import annotations

import stat
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike, fspath
from pathlib import Path

from classify_batch.arguments import describe, path_text
from classify_batch.errors import SourceError, UsageError
from classify_batch.inputs import iterables, project
from classify_batch.inputs.folder import PATH_COLUMN, FolderOptions, from_folder
from classify_batch.inputs.formats.objects import ObjectReader
from classify_batch.inputs.ids import Fault, OnFault, raise_fault
from classify_batch.inputs.reading import NamedReading, OnReading, PlannedReadings, Reading
from classify_batch.inputs.text import read_rows_of_any_format
from classify_batch.object_store.read import read_object
from classify_batch.object_store.url import ObjectUrl, is_object_url, parse_object_url, refuse_other_url
from classify_batch.streams.blocks import read_file, read_stdin
from classify_batch.streams.cancellation import refusing_stray_cancellation
from classify_batch.streams.closing import closing

STDIN = "-"
STDIN_NAME = "stdin"
PROJECT = project.NAME
_NAMES_MAX = 3
"""So many of several inputs are named in a message."""


@dataclass(frozen=True, slots=True)
class SeveralSources:
    """Several inputs, which are read in order as if they were one. A list of strings is a list of file IDs."""

    specs: tuple[str | PathLike[str], ...]


SourceSpec = str | PathLike[str] | SeveralSources | Iterable[iterables.Item] | AsyncIterable[iterables.Item]
"""A path, the URL of an object, `-`, `project:`, several of these, or the file IDs themselves."""


@dataclass(frozen=True, slots=True)
class InputOptions:
    """How inputs are read.

    Attributes:
        reading: what the caller says of them; what it leaves open, the content says.
        carry: further columns that are carried along with each file ID: batches are then rows, see rows.py.
        pages: the project's file list; `project:` needs it.
        on_fault: is called with each line, or item, that holds no file ID; as it is, the first of them is raised.
        planned: how a run that exists was planned to read them; None: nothing was planned.
        on_reading: is called with how each text is read.
        folder: which files of a folder are documents.
    """

    reading: Reading = field(default_factory=Reading)
    carry: Sequence[str] = ()
    pages: project.Pages | None = None
    on_fault: OnFault = raise_fault
    planned: PlannedReadings | None = None
    on_reading: OnReading = lambda _reading: None
    folder: FolderOptions = field(default_factory=FolderOptions)

    @property
    def wants_columns(self) -> bool:
        """Whether more is wanted of the project's files than their IDs."""
        return bool(self.carry) or self.reading.column not in (None, project.ID_COLUMN)


def make_sources(specs: Sequence[str]) -> SourceSpec:
    """One source of what a command line names. Raises SourceError where stdin is named twice."""
    if specs.count(STDIN) > 1:
        raise SourceError("stdin is named twice, and can be read once", hint="give - once")
    return specs[0] if len(specs) == 1 else SeveralSources(tuple(specs))


def open_source(spec: SourceSpec, options: InputOptions = InputOptions()) -> AsyncIterator[Sequence[str]]:
    """The source behind `spec`; nothing is read before its first batch is asked for.

    Raises:
        SourceError: at once for a format that can't be read; while reading for a value that is no file ID, a
            file that can't be read, and a source without file IDs and without faults.
    """
    if isinstance(spec, SeveralSources):
        return _one_after_the_other([open_source(each, options) for each in spec.specs])
    forwarder = _FaultForwarder(options.on_fault)
    batches, name = _open_spec(spec, replace(options, on_fault=forwarder.forward_fault))
    return _refuse_empty(batches, name, forwarder)


def anchored_source(spec: SourceSpec) -> SourceSpec:
    """The input, wherever the working directory is later: of a file or folder that is there the path from the root. All
    else is left as it is: whoever reads it names it as the caller did."""
    if not isinstance(spec, str | PathLike) or spec in (STDIN, PROJECT) or is_object_url(spec):
        return spec
    try:
        path = Path(spec)
        return path.absolute() if path.exists() and fspath(spec) else spec
    except (OSError, ValueError, TypeError):
        return spec


def needs_project(spec: object) -> bool:
    """Whether the input is, or has in it, the project's file list. Any object may be asked about: NumPy's compare
    themselves with a string item by item."""
    if isinstance(spec, SeveralSources):
        return any(map(needs_project, spec.specs))
    return isinstance(spec, str) and spec == PROJECT


def folder_of(spec: object) -> Path | None:
    """The folder of documents that the input is; None for any other input.

    Raises:
        SourceError: it is one of several inputs; the path is empty, or none; or the input is none at all.
    """
    if isinstance(spec, SeveralSources):
        if (folder := next(filter(None, map(folder_of, spec.specs)), None)) is not None:
            raise SourceError(
                f"{folder} is a folder, and one of several inputs",
                hint="give a folder alone: bring several under one folder, or make a run of each",
            )
        return None
    if not isinstance(spec, str | PathLike):
        refuse_no_source(spec)
        return None
    if spec in (STDIN, PROJECT) or is_object_url(spec):
        return None
    path = Path(path_text(spec, "the input", SourceError))
    try:
        return path if path.is_dir() else None
    except (OSError, ValueError):
        return None  # whoever reads it says what is wrong with it


def refuse_no_source(spec: object) -> None:
    """Raises SourceError for what can't be iterated over, and says what was probably meant."""
    if any(hasattr(type(spec), name) for name in ("__iter__", "__aiter__", "__getitem__")):
        return
    hint = "give a path, a list of file IDs, or an iterator over them"
    if isinstance(spec, Awaitable):
        hint = "await it first, and give what it returns"
    elif callable(spec):
        hint = "call it, and give what it returns"
    raise SourceError(f"the input is {describe(spec)}, which gives no file IDs", hint=hint)


def is_repeatable(spec: SourceSpec) -> bool:
    """Whether the spec can be read again, so that a resumed run can compare its file IDs with the plan's."""
    if isinstance(spec, SeveralSources):
        return all(map(is_repeatable, spec.specs))
    return spec not in (STDIN, PROJECT) if isinstance(spec, str) else isinstance(spec, PathLike | Iterable)


def is_read_once(spec: SourceSpec) -> bool:
    """Whether what the spec gives is gone when it was read: a generator, or a pipe with a name."""
    if isinstance(spec, SeveralSources):
        return any(map(is_read_once, spec.specs))
    if not isinstance(spec, str | PathLike):
        return isinstance(spec, Iterator)
    if is_object_url(spec):
        return False
    try:
        mode = Path(spec).stat().st_mode
        return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
    except (OSError, ValueError):
        return False  # whoever reads it says what is wrong with it


def name_of(spec: SourceSpec) -> str:
    """How messages name an input. Raises SourceError where `open_source` does."""
    if isinstance(spec, SeveralSources):
        names = [name_of(each) for each in spec.specs[:_NAMES_MAX]]
        return ", ".join(names) + (", …" if len(spec.specs) > _NAMES_MAX else "")
    if not isinstance(spec, str | PathLike):
        return iterables.NAME
    if spec in (PROJECT, STDIN):
        return PROJECT if spec == PROJECT else STDIN_NAME
    url = _object_of(spec)
    shown = str(Path(spec)) if url is None else str(url)
    return shown if shown.isprintable() else repr(shown)


def _open_spec(spec: SourceSpec, options: InputOptions) -> tuple[AsyncIterator[Sequence[str]], str]:
    column, carry, on_fault = options.reading.column, options.carry, options.on_fault
    if isinstance(spec, str) and spec == PROJECT:
        if options.pages is None:
            raise SourceError("project: needs the API", hint="give a file of file IDs, or the IDs themselves")
        id_column = column if column not in (None, "file_id") else project.ID_COLUMN
        reader = ObjectReader(PROJECT, id_column, carry, on_fault, "item", True, project.OPTIONAL_COLUMNS)
        return project.from_project(options.pages, reader), PROJECT
    if (folder := folder_of(spec)) is not None:
        name = name_of(folder)
        carried = tuple(each for each in carry if each == PATH_COLUMN)
        return from_folder(folder, options.folder, ObjectReader(name, carry=carried, on_fault=on_fault)), name
    if isinstance(spec, str | PathLike):
        return _open_text(spec, options)
    reader = ObjectReader(iterables.NAME, options.reading.id_column, carry, on_fault, "item", bare=True)
    iterables.refuse_no_list(spec, reader.column)
    if isinstance(spec, AsyncIterable):
        return iterables.from_async_iterable(spec, reader), reader.name
    if isinstance(spec, SeveralSources):
        raise AssertionError("several sources were opened one by one")
    return iterables.from_iterable(spec, reader), reader.name


def _open_text(spec: str | PathLike[str], options: InputOptions) -> tuple[AsyncIterator[Sequence[str]], str]:
    url = _object_of(spec)
    path, name = Path(spec), name_of(spec)
    where = None if url is not None or spec == STDIN else _absolute(path)
    asked = options.reading if options.planned is None else options.planned.reading_of(name, options.reading, where)
    reader = ObjectReader(name, asked.id_column, options.carry, options.on_fault)

    def report_reading(read: NamedReading) -> None:
        options.on_reading(read._replace(path=where))

    if spec == STDIN:
        return read_rows_of_any_format(read_stdin(), asked, reader, report_reading), name
    if url is not None:
        return read_rows_of_any_format(read_object(url), asked, reader, report_reading), name
    plain = None if is_read_once(path) else path
    return read_rows_of_any_format(read_file(path), asked, reader, report_reading, plain), name


def _absolute(path: Path) -> str | None:
    try:
        return str(path.absolute())
    except OSError:
        return None  # the working directory is gone


def _object_of(spec: str | PathLike[str]) -> ObjectUrl | None:
    """The object that is meant; None for a path. Raises SourceError."""
    text = fspath(spec)
    try:
        if is_object_url(spec):
            return parse_object_url(text)
        if not Path(text).exists():
            refuse_other_url(text)
    except UsageError as error:
        raise SourceError(str(error), hint=error.hint) from None
    except (OSError, ValueError):
        pass  # whoever reads it says what is wrong with it
    return None


class _FaultForwarder:
    """Remembers whether there was a fault: then a source without file IDs has been reported already."""

    def __init__(self, on_fault: OnFault) -> None:
        self._on_fault = on_fault
        self.any = False

    def forward_fault(self, fault: Fault) -> None:
        self.any = True
        self._on_fault(fault)


async def _one_after_the_other(sources: Sequence[AsyncIterator[Sequence[str]]]) -> AsyncIterator[Sequence[str]]:
    for source in sources:
        async with closing(source) as batches:
            async for batch in batches:
                yield batch


async def _refuse_empty(
    batches: AsyncIterator[Sequence[str]], name: str, forwarder: _FaultForwarder
) -> AsyncIterator[Sequence[str]]:
    """The batches that hold something. Raises SourceError at the end if there was none, and nothing was said of it."""
    empty = True
    async with closing(_refuse_cancelled(batches, name)) as stream:
        async for batch in stream:
            if batch:
                empty = False
                yield batch
    if empty and not forwarder.any:
        raise SourceError(f"{name} holds no file IDs", hint="was the input written to its end?")


async def _refuse_cancelled(batches: AsyncIterator[Sequence[str]], name: str) -> AsyncIterator[Sequence[str]]:
    """The batches. Raises SourceError where what makes them raises CancelledError, and nobody cancels who reads."""
    async with closing(batches) as stream:
        while True:
            with refusing_stray_cancellation(f"what gives {name}", SourceError):
                batch = await anext(stream, None)
            if batch is None:
                return
            yield batch
