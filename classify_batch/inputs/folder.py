"""A folder of documents → rows: the ID of a document is its content, `sha256:` and the hash, and its path is carried.

Whatever the folder holds beside documents stays where it is: hidden files and folders, links, suffixes that the vendor
doesn't document, and what the caller protects (the run directory, files of API keys). All of it is counted.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import anyio.to_thread

from classify_batch.errors import FolderGoneError, SourceError
from classify_batch.inputs.formats.objects import ObjectReader
from classify_batch.inputs.ids import COLUMN
from classify_batch.vocabulary import PLAN_JSONL, RUN_JSON

PATH_COLUMN = "path"
CONTENT_PREFIX = "sha256:"
UNREAD_PREFIX = "unread:"
"""With which the ID of a file begins that could not be read: behind it is the hash of its path."""

FILE_BYTES_MAX = 512 * 1024 * 1024
"""The vendor's limit for one upload."""

SUFFIXES = frozenset(
    """
    .pdf .docx .doc .docm .dot .dotm .rtf .txt .epub .xml .pages .wpd .wps .hwp .abw .odt .md .pptx .ppt .pptm .pot
    .potm .potx .odp .jpg .jpeg .png .gif .bmp .tif .tiff .webp .heic .heif .svg .htm .html .xlsx .xls .xlsm .xlsb .xlw
    .csv .tsv .numbers .ods .fods .dbf .vsd .vsdx
    """.split()  # noqa: SIM905 - fifty quotes say nothing
)
"""What the vendor documents (developers.llamaindex.ai, "Supported Document Types"), but for audio, rare formats, and
`.key`, which is as often a private key as a presentation. `.md`, `.odt`, `.odp` and `.tif` are its text, office and
image formats by their other names."""

_TABLE_SUFFIXES = frozenset(
    (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".feather", ".orc", ".avro")
)
_ALL_PARTS_WRITTEN = "_SUCCESS"
"""Hadoop and Spark put this file beside the parts of a table."""

_FILES_PER_BATCH = 64

UNFIT_EXAMPLES_MAX = 10


class UnfitFile(NamedTuple):
    """A document that can't be brought to the project; `why` in words."""

    path: str
    why: str


@dataclass(slots=True)
class FolderScan:
    """What a folder was found to hold.

    Attributes:
        files, bytes: documents, each path of a content counted; bytes of those that can be uploaded.
        skipped: files and folders that are no documents, by the reason.
        empty: documents without a byte.
        suffixes: documents that can be uploaded by their documented suffix, in lower case.
        unfit: how many documents will fail as `not_uploadable`; unfit_examples: the first few of them.
    """

    files: int = 0
    bytes: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    unfit: int = 0
    unfit_examples: list[UnfitFile] = field(default_factory=list)

    empty: int = 0
    suffixes: Counter[str] = field(default_factory=Counter)

    def contents_to_upload(self, contents: int) -> int:
        """How many of so many different contents can be uploaded: all empty files are one."""
        return max(0, contents - (self.unfit - self.empty + bool(self.empty)))

    def add_unfit(self, path: str, why: str, *, empty: bool = False) -> None:
        """Counts a document that can't be brought."""
        self.unfit += 1
        self.empty += empty
        if len(self.unfit_examples) < UNFIT_EXAMPLES_MAX:
            self.unfit_examples.append(UnfitFile(path, why))


@dataclass(frozen=True, slots=True)
class FolderOptions:
    """Which files of a folder are documents.

    Attributes:
        include, exclude: globs, held against a file's name and its path in the folder; without `include`, every file
            that has a documented suffix.
        protected: files and folders that never leave, whatever they are called.
        on_scan: is called with what was found, once the folder was read to its end.
    """

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    protected: Sequence[Path] = ()
    on_scan: Callable[[FolderScan], None] = lambda _scan: None


async def from_folder(root: Path, options: FolderOptions, reader: ObjectReader) -> AsyncIterator[list[str]]:
    """A source over a folder: hashes every document, in the order of their paths.

    Raises:
        SourceError: the folder can't be read, or holds no documents.
    """
    try:
        await anyio.to_thread.run_sync(os.listdir, root)
    except OSError as error:
        raise SourceError(f"{reader.name}: {error.strerror}", hint="name a folder that can be read") from None
    if is_protected(root, options.protected):
        raise SourceError(
            f"{reader.name} is the run directory itself", hint="name a run directory beside the folder, not the same"
        )
    if is_table_in_parts(root):
        raise SourceError(
            f"{reader.name} is a table in parts, as Spark and others write one, and no folder of documents",
            hint="give each of its files by an --input of its own; if it does hold documents, give it another name",
        )
    scan = FolderScan()
    first = 1
    documents = find_documents(root, options, scan)
    while paths := await anyio.to_thread.run_sync(list, islice(documents, _FILES_PER_BATCH)):
        items = await anyio.to_thread.run_sync(_read_items, root, paths, scan)
        yield reader.read_rows(enumerate(items, first))
        first += len(items)
    if scan.files:
        try:
            await anyio.to_thread.run_sync(refuse_gone_folder, root)
        except FolderGoneError as error:
            raise SourceError(f"{reader.name}: {error}", hint=error.hint) from None
    options.on_scan(scan)
    if not scan.files:
        raise SourceError(
            f"{reader.name} holds no documents",
            hint="put documents into it, such as .pdf, .docx, .png or .txt files",
        )


def find_documents(root: Path, options: FolderOptions, scan: FolderScan) -> Iterator[str]:
    """The paths of the documents in a folder, relative to it, with slashes, in their order."""
    protected = Protected(options.protected)

    def take_error(error: OSError) -> None:
        scan.skipped[f"unreadable folder ({error.strerror})"] += 1

    for folder, folders, names in os.walk(root, onerror=take_error):
        here = Path(folder)
        kept = []
        for name in sorted(folders):
            if reason := _reason_to_skip(here / name, protected, is_folder=True):
                scan.skipped[reason] += 1
            else:
                kept.append(name)
        folders[:] = kept  # os.walk goes only into the folders that are left in the list
        for name in sorted(names):
            path = (here / name).relative_to(root).as_posix()
            if reason := _reason_by_name(path, options) or _reason_to_skip(here / name, protected, is_folder=False):
                scan.skipped[reason] += 1
            else:
                yield path


class Protected:
    """Files and folders that never leave: by their resolved paths, and by what the system knows them by, so that
    neither a link on the way, nor a second name (a hard link, another spelling) brings them out."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = {path.resolve() for path in paths}
        self._inodes = {(found.st_dev, found.st_ino) for found in map(_stat_or_none, paths) if found is not None}

    def is_protected(self, path: Path, found: os.stat_result) -> bool:
        """Whether a file or folder is protected; `found`: what the system says of it."""
        return (found.st_dev, found.st_ino) in self._inodes or path.resolve() in self._paths


def is_table_in_parts(root: Path) -> bool:
    """Whether a folder is the output of a program that writes a table in parts: its name or its mark says so."""
    return root.suffix.lower() in _TABLE_SUFFIXES or (root / _ALL_PARTS_WRITTEN).is_file()


def is_protected(root: Path, paths: Sequence[Path]) -> bool:
    """Whether the folder itself is one of what never leaves."""
    found = _stat_or_none(root)
    return found is not None and Protected(paths).is_protected(root, found)


def _stat_or_none(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _reason_to_skip(path: Path, protected: Protected, *, is_folder: bool) -> str | None:
    if path.name.startswith("."):
        return "hidden"
    try:
        found = path.lstat()
    except OSError:
        return None  # it is named when it is read
    if stat.S_ISLNK(found.st_mode):
        return "link"
    if protected.is_protected(path, found):
        return "protected"
    if is_folder:
        return "run directory" if is_run_directory(path) else None
    return None if stat.S_ISREG(found.st_mode) else "no regular file"


def is_run_directory(path: Path) -> bool:
    """Whether a folder holds a run: its report, exports and sandbox are no documents of anybody."""
    return (path / RUN_JSON).is_file() and (path / PLAN_JSONL).is_file()


def _reason_by_name(path: str, options: FolderOptions) -> str | None:
    name = path.rpartition("/")[2]
    if name.startswith("."):
        return "hidden"
    if Path(name).suffix.lower() not in SUFFIXES:
        return "other suffix"
    if options.include and not _matches_any(path, name, options.include):
        return "not included"
    return "excluded" if _matches_any(path, name, options.exclude) else None


def _matches_any(path: str, name: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(path, glob) or fnmatchcase(name, glob) for glob in globs)


def _read_items(root: Path, paths: Sequence[str], scan: FolderScan) -> list[dict[str, str]]:
    return [{COLUMN: file_id, PATH_COLUMN: path} for path, file_id in hash_documents(root, paths, scan)]


def hash_documents(root: Path, paths: Iterable[str], scan: FolderScan) -> Iterator[tuple[str, str]]:
    """Each document's path and ID: its content, or where that can't be read its path."""
    for path in paths:
        scan.files += 1
        try:
            digest, size = hash_document(root, path)
        except OSError as error:
            scan.add_unfit(path, error.strerror or str(error))
            name = hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()
            yield path, UNREAD_PREFIX + name
            continue
        if why := why_unfit(size):
            scan.add_unfit(path, why, empty=not size)
        else:
            scan.bytes += size
            suffix = Path(path).suffix.lower()
            scan.suffixes[suffix if suffix in SUFFIXES else ""] += 1
        yield path, CONTENT_PREFIX + digest


def why_unfit(size: int) -> str | None:
    """Why a file of so many bytes can't be brought; None: it can."""
    if not size:
        return "it is empty"
    return f"it has {size:,} bytes, and {FILE_BYTES_MAX:,} are the most" if size > FILE_BYTES_MAX else None


def hash_document(root: Path, path: str) -> tuple[str, int]:
    """The SHA-256 and the bytes of a document. Raises OSError."""
    with os.fdopen(open_document(root, path), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()


def open_document(root: Path, path: str) -> int:
    """A descriptor of a regular file in the folder. No link is followed on the way: what was a folder when the run was
    planned may lead anywhere now. Raises OSError."""
    *folders, name = path.split("/")
    flags = os.O_RDONLY | os.O_CLOEXEC
    here = os.open(root, flags | os.O_DIRECTORY)
    try:
        for each in folders:
            inner = os.open(each, flags | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = inner
        found = os.open(name, flags | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=here)
    except OSError as error:
        if error.errno == errno.ELOOP or (error.errno == errno.ENOTDIR and folders):
            raise OSError(error.errno, "a link stands in its way") from None
        raise
    finally:
        os.close(here)
    if stat.S_ISREG(os.fstat(found).st_mode):
        return found
    os.close(found)
    raise OSError(0, "it is not a regular file")


def refuse_gone_folder(root: Path) -> None:
    """Raises FolderGoneError where the folder isn't there or is empty: a volume that isn't mounted."""
    try:
        with os.scandir(root) as entries:
            if next(entries, None) is not None:
                return
        why = "it is empty"
    except OSError as error:
        why = error.strerror or str(error)
    raise FolderGoneError(
        f"the folder {printable(root)} is not there as it was: {why}",
        hint="bring it back (is a volume not mounted?), then give the same command",
    )


def printable(path: Path) -> str:
    """A path as messages name it."""
    return str(path) if str(path).isprintable() else repr(str(path))
