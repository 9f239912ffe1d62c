"""Reading all pages of results from servers whose tokens, pages and totals can't be trusted."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from classify_batch.llamacloud.results_pages import STALE_PAGES_MAX, AllResults, read_all_pages
from classify_batch.protocol.answers import ResultsPage

pytestmark = pytest.mark.anyio


def make_page(items: str, next_number: str | None, total: int | None) -> ResultsPage[str]:
    """A page of results, which has the number of the next one as its token."""
    return ResultsPage(items, next_number, total)


@dataclass
class Server:
    """Answers pages by their numbers, the last one for every further number. `read`: the tokens that came back."""

    pages: list[ResultsPage[str]]
    read: list[str] = field(default_factory=list)

    async def read_page(self, token: str) -> ResultsPage[str]:
        self.read.append(token)
        return self.pages[min(int(token), len(self.pages) - 1)]

    async def read_all(self) -> AllResults[str]:
        return await read_all_pages(self.pages[0], self.read_page, lambda item: item)


@pytest.mark.parametrize("total", [None, 0, 2, 4])
async def test_a_page_that_comes_twice_does_not_hide_the_rest(total: int | None) -> None:
    """Whatever the total says: it may be the count of one page, or none at all."""
    server = Server([make_page("ab", "1", total), make_page("ab", "2", total), make_page("cd", None, total)])
    assert await server.read_all() == AllResults(["a", "b", "c", "d"])


@pytest.mark.parametrize("total", [None, 0, 2, 3, 4])
async def test_a_token_that_is_left_over_ends_by_the_total(total: int | None) -> None:
    """The last page comes for ever. Where the total was not reached, there may be more results."""
    server = Server([make_page("a", "1", total), make_page("bc", "2", total)])
    found = await server.read_all()
    assert found.items == ["a", "b", "c"]
    assert len(server.read) == 1 + STALE_PAGES_MAX
    all_came = total in (2, 3)
    assert bool(found.incomplete) is not all_came
    assert found.next_page_token == (None if all_came else "2")


@pytest.mark.parametrize("total", [3, 10**400])
async def test_results_that_end_before_their_total_are_short(total: int) -> None:
    """A token may be missing, and what is behind it was paid: the rest may come later."""
    found = await Server([make_page("a", "1", total), make_page("b", None, total)]).read_all()
    assert (found.items, found.short, found.next_page_token) == (["a", "b"], True, None)
    assert found.incomplete


@pytest.mark.parametrize("total", [None, -1, 0, 2])
async def test_results_that_reach_their_total_are_whole(total: int | None) -> None:
    """No total says nothing, and one that is too low isn't believed."""
    assert await Server([make_page("a", "1", total), make_page("b", None, total)]).read_all() == AllResults(["a", "b"])
