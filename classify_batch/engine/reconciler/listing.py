"""Reads the job list: to its end where absence has to be proven, else only as far as it can hold what is looked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from classify_batch.engine.reconciler.match import NewestFirst
from classify_batch.errors import ApiError, Verdict
from classify_batch.limits.retry import retry_transient
from classify_batch.model import JobPage, JobView
from classify_batch.ports import Api

PAGE_SIZES = (1000, 500, 100, 50, 20, 10, 5, 1)
"""A server may refuse a large page with 422: the next smaller one is tried. The first two are for lists that are long:
no document says the largest page."""

USUAL = PAGE_SIZES.index(100)

LONG_PAGES = 20
"""A list of more pages than this is begun again, and read in larger ones from then on."""

PAGES_MAX = 100_000

EMPTY_PAGES_MAX = 100
"""So many pages in a row without a job, of which each names a further one, are no list that comes to an end."""

FRONT_PAGES_MAX = 50
"""How far the front of a list is read again at the end of a reading."""

READ_CALLS_MAX = 6


class JobList:
    """The project's jobs, page by page; no page is kept.

    Attributes:
        came_from_cache: whether a cache said that it gave a page of the last reading, in the API's place.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self._size = USUAL
        self._found_long = False
        self.came_from_cache = False

    async def first_page(self) -> JobPage:
        """The page with which the list begins. Raises ApiError."""
        return await self._read_page(None, None)

    async def read_pages(
        self, show: Callable[[Sequence[JobView]], None], *, since_s: float | None, to_the_end: bool
    ) -> bool:
        """Shows each page, and returns whether that was the whole list, as far as it can hold jobs that were made at
        `since_s` or later by the server's own clock.

        Args:
            to_the_end: whether nothing may be left out; otherwise the reading ends where a list that is newest first
                can hold nothing younger.

        Raises:
            ApiError: the list can't be read now. What was shown by then is true all the same.
        """
        self.came_from_cache = False
        order = NewestFirst(-math.inf if since_s is None else since_s)
        front: JobPage | None = None
        token: str | None = None
        before: str | None = None
        seen: dict[int, int] = {}  # by their hashes: a long list has many tokens, which may be long
        empty = 0
        for number in range(1, PAGES_MAX):
            page = await self._read_page(token, since_s)
            show(page.jobs)
            empty = 0 if page.jobs else empty + 1
            if empty == EMPTY_PAGES_MAX:
                raise ApiError(
                    "list", Verdict.LATER, f"list: {empty} pages in a row hold no job, and name a further one"
                )
            front = front or page
            digest = hash(tuple(view.job_id for view in page.jobs))
            if seen.get(hash(token)) == digest:
                # The pages go round, and each was shown; unless one leads to itself: what is behind it was not.
                return token != before or not page.jobs
            seen[hash(token)] = digest
            before, token = token, page.next_page_token
            if token is None:
                return await self._read_front_again(show, front, since_s) if number > 1 else True
            if order.has_passed(page.jobs) and not to_the_end:
                return False
            if number == LONG_PAGES and not self._found_long:
                self._found_long, self._size = True, 0
                return await self.read_pages(show, since_s=since_s, to_the_end=to_the_end)
        return False

    async def _read_front_again(
        self, show: Callable[[Sequence[JobView]], None], front: JobPage, since_s: float | None
    ) -> bool:
        """A list may be ordered by change: a job that ended while the pages were read moved from one that was not read
        yet to the front. So the front is read once more, down to a job that has stood there all the time."""
        stood = {(view.job_id, view.status) for view in front.jobs}
        token: str | None = None
        for _ in range(FRONT_PAGES_MAX):
            page = await self._read_page(token, since_s)
            show(page.jobs)
            token = page.next_page_token
            if token is None or any((view.job_id, view.status) in stood for view in page.jobs):
                return True
        return False  # jobs change faster than the front can be read: this reading proves nothing

    async def _read_page(self, token: str | None, since_s: float | None) -> JobPage:
        while True:
            try:
                page = await retry_transient(
                    lambda: self._api.list_page(
                        page_size=PAGE_SIZES[self._size], page_token=token, created_from_s=since_s
                    ),
                    calls_max=READ_CALLS_MAX,
                )
                self.came_from_cache |= page.from_cache
                return page
            except ApiError as error:
                # Only of the first page: behind it, the token may be what is refused, or what takes too long.
                refused = error.verdict is Verdict.REFUSED and token is None
                too_much = error.verdict is Verdict.LATER and self._size < USUAL and token is None
                if not (refused or too_much) or self._size + 1 == len(PAGE_SIZES):
                    raise
                self._size = self._size + 1 if refused else USUAL
