"""How the job list is read: nothing is called complete that wasn't, and what moves while it is read is not missed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from classify_batch.engine.reconciler import listing as module
from classify_batch.engine.reconciler.listing import LONG_PAGES, READ_CALLS_MAX, JobList
from classify_batch.errors import ApiError, Verdict
from classify_batch.model import JobPage, JobView
from tests.support.scripted_ports import ScriptedApi, refusal

pytestmark = pytest.mark.anyio

patient = settings(deadline=None)  # a busy machine is no fault


def jobs(count: int, *, newest_s: float | None = None) -> list[JobView]:
    """With times one second apart, newest first; or without any."""
    times = [None if newest_s is None else newest_s - number for number in range(count)]
    return [JobView(f"j{number}", "PENDING", created_at_s=time_s) for number, time_s in enumerate(times)]


class ListApi(ScriptedApi):
    """A list whose page tokens are offsets.

    Attributes:
        page_size_max: a larger page is refused with 422.
        asked: size, token and moment of each page that was asked for.
        before_page: is called before each page is taken from the list.
        errors: what the next calls bring instead of pages, in their order; None: a page.
    """

    def __init__(self, listed: Sequence[JobView], *, page_size_max: int = 100) -> None:
        self.listed = list(listed)
        self.page_size_max = page_size_max
        self.asked: list[tuple[int, str | None, float | None]] = []
        self.before_page: Callable[[], None] = lambda: None
        self.errors: list[ApiError | None] = []

    async def list_page(
        self,
        *,
        page_size: int,
        page_token: str | None = None,
        job_ids: Collection[str] = (),
        created_from_s: float | None = None,
    ) -> JobPage:
        assert not job_ids
        self.asked.append((page_size, page_token, created_from_s))
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error
        if page_size > self.page_size_max:
            raise refusal(Verdict.REFUSED, status=422)
        self.before_page()
        return self.page(int(page_token or 0), page_size)

    def page(self, start: int, page_size: int) -> JobPage:
        end = start + page_size
        return JobPage(tuple(self.listed[start:end]), str(end) if end < len(self.listed) else None)

    @property
    def sizes(self) -> list[int]:
        return [size for size, _, _ in self.asked]

    def change(self, job_id: str) -> None:
        """A job ends, and moves to the front of a list that is ordered by change."""
        at = next(at for at, view in enumerate(self.listed) if view.job_id == job_id)
        self.listed.insert(0, self.listed.pop(at)._replace(status="SUCCESS"))


class Shown:
    """What a reading showed, and whether it was the whole list."""

    def __init__(self, api: ListApi, job_list: JobList | None = None) -> None:
        self.list = job_list or JobList(api)
        self.views: list[JobView] = []
        self.complete: bool | None = None

    async def read(self, *, since_s: float | None = None, to_the_end: bool = True) -> Shown:
        self.views, self.complete = [], None
        self.complete = await self.list.read_pages(self.views.extend, since_s=since_s, to_the_end=to_the_end)
        return self

    @property
    def ids(self) -> list[str]:
        return [view.job_id for view in self.views]


# --- To the end, and no further than it pays -------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 100, 101, 250])
async def test_a_list_that_was_read_to_its_end_is_complete(count: int) -> None:
    """Every job of it was shown; one page is read once."""
    api = ListApi(jobs(count))
    shown = await Shown(api).read()
    assert shown.complete is True
    assert set(shown.ids) == {view.job_id for view in api.listed}
    assert len(api.asked) == (1 if count <= 100 else 2 + (count - 1) // 100)


async def test_a_search_ends_where_nothing_younger_can_follow() -> None:
    """In a list that is newest first: then it was not the whole list. Whatever has to prove something goes on."""
    api = ListApi(jobs(450, newest_s=1000.0))
    shown = await Shown(api).read(since_s=850.0, to_the_end=False)
    assert (shown.complete, len(shown.ids)) == (False, 200)
    assert (await Shown(api).read(since_s=850.0)).complete is True
    assert (await Shown(api).read(since_s=None, to_the_end=False)).complete is True
    api.listed.insert(3, JobView("old", "SUCCESS", created_at_s=1.0))
    assert (await Shown(api).read(since_s=850.0, to_the_end=False)).complete is True  # it is not newest first


async def test_a_filter_is_asked_for_on_every_page() -> None:
    """Whoever can leave older jobs out may."""
    api = ListApi(jobs(150))
    await Shown(api).read(since_s=7.5)
    assert api.asked == [(100, None, 7.5), (100, "100", 7.5), (100, None, 7.5)]


async def test_the_first_page_is_asked_for_by_itself() -> None:
    """In the usual size, and of any age."""
    api = ListApi(jobs(150))
    page = await JobList(api).first_page()
    assert ([view.job_id for view in page.jobs], api.asked) == ([f"j{n}" for n in range(100)], [(100, None, None)])


async def test_a_list_without_an_end_is_not_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a limit to everything."""
    monkeypatch.setattr(module, "PAGES_MAX", 15)

    class Endless(ListApi):
        def page(self, start: int, page_size: int) -> JobPage:
            return JobPage((JobView(f"j{start}", "PENDING"),), str(start + 1))

    assert (await Shown(Endless([])).read()).complete is False


async def test_empty_pages_without_an_end_are_an_error() -> None:
    """A server that always names a further page, and shows nothing: an attempt whose job is looked for in such a list
    must not wait for its end."""

    class Empty(ListApi):
        def page(self, start: int, page_size: int) -> JobPage:
            return JobPage(tuple(self.listed[start : start + 1]) if start % 90 == 0 else (), str(start + 1))

    api = Empty(jobs(181))
    with pytest.raises(ApiError, match="100 pages in a row hold no job"):
        await Shown(api).read()
    assert api.asked[-1][1] == str(180 + 100)  # a job now and then is no such list


async def test_pages_that_go_round_come_to_an_end() -> None:
    """Whose last token leads back into the middle: each was shown."""

    class Round(ListApi):
        def page(self, start: int, page_size: int) -> JobPage:
            page = super().page(start, page_size)
            return replace(page, next_page_token=page.next_page_token or "100")

    api = Round(jobs(350))
    shown = await Shown(api).read()
    assert shown.complete is True
    assert set(shown.ids) == {view.job_id for view in api.listed}
    assert [token for _, token, _ in api.asked] == [None, "100", "200", "300", "100"]


@pytest.mark.parametrize("stuck_at", [0, 200])
async def test_a_page_that_leads_to_itself_is_no_end(stuck_at: int) -> None:
    """A cache that leaves the page token out of account answers the first page again; a token that names a time, where
    more jobs than fit on a page were made, leads back to its own page. What lies behind was never shown."""

    class Stuck(ListApi):
        def page(self, start: int, page_size: int) -> JobPage:
            page = super().page(min(start, stuck_at), page_size)
            return page if start < stuck_at else replace(page, next_page_token=str(stuck_at + 100))

    api = Stuck(jobs(500))
    shown = await Shown(api).read()
    assert shown.complete is False
    assert len(shown.ids) == stuck_at + 300  # the same page thrice
    assert len(api.asked) == stuck_at // 100 + 3


async def test_an_empty_page_that_leads_to_itself_is_the_end() -> None:
    """A server may name a further page for ever: behind the last job there is none."""

    class Trailing(ListApi):
        def page(self, start: int, page_size: int) -> JobPage:
            page = super().page(start, page_size)
            return replace(page, next_page_token=page.next_page_token or "1000")

    shown = await Shown(Trailing(jobs(250))).read()
    assert (shown.complete, len(set(shown.ids))) == (True, 250)


# --- What moves meanwhile --------------------------------------------------------------------------------------------


async def test_a_job_that_moves_to_the_front_meanwhile_is_shown() -> None:
    """From a page that was not read yet: the front is read again, down to a job that has stood there all the time."""
    api = ListApi(jobs(300))
    last_page = api.listed[250:]

    def move_the_last() -> None:
        if len(api.asked) == 2:
            for view in last_page:
                api.change(view.job_id)

    api.before_page = move_the_last
    shown = await Shown(api).read()
    assert shown.complete is True
    assert set(shown.ids) == {view.job_id for view in api.listed}
    assert [token for _, token, _ in api.asked] == [None, "100", "200", None]


async def test_the_front_is_read_down_to_what_stood() -> None:
    """As many pages as it takes: also where all that stood in front at the beginning has moved itself."""
    api = ListApi(jobs(400))

    def move_many() -> None:
        if len(api.asked) == 2:
            for number in (*range(380, 400), *range(100), *range(150, 330)):
                api.change(f"j{number}")

    api.before_page = move_many
    shown = await Shown(api).read()
    assert set(shown.ids) == {view.job_id for view in api.listed}
    assert [token for _, token, _ in api.asked][-4:] == [None, "100", "200", "300"]


class Restless(ListApi):
    """Between any two pages some jobs end."""

    def __init__(self, count: int, changes: Iterator[int]) -> None:
        super().__init__(jobs(count), page_size_max=5)
        self._changes = changes
        self.before_page = self._let_some_end

    def _let_some_end(self) -> None:
        for _ in range(next(self._changes, 0) % 9):
            out = [view for view in self.listed if not view.finished]
            if out:
                self.change(out[next(self._changes, 0) % len(out)].job_id)


@patient
@given(st.integers(0, 40), st.lists(st.integers(0, 1 << 20), max_size=60))
def test_however_a_list_changes_every_job_is_shown(count: int, changes: list[int]) -> None:
    """Ordered by change, with offsets for tokens: no job that was there falls between two pages."""
    api = Restless(count, iter(changes))
    shown = Shown(api)
    anyio.run(shown.read, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})
    assert shown.complete is True
    assert set(shown.ids) == {view.job_id for view in api.listed}


# --- Pages of another size -------------------------------------------------------------------------------------------


async def test_a_server_that_refuses_large_pages_is_asked_for_smaller_ones() -> None:
    """Down to single jobs, and from then on at once. The same jobs are shown."""
    for most, sizes in ((100, [100]), (70, [100, 50]), (7, [100, 50, 20, 10, 5]), (1, [100, 50, 20, 10, 5, 1])):
        api = ListApi(jobs(3), page_size_max=most)
        shown = await Shown(api).read()
        assert (shown.complete, set(shown.ids)) == (True, {"j0", "j1", "j2"})
        assert list(dict.fromkeys(api.sizes)) == sizes
        api.asked.clear()
        await shown.read()
        assert set(api.sizes) == {sizes[-1]}


async def test_a_list_that_refuses_every_page_can_not_be_read() -> None:
    """Nor one that refuses a page behind the first: its size was good enough before."""
    with pytest.raises(ApiError) as caught:
        await Shown(ListApi(jobs(3), page_size_max=0)).read()
    assert caught.value.verdict is Verdict.REFUSED
    api = ListApi(jobs(250))
    api.errors = [None, refusal(Verdict.REFUSED, status=422)]
    shown = Shown(api)
    with pytest.raises(ApiError):
        await shown.read()
    assert (len(shown.ids), shown.complete, api.sizes) == (100, None, [100, 100])


@pytest.mark.parametrize(("most", "sizes"), [(1000, [1000]), (700, [1000, 500]), (100, [1000, 500, 100])])
async def test_a_long_list_is_read_in_larger_pages(most: int, sizes: list[int]) -> None:
    """Begun again once it is known to be long, and in the next reading from the first page on."""
    api = ListApi(jobs(100 * LONG_PAGES + 950), page_size_max=most)
    shown = await Shown(api).read()
    assert shown.complete is True
    assert set(shown.ids) == {view.job_id for view in api.listed}
    assert api.sizes[:LONG_PAGES] == [100] * LONG_PAGES
    assert list(dict.fromkeys(api.sizes[LONG_PAGES:])) == sizes
    api.asked.clear()
    assert (await shown.read()).complete is True
    assert set(api.sizes) == {sizes[-1]}


async def test_a_list_that_is_not_long_is_read_in_usual_pages() -> None:
    """Up to the limit; a search that ends before it says nothing."""
    api = ListApi(jobs(100 * LONG_PAGES))
    assert (await Shown(api).read()).complete is True
    assert set(api.sizes) == {100}
    api = ListApi(jobs(100 * LONG_PAGES + 1, newest_s=0.0))
    assert (await Shown(api).read(since_s=-900.0, to_the_end=False)).complete is False
    assert set(api.sizes) == {100}


async def test_a_server_that_chokes_on_large_pages_is_asked_for_usual_ones() -> None:
    """Where it answers nothing, however patiently it is asked."""
    api = ListApi(jobs(100 * LONG_PAGES + 950), page_size_max=1000)
    api.errors = [None] * LONG_PAGES + [refusal(Verdict.LATER)] * READ_CALLS_MAX
    shown = await Shown(api).read()
    assert shown.complete is True
    assert set(shown.ids) == {view.job_id for view in api.listed}
    assert api.sizes[LONG_PAGES:][:READ_CALLS_MAX] == [1000] * READ_CALLS_MAX
    assert set(api.sizes[LONG_PAGES + READ_CALLS_MAX :]) == {100}


# --- When it can't be read -------------------------------------------------------------------------------------------


async def test_a_page_that_fails_for_now_is_asked_for_again() -> None:
    """By itself: what was read is not read again."""
    api = ListApi(jobs(150))
    api.errors = [None, *([refusal(Verdict.LATER)] * (READ_CALLS_MAX - 1)), None, None]
    shown = await Shown(api).read()
    assert shown.complete is True
    assert [token for _, token, _ in api.asked] == [None, *(["100"] * READ_CALLS_MAX), None]


@pytest.mark.parametrize(
    ("verdict", "tries"),
    [(Verdict.LATER, READ_CALLS_MAX), (Verdict.DOWN, 1), (Verdict.KEY_REFUSED, 1), (Verdict.MISSING, 1)],
)
@pytest.mark.parametrize("at", [0, 1])
async def test_an_error_ends_the_reading_and_what_was_shown_stays_shown(verdict: Verdict, tries: int, at: int) -> None:
    """The error is raised as it is, and nothing is called complete."""
    api = ListApi(jobs(150))
    api.errors = [None] * at + [refusal(verdict)] * tries
    shown = Shown(api)
    with pytest.raises(ApiError) as caught:
        await shown.read()
    assert (caught.value.verdict, shown.complete, len(shown.ids)) == (verdict, None, 100 * at)
    assert len(api.asked) == at + tries
