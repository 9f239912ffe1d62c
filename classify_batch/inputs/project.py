"""All files of the project, a page at a time, from a server that is not trusted to come to an end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from classify_batch.errors import SourceError
from classify_batch.inputs.ids import TookFault, refuse
from classify_batch.inputs.iterables import checked

NAME = "project:"

Pages = Callable[[str | None], Awaitable[tuple[list[str], str | None]]]
"""Gives the page behind a token (None: the first) and the token of the next (None: there is none)."""

_EMPTY_PAGES_MAX = 100
"""Pages in a row without a file that a server may send before we stop believing that one will come."""


async def from_project(pages: Pages, took_fault: TookFault = refuse) -> AsyncIterator[list[str]]:
    """A source over the project's file list.

    Raises:
        SourceError: the list never ends: tokens go in a circle, pages repeat themselves or stay empty.
    """
    token: str | None = None
    circle = _Circle()
    before: list[str] = []
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
            yield checked(page, NAME, first, took_fault)
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
