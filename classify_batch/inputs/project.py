"""All files of the project, a page at a time, from a server that is not trusted to come to an end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from classify_batch.errors import SourceError
from classify_batch.inputs.formats.objects import ObjectReader
from classify_batch.inputs.iterables import read_items

NAME = "project:"
ID_COLUMN = "id"

OPTIONAL_COLUMNS = frozenset(
    {"name", "external_file_id", "file_type", "project_id", "expires_at", "purpose", "created_at", "updated_at"}
    | {"last_modified_at", "file_size", "data_source_id"}
)
"""What the file list may tell of a file, and a server may leave out: it is then carried as null."""

Pages = Callable[[str | None], Awaitable[tuple[list[Any], str | None]]]
"""Gives the page behind a token (None: the first) and the token of the next (None: there is none). A page's items are
file IDs, or, where more of them is wanted, objects."""

_EMPTY_PAGES_MAX = 100
"""Pages in a row without a file that a server may send before we stop believing that one will come."""


async def from_project(pages: Pages, reader: ObjectReader) -> AsyncIterator[list[str]]:
    """A source over the project's file list.

    Raises:
        SourceError: the list never ends: tokens go in a circle, pages repeat themselves or stay empty.
    """
    token: str | None = None
    circle = _Circle()
    before: list[Any] = []
    first = 1
    empty = 0
    while True:
        page, token = await pages(token)
        empty = 0 if page else empty + 1
        if page and page == before:
            raise _endless_list_error("the same page came twice in a row")
        if empty > _EMPTY_PAGES_MAX:
            raise _endless_list_error(f"{empty} pages in a row were empty")
        if page:
            yield read_items(page, first, reader)
        if token is None:
            return
        if circle.closes_with(token):
            raise _endless_list_error("a next_page_token came twice")
        before, first = page, first + len(page)


class _Circle:
    """Brent's cycle detection: keeps one token, however many come; replaces it after 1, 2, 4, 8 … steps."""

    def __init__(self) -> None:
        self._kept: str | None = None
        self._steps = 0
        self._power = 1

    def closes_with(self, token: str) -> bool:
        if token == self._kept:
            return True
        self._steps += 1
        if self._steps == self._power:
            self._kept, self._steps, self._power = token, 0, self._power * 2
        return False


def _endless_list_error(what: str) -> SourceError:
    return SourceError(
        f"{NAME} the server's list of files does not come to an end: {what}",
        hint="write the file IDs into a file and give that as the input",
    )
