"""All pages of a job's results, as far as they can be had.

A server may give out page tokens and refuse to take them back, or answer the same page for ever. So the pages are read
within bounds, and what was read comes with the reason why there may be more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from classify_batch.errors import ApiError, Verdict
from classify_batch.protocol.answers import ResultsPage
from classify_batch.vocabulary import FILES_PER_JOB_MAX

Item = TypeVar("Item")

RESULTS_PAGES_MAX = 2 * FILES_PER_JOB_MAX
"""A page holds at least one result. A server that gives out twice as many pages as a job has files never ends."""

STALE_PAGES_MAX = 5
"""So many pages in a row without a new result are one page, answered for ever; fewer may be results given twice."""


@dataclass(frozen=True)
class AllResults(Generic[Item]):
    """The results of all pages that were read.

    Attributes:
        incomplete: why there may be more; empty where everything came.
        short: whether that is only because the API says so, by its total: then the rest may come later.
        next_page_token: of the page that was not read; None where everything came.
    """

    items: list[Item]
    incomplete: str = ""
    short: bool = False
    next_page_token: str | None = None


async def read_all_pages(
    page: ResultsPage[Item],
    read_page: Callable[[str], Awaitable[ResultsPage[Item]]],
    identify: Callable[[Item], Hashable],
    is_enough: Callable[[Sequence[Item]], bool] = lambda _: False,
) -> AllResults[Item]:
    """Reads the pages behind the first one.

    Args:
        page: the first.
        read_page: gets a page by its token. An ApiError other than REFUSED is passed on.
        identify: what distinguishes a result from another, since a server may give a result twice.
        is_enough: gets the new results of each page, and says whether the rest isn't needed.
    """
    items = list(page.items)
    fresh = list(page.items)
    seen = set(map(identify, items))
    stale = 0
    for _ in range(RESULTS_PAGES_MAX):
        if is_enough(fresh):
            return AllResults(items)
        if not page.next_page_token:
            return end_results(items, len(seen), page.total_size)
        if stale == STALE_PAGES_MAX:
            # A token may be left over when everything came: `total_size` says so. Not earlier: it may be the count of
            # one page, and a page may come twice.
            if page.total_size is not None and len(seen) >= page.total_size > 0:
                return AllResults(items)
            break
        try:
            page = await read_page(page.next_page_token)
        except ApiError as error:
            if error.verdict is not Verdict.REFUSED:
                raise
            reason = f"the API gave out a page token and refuses to take it back ({error})"
            return AllResults(items, reason, next_page_token=page.next_page_token)
        fresh = [item for item in page.items if identify(item) not in seen]
        seen.update(map(identify, fresh))
        items += fresh
        stale = 0 if fresh else stale + 1
    return AllResults(items, "the API answers pages of results without end", next_page_token=page.next_page_token)


def end_results(items: list[Item], different: int, total_size: int | None) -> AllResults[Item]:
    """Results whose last page was read. A token may have been lost, so the total counts: what it has more was perhaps
    paid. `different`: how many of the results are not given twice."""
    if total_size is None or different >= total_size:
        return AllResults(items)
    return AllResults(items, f"the API says that there are more results than the {different} that it gave", short=True)
