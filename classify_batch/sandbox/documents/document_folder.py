"""A folder of real texts as a project, classified by `ranking`: a stand-in, not a language model.

A file's ID is `uuid5(NAMESPACE_URL, its path relative to the folder, with slashes)`, so that anyone can compute it. A
path on disk is bytes and need not be text: the ID is made of its bytes, and such a name is shown with a question mark
for each byte that can't be decoded. Only a file's content decides its answer, never its name or extension.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from uuid import NAMESPACE_URL, UUID

from classify_batch.errors import UsageError
from classify_batch.protocol.v1 import ResultBody
from classify_batch.sandbox.documents.pdf_text import PDF_BYTES_MAX, PDF_EXTRA, can_read_pdfs, is_pdf, read_pdf_text
from classify_batch.sandbox.documents.project import Classifier, FileEntry, JobConfig, Version
from classify_batch.sandbox.documents.ranking import NO_MATCH, Index, RankedType, rank_texts
from classify_batch.settings.job_spec import ParsingConfiguration
from classify_batch.vocabulary import PAGES_MAX_DEFAULT

PAGE_CHARACTERS = 3_000
"""What counts as a page of a text file."""

UNSET_PAGES_MAX: Mapping[Version, int | None] = {"v1": PAGES_MAX_DEFAULT, "v2": None}
"""Pages read where `max_pages` is not set; None: all."""

BYTES_READ_MAX = 200_000
"""How much of a file is ever read."""

_SNIFFED_BYTES = 8_192
_CONFIGS_KEPT = 8
_INDEXES_KEPT = 2

K = TypeVar("K")
V = TypeVar("V")


class Documents:
    """The text files of a folder, recursively, and its PDFs where pypdf is there; not the hidden ones, those with a NUL
    byte, links leading out.

    Raises:
        UsageError: the folder can't be read, or holds none of them.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._root = Path(folder)
        found = list_documents(self._root)
        self.files: Sequence[FileEntry] = [entry for entry, _ in found]
        self._paths = [path.absolute() for _, path in found]  # a program may change the working directory
        self._rows = {entry.file_id: row for row, entry in enumerate(self.files)}
        self._indexes: OrderedDict[tuple[int, ...], Index] = OrderedDict()
        self._classifiers: OrderedDict[JobConfig, Classifier] = OrderedDict()
        self._work = threading.Lock()

    def first_unknown_file(self, file_ids: Sequence[str]) -> str | None:
        return next((file_id for file_id in file_ids if file_id not in self._rows), None)

    def cached_classifier(self, config: JobConfig) -> Classifier | None:
        return self._classifiers.get(config)

    def make_classifier(self, config: JobConfig) -> Classifier:
        with self._work:  # one at a time: an `Index` is not safe for use by two threads
            if (made := self._classifiers.get(config)) is not None:
                return made
            pages = pages_to_read(config.parsing_configuration, config.version)
            ranked_types = rank_texts(self._index_of_pages(pages), config.rules)
            made = self._classifier_by_ranking(config, ranked_types)
            put_in_cache(self._classifiers, config, made, _CONFIGS_KEPT)
            return made

    def close(self) -> None:
        with self._work:  # a thread may still be making a classifier, for a client that is gone
            for index in self._indexes.values():
                index.close()

    def _classifier_by_ranking(self, config: JobConfig, ranked_types: Sequence[RankedType]) -> Classifier:
        types = [rule.type for rule in config.rules]

        def classify_file(file_id: str) -> ResultBody:
            row = self._rows.get(file_id)  # a job from before a document went away is answered all the same
            ranked = NO_MATCH if row is None else ranked_types[row]
            kind = None if ranked.rule is None else types[ranked.rule]
            return {"type": kind, "confidence": ranked.confidence, "reasoning": explain_answer(kind, ranked)}

        return classify_file

    def _index_of_pages(self, pages: tuple[int, ...]) -> Index:
        if (index := self._indexes.get(pages)) is None:
            index = Index(read_pages(path, pages) for path in self._paths)
            if (dropped := put_in_cache(self._indexes, pages, index, _INDEXES_KEPT)) is not None:
                dropped.close()
        return index


def pages_to_read(parsing: ParsingConfiguration | None, version: Version = "v1") -> tuple[int, ...]:
    """The 0-based pages of each file that are read, ascending. Pages behind `BYTES_READ_MAX` are never read."""
    pages_max, targets = UNSET_PAGES_MAX[version], None
    if parsing is not None:
        pages_max = pages_max if parsing.max_pages is None else parsing.max_pages
        targets = parsing.target_pages
    within = range(BYTES_READ_MAX // PAGE_CHARACTERS)
    pages = within if targets is None else sorted({page for page in targets if page in within})
    return tuple(pages[:pages_max])


def read_pages(path: Path, pages: Sequence[int]) -> str:
    """The text of some pages; empty for a file that went away or can't be read."""
    bytes_per_character = 4
    last = max(pages, default=-1)
    # UTF-8 takes up to 4 bytes a character: this is enough for the last page that is wanted.
    size = min(BYTES_READ_MAX, (last + 1) * PAGE_CHARACTERS * bytes_per_character)
    try:
        with path.open("rb") as file:
            data = file.read(size)
            if is_pdf(data):
                text = read_pdf_text(data + file.read(PDF_BYTES_MAX), BYTES_READ_MAX) or ""
            else:
                text = data.decode("utf-8", "replace")
    except OSError:
        return ""
    return "".join(text[page * PAGE_CHARACTERS : (page + 1) * PAGE_CHARACTERS] for page in pages)


def list_documents(root: Path) -> list[tuple[FileEntry, Path]]:
    hint = "--documents takes a folder that holds text files"
    if not can_read_pdfs():
        hint += f", and PDFs after {PDF_EXTRA}"
    try:
        with os.scandir(root):
            pass
    except OSError as error:
        raise UsageError(f"the documents folder {root} can't be read: {error.strerror}", hint=hint) from None
    entries = [
        (FileEntry(file_id_of_name(name), replace_undecodable(name), (root / name).stat().st_size), root / name)
        for name in find_documents(root)
    ]
    if not entries:
        raise UsageError(f"the documents folder {root} holds no text file", hint=hint)
    return entries


def file_id_of_name(name: str) -> str:
    """`uuid5`, which takes text only, of a name's bytes (RFC 9562, 5.5)."""
    digest = hashlib.sha1(NAMESPACE_URL.bytes + name.encode("utf-8", "surrogateescape"), usedforsecurity=False)
    return str(UUID(bytes=digest.digest()[:16], version=5))


def replace_undecodable(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def find_documents(root: Path) -> Iterator[str]:
    home = root.resolve()
    for folder, folders, names in os.walk(root):
        # os.walk descends into what stands in this list, in this order.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if not name.startswith(".") and stays_inside_folder(path, home) and can_be_read(path):
                yield path.relative_to(root).as_posix()


def stays_inside_folder(path: Path, home: Path) -> bool:
    return not path.is_symlink() or path.resolve().is_relative_to(home)


def can_be_read(path: Path) -> bool:
    """Whether it is a readable regular file: a PDF where those are read, or one without a NUL byte near its start."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return False
        with path.open("rb") as file:
            beginning = file.read(_SNIFFED_BYTES)
            return can_read_pdfs() if is_pdf(beginning) else b"\0" not in beginning
    except OSError:
        return False


def put_in_cache(cache: OrderedDict[K, V], key: K, value: V, most: int) -> V | None:
    """Puts a value into a bounded cache. Gives the oldest value, if it had to be dropped."""
    cache[key] = value
    return cache.popitem(last=False)[1] if len(cache) > most else None


def explain_answer(kind: str | None, ranked: RankedType) -> str:
    start = "Stand-in ranking of words, no language model: "
    if kind is None:
        return start + ("the words of the rules match too weakly." if ranked.score else "no rule's words are in it.")
    words = ", ".join(f'"{word}"' for word in ranked.words)
    return f"{start}it holds {words} (score {ranked.score:.2f}, next rule {ranked.next_score:.2f})."
