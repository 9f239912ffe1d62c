"""The time left that people are shown, in virtual time, held against how long it took."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import anyio
import httpx
import pytest

from classify_batch.cli.rendering.progress import format_details
from classify_batch.cli.rendering.throughput import Throughput
from classify_batch.engine.progress import Progress
from classify_batch.vocabulary import TUNE_JSON
from tests.support.simulated_run import After, Lab, answer, is_create, laboratory

pytestmark = pytest.mark.anyio

LONG_S = 300.0
SOON_S = 6.0
"""A figure may be wrong for so long: nobody knows that a job takes longer than others before these would have ended."""


class Shown(NamedTuple):
    """What a person saw at a moment; `left_s` None: no figure."""

    at_s: float
    left_s: float | None
    done: int


class Watcher:
    """A person before the live view, from beginning to end."""

    def __init__(self) -> None:
        self.shown: list[Shown] = []
        self._pace = Throughput()

    def __call__(self, progress: Progress) -> None:
        at_s, done = anyio.current_time(), sum(progress.outcomes.values())
        self._pace.record_done(at_s, done)
        words = format_details(progress, self._pace)
        found = re.match(r"(?:(\d+):(\d\d):(\d\d)|-:--:--) left", words)
        assert found, words
        left_s = None if found[1] is None else 3600 * int(found[1]) + 60 * int(found[2]) + int(found[3])
        self.shown.append(Shown(at_s, left_s, done))

    def longest_too_short_s(self, from_s: float) -> float:
        """The longest time for which less than half of the truth was shown, but for the second that isn't shown."""
        ends_s, longest_s, since_s = self.shown[-1].at_s, 0.0, None
        for at_s, left_s, _ in self.shown:
            if at_s < from_s or left_s is None or 2 * (left_s + 1) >= ends_s - at_s:
                since_s = None
            else:
                since_s = at_s if since_s is None else since_s
                longest_s = max(longest_s, at_s - since_s)
        return longest_s

    def figures(self, from_s: float, to_s: float) -> list[float | None]:
        """What was shown in a part of the run."""
        began_s = self.shown[0].at_s
        return [left_s for at_s, left_s, _ in self.shown if from_s <= at_s - began_s <= to_s]


async def watched(lab: Lab) -> Watcher:
    watcher = lab.on_progress = Watcher()
    ending = await lab.run()
    assert ending.state == "complete", ending
    return watcher


def create_s(lab: Lab, number: int) -> float:
    """When a create left, counted from 1: before that nobody can know what becomes of it."""
    return [at_s for at_s, method, _ in lab.wire.requests if method == "POST"][number - 1]


def lasting(durations_s: Mapping[int, float]) -> After:
    """An API whose jobs last so long, by the number of their create from 1, and at least as long as they would."""
    ends_s: dict[str, float] = {}
    made = 0

    async def after(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        nonlocal made
        body = response.json()
        if is_create(request):
            made += 1
            ends_s[body["id"]] = anyio.current_time() + durations_s.get(made, 0.0)
        for job in body.get("items", [body]):
            if anyio.current_time() < ends_s.get(job.get("id"), 0.0):
                job["status"] = "PENDING"
        return httpx.Response(response.status_code, json=body)

    return after


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_last_job_that_takes_long(version: str) -> None:
    """It takes 300 s and all others 2 s: as soon as it is known to take longer than any other there is no figure."""
    with laboratory(
        200,
        version=version,
        limits={"jobs_in_flight": 5},
        job_duration_s=2.0,
        job_duration_sigma=0.2,
        latency_s=0.05,
    ) as lab:
        last = 20 if version == "v1" else 200
        lab.wire.after = lasting({last: LONG_S})
        watcher = await watched(lab)
    assert watcher.longest_too_short_s(create_s(lab, last)) < SOON_S
    last_s = watcher.shown[-1].at_s - watcher.shown[0].at_s
    assert set(watcher.figures(last_s - LONG_S + 20, last_s - 1)) == {None}


async def test_long_jobs_are_not_taken_for_nearly_done() -> None:
    """They end one by one, and the pace of the last half minute would end the run in less than a minute: the last job
    has begun a while ago, and takes 300 s as others did."""
    with laboratory(
        600, limits={"jobs_in_flight": 20}, job_duration_s=200.0, job_duration_sigma=0.4, latency_s=0.05
    ) as lab:
        lab.wire.after = lasting({60: LONG_S})
        watcher = await watched(lab)
    last_s = create_s(lab, 60)
    assert watcher.longest_too_short_s(last_s) < SOON_S
    shown = [each for each in watcher.shown if each.at_s > last_s and each.left_s is not None]
    assert len(shown) > 100  # to say nothing at all would be easy
    ends_s = watcher.shown[-1].at_s
    assert [each for each in shown if (each.left_s or 0) > 2 * (ends_s - each.at_s)] == []


async def test_a_create_of_which_nobody_knows_whether_it_was_accepted() -> None:
    """The last one: it takes the settling time to know, and then perhaps a job."""
    with laboratory(200, limits={"jobs_in_flight": 5, "settle_s": 60.0}, job_duration_s=2.0, latency_s=0.05) as lab:
        creates = 0

        async def lose_the_last(request: httpx.Request) -> httpx.Response | None:
            nonlocal creates
            creates += is_create(request)
            if is_create(request) and creates == 20:
                raise httpx.ReadError("lost")
            return None

        lab.wire.before = lose_the_last
        watcher = await watched(lab)
    assert watcher.longest_too_short_s(create_s(lab, 20)) < SOON_S
    assert max(left_s or 0 for left_s in watcher.figures(0, 1e9)) < 2 * 60


async def test_a_part_that_goes_out_again() -> None:
    """The last job ended with an error: its files take a whole job more."""
    with laboratory(200, limits={"jobs_in_flight": 20}, job_duration_s=60.0, latency_s=0.05) as lab:
        ended_badly = lasting({20: 120.0})
        last: list[str] = []

        async def fail_the_last(request: httpx.Request, response: httpx.Response) -> httpx.Response:
            response = await ended_badly(request, response)
            body = response.json()
            if is_create(request):
                last.append(body["id"])
            for job in body.get("items", [body]):
                if len(last) >= 20 and job.get("id") == last[19] and job["status"] == "SUCCESS":
                    job["status"] = "ERROR"
            return httpx.Response(response.status_code, json=body)

        lab.wire.after = fail_the_last
        watcher = await watched(lab)
    assert len(last) == 21
    assert watcher.longest_too_short_s(create_s(lab, 20)) < SOON_S


async def test_no_time_left_is_shown_while_the_api_is_down() -> None:
    """Nobody knows for how long: there is no figure until it answers again."""
    with laboratory(200, limits={"jobs_in_flight": 5}, job_duration_s=2.0, latency_s=0.05) as lab:
        began_s = anyio.current_time()

        async def down(request: httpx.Request) -> httpx.Response | None:
            return answer(503) if 5.0 <= anyio.current_time() - began_s < 105.0 else None

        lab.wire.before = down
        watcher = await watched(lab)
    assert set(watcher.figures(5.0 + SOON_S, 104.0)) == {None}
    assert None not in watcher.figures(2.5, 4.5)


async def test_an_api_that_wants_no_requests_for_a_while() -> None:
    """The last create has to wait as long as the API says: nothing is done sooner."""
    with laboratory(200, limits={"jobs_in_flight": 1}, job_duration_s=2.0, latency_s=0.05) as lab:
        creates = 0

        async def refuse_the_last(request: httpx.Request) -> httpx.Response | None:
            nonlocal creates
            creates += is_create(request)
            return answer(429, **{"Retry-After": "90"}) if is_create(request) and creates == 20 else None

        lab.wire.before = refuse_the_last
        watcher = await watched(lab)
    last_s = create_s(lab, 20)
    assert watcher.longest_too_short_s(last_s) < SOON_S
    assert {each.left_s is None for each in watcher.shown if last_s + 1 < each.at_s < last_s + 20} == {False}


async def test_no_time_left_is_shown_while_creates_are_paused() -> None:
    """Somebody will let them go on, and nobody knows when."""
    with laboratory(200, limits={"jobs_in_flight": 5}, job_duration_s=2.0, latency_s=0.05) as lab:

        async def pause() -> None:
            for at_s, paused in ((5.0, b"true"), (15.0, b"false")):
                await anyio.sleep_until(began_s + at_s)
                await lab.store.create(TUNE_JSON, b'{"paused": %s}' % paused)

        began_s = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pause)
            watcher = await watched(lab)
    assert set(watcher.figures(6.0, 14.5)) == {None}
    assert None not in watcher.figures(3.0, 4.5)
