"""Reads the list for all doubtful attempts together, until each is adopted, sent again, or given up.

An attempt is sent again only when the list, read when this process first looked and again `settle_s` later, shows no
candidate left that could be its job. That an accepted job shows in the list within `settle_s` is what the promise
"nothing is paid twice" rests on.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream

from classify_batch.backoff import patiently
from classify_batch.errors import ApiError, Verdict
from classify_batch.gate import Slots
from classify_batch.outcomes import Outcomes, fail_all
from classify_batch.ports import Api, Clock, Journal
from classify_batch.records import Attempt, AttemptKey, FailureCode, Job, JobPage, JobSpecs, JobView
from classify_batch.stages.reconciler.match import Doubt, Find, NewestFirst, answered_files, could_be_ours
from classify_batch.states import Adopted, Kind
from classify_batch.stopping import Stop, Stopping
from classify_batch.wire.words import clean

PAGE_SIZES = (100, 50, 20, 10, 5, 1)
"""A server may refuse a large page with 422: the next smaller one is tried."""

PAGES_MAX = 100_000
ANSWERED_MAX = 2_000
"""Finished jobs whose files are remembered from one doubt to the next: their answers don't change, and other people's
jobs are candidates again and again where the list shows no times."""

READ_TRIES = 6
"""A round that can't be brought to its end is begun again; what it proved by then stays proven."""

READS_AT_ONCE = 8
"""Whole results of finished candidates: in a crowded project there are many of them."""

_SOON = frozenset({Verdict.LATER, Verdict.MISSING})
_ENDS_THE_RUN = frozenset({Verdict.KEY_REFUSED, Verdict.DOWN})

ROUND_S_MIN = 0.25
ROUND_S_MAX = 5.0


class Reconciler:
    """One for all doubtful attempts of a run."""

    def __init__(
        self,
        api: Api,
        journal: Journal,
        outcomes: Outcomes,
        clock: Clock,
        slots: Slots,
        stopping: Stopping,
        *,
        specs: JobSpecs,
        settle_s: float,
        job_timeout_s: float,
        warn: Callable[[str], None],
    ) -> None:
        self._api = api
        self._journal = journal
        self._outcomes = outcomes
        self._clock = clock
        self._slots = slots
        self._stopping = stopping
        self._specs = specs
        self._settle_s = settle_s
        self._job_timeout_s = job_timeout_s
        self._warn = warn
        self._doubts: dict[AttemptKey, Doubt] = {}
        self._dismissed: set[str] = set()
        self._answered: dict[str, frozenset[str]] = {}
        self._page_size = 0
        self._list_failed = False
        self._news = anyio.Event()

    @property
    def doubts(self) -> int:
        """Attempts that are being reconciled."""
        return len(self._doubts)

    def left_s(self, job_s: float) -> float | None:
        """How long until all of these have ended, where a job takes so long: it takes the settling time to know that
        there is none, and then one is made. None where that has taken longer already: one waits for candidates.
        """
        in_doubt_s = [self._clock.wall_s() - doubt.until_s for doubt in self._doubts.values()]
        if max(in_doubt_s, default=0.0) > self._settle_s + job_s:
            return None
        return job_s + max(0.0, self._settle_s - min(in_doubt_s, default=self._settle_s))

    async def work(
        self,
        doubtful: ObjectReceiveStream[Attempt],
        again: ObjectSendStream[Attempt],
        adopted: ObjectSendStream[Job],
    ) -> None:
        """Reconciles what comes until it is cancelled."""
        async with doubtful, again, adopted, anyio.create_task_group() as tasks:
            tasks.start_soon(self._receive, doubtful)
            while True:
                await self._news.wait()
                try:
                    await self._round(again, adopted)
                except ApiError as error:
                    if error.verdict in _ENDS_THE_RUN:
                        self._stopping.ask(Stop.because(error))
                        await anyio.sleep_forever()
                    self._do_without_list(error)
                    await anyio.sleep(ROUND_S_MAX)
                if self._doubts:
                    await anyio.sleep(min(ROUND_S_MAX, max(ROUND_S_MIN, self._settle_s / 8)))
                else:
                    self._dismissed.clear()
                    if len(self._answered) > ANSWERED_MAX:
                        self._answered.clear()
                    self._news = anyio.Event()

    async def _receive(self, doubtful: ObjectReceiveStream[Attempt]) -> None:
        async for attempt in doubtful:
            self._doubts[attempt.key] = Doubt(attempt, until_s=self._clock.wall_s())
            self._news.set()

    async def _round(self, again: ObjectSendStream[Attempt], adopted: ObjectSendStream[Job]) -> None:
        doubts = list(self._doubts.values())
        began_s = anyio.current_time()
        for doubt in doubts:
            doubt.first_look_s = began_s if doubt.first_look_s is None else doubt.first_look_s
        views = await self._candidates(doubts)
        for doubt in doubts:
            if doubt.shown is None and self._settled(doubt, began_s):
                doubt.shown = frozenset(view.job_id for view in views)
        await self._ask_all(views, doubts, adopted)
        for doubt in doubts:
            doubt.last_look_s = began_s
            if self._in_doubt(doubt):
                await self._decide(doubt, views, again, adopted)

    def _do_without_list(self, error: ApiError) -> None:
        """Nothing can be proven while the list can't be read: what is in doubt waits, and everything else goes on."""
        if not self._list_failed:
            self._warn(f"creates stay in doubt while the job list can't be read ({error})")
        self._list_failed = True
        for doubt in list(self._doubts.values()):
            self._give_up_when_due(doubt, f"the job list can't be read ({error})")

    # --- Candidates -------------------------------------------------------------------------------------------------

    async def _candidates(self, doubts: list[Doubt]) -> list[JobView]:
        """The listed jobs that nobody of this run knows and that could be some doubt's."""
        views = {
            view.job_id: view
            for view in await self._read_list(min(doubt.attempt.since_s for doubt in doubts))
            if view.job_id not in self._dismissed and any(self._could_be(view, doubt) for doubt in doubts)
        }
        known = await self._journal.known_jobs(views.keys(), [doubt.attempt.key for doubt in doubts])
        return [view for job_id, view in views.items() if job_id not in known]

    def _could_be(self, view: JobView, doubt: Doubt) -> bool:
        if view.job_id in doubt.others:
            return False
        spec = self._specs.of(doubt.attempt.part)
        return could_be_ours(view, doubt, spec, self._api.clock_skew_s, self._settle_s)

    async def _read_list(self, since_s: float) -> list[JobView]:
        """The whole list, or as much of it as can hold jobs of ours."""
        views: list[JobView] = []
        tokens: set[str] = set()
        order: NewestFirst | None = None
        token: str | None = None
        for _ in range(PAGES_MAX):
            page = await self._page(token)
            if order is None:  # the first answer of a process tells how the server's clock goes
                skew_s = self._api.clock_skew_s
                order = NewestFirst(-math.inf if skew_s is None else since_s + skew_s)
            views.extend(page.jobs)
            token = page.next_page_token
            if token is None or token in tokens or order.passed(page.jobs):
                break
            tokens.add(token)
        return views

    async def _page(self, token: str | None) -> JobPage:
        while True:
            try:
                return await patiently(lambda: self._list_page(token), tries=READ_TRIES)
            except ApiError as error:
                if error.verdict is not Verdict.REFUSED or self._page_size + 1 == len(PAGE_SIZES) or token is not None:
                    raise
                self._page_size += 1

    async def _list_page(self, token: str | None) -> JobPage:
        return await self._api.list_page(page_size=PAGE_SIZES[self._page_size], page_token=token)

    async def _ask_all(self, views: list[JobView], doubts: list[Doubt], adopted: ObjectSendStream[Job]) -> None:
        """Several candidates side by side, in the order in which they were made: a job follows its intent closely, and
        is taken as soon as it is proven, so that a process that is killed in the middle has made way."""
        waiting = iter(sorted(views, key=_made_s))
        errors: list[ApiError] = []

        async def ask() -> None:
            for view in waiting:
                try:
                    await self._ask_whose(view, doubts, adopted)
                except ApiError as error:
                    errors.append(error)
                if errors:
                    return

        async with anyio.create_task_group() as tasks:
            for _ in range(READS_AT_ONCE):
                tasks.start_soon(ask)
        if errors:
            raise errors[0]

    async def _ask_whose(self, view: JobView, doubts: list[Doubt], adopted: ObjectSendStream[Job]) -> None:
        """Lets a finished candidate's results decide. One that failed was not paid, and is nobody's."""
        if not view.finished:
            return
        if not view.answered:
            self._dismissed.add(view.job_id)
            return
        asking = [
            doubt
            for doubt in doubts
            if self._in_doubt(doubt) and self._could_be(view, doubt) and view.job_id not in doubt.found
        ]
        if not asking or (answered := await self._read_answered(view)) is None:
            return
        for doubt in asking:
            if files := len(answered.intersection(doubt.attempt.file_ids)):
                doubt.found[view.job_id] = Find(files, view.project_id)
                if self._in_doubt(doubt):
                    await self._adopt_whole(doubt, adopted)
            else:
                doubt.others.add(view.job_id)

    async def _read_answered(self, view: JobView) -> frozenset[str] | None:
        """The files that a finished job answers, read once; None where its results name none."""
        if view.job_id not in self._answered:
            try:
                answers = await patiently(lambda: self._api.results(view, ()), again=_SOON, tries=READ_TRIES)
            except ApiError as error:
                if error.verdict in (Verdict.LATER, Verdict.DOWN):
                    raise
                return None  # somebody else's job, perhaps, whose results are not for us
            answered = answered_files(view, answers.items)
            if answered is None:
                return None
            self._answered[view.job_id] = answered
        return self._answered[view.job_id]

    # --- Decisions --------------------------------------------------------------------------------------------------

    def _in_doubt(self, doubt: Doubt) -> bool:
        return self._doubts.get(doubt.attempt.key) is doubt

    async def _adopt_whole(self, doubt: Doubt, adopted: ObjectSendStream[Job]) -> None:
        """Adopts a job that answers all files of the attempt: no other can be better."""
        best = self._best(doubt)
        if best is not None and doubt.found[best].files == len(doubt.attempt.file_ids):
            await self._adopt(doubt, best, adopted)

    def _best(self, doubt: Doubt) -> str | None:
        """The job that answers most of the attempt's files, of those that are not adopted for another one."""
        found = doubt.found.keys() - self._dismissed
        return max(sorted(found), key=lambda job_id: doubt.found[job_id].files, default=None)

    async def _decide(
        self,
        doubt: Doubt,
        views: list[JobView],
        again: ObjectSendStream[Attempt],
        adopted: ObjectSendStream[Job],
    ) -> None:
        attempt, best = doubt.attempt, self._best(doubt)
        undecided = [view for view in views if view.job_id not in self._dismissed | doubt.found.keys()]
        undecided = [view for view in undecided if self._could_be(view, doubt)]
        if undecided:
            jobs = ", ".join(clean(view.job_id) for view in undecided[:10])
            self._give_up_when_due(doubt, f"its job may be one of: {jobs}")
        elif self._settled(doubt, doubt.last_look_s):
            if best is not None:
                await self._adopt(doubt, best, adopted)
            else:
                del self._doubts[attempt.key]
                await again.send(attempt)

    def _settled(self, doubt: Doubt, last_s: float | None) -> bool:
        first_s = doubt.first_look_s
        return first_s is not None and last_s is not None and last_s > first_s and last_s - first_s >= self._settle_s

    async def _adopt(self, doubt: Doubt, job_id: str, adopted: ObjectSendStream[Job]) -> None:
        attempt = doubt.attempt
        del self._doubts[attempt.key]
        self._dismissed.add(job_id)
        at_s = self._clock.wall_s()
        self._journal.record(Adopted(attempt.key, job_id, at_s, doubt.found[job_id].project_id))
        spare = [found for found in doubt.found if found != job_id]
        if spare:
            self._warn(f"chunk {attempt.key.chunk}: further jobs hold its files: {', '.join(map(clean, spare))}")
        await adopted.send(Job(attempt, job_id, at_s, timed=False))

    def _give_up_when_due(self, doubt: Doubt, why: str) -> None:
        began_s = max(doubt.attempt.since_s, doubt.attempt.waits_since_s)
        if self._clock.wall_s() - began_s <= self._job_timeout_s:
            return
        attempt = doubt.attempt
        del self._doubts[attempt.key]
        failures = fail_all(attempt, FailureCode.UNRESOLVED, f"perhaps paid, and it could not be proven; {why}")
        self._outcomes.end(attempt, Kind.COLLECTED, failures=failures)
        self._slots.release()


def _made_s(view: JobView) -> float:
    return math.inf if view.created_at_s is None else view.created_at_s
