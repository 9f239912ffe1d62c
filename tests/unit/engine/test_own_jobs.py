"""What a job list has to show of the run's own jobs before it is believed."""

from __future__ import annotations

import pytest

from classify_batch.engine.reconciler.own_jobs import OwnJobs
from classify_batch.errors import ApiError, Verdict
from classify_batch.model import JobView
from classify_batch.vocabulary import JobStatus
from tests.support.scripted_ports import KeptJournal, ScriptedApi, refusal

pytestmark = pytest.mark.anyio

SETTLE_S = 20.0


class Jobs(ScriptedApi):
    """Jobs that can be asked for by ID. `errors`: what is answered for some."""

    def __init__(self) -> None:
        self.errors: dict[str, Verdict] = {}
        self.asked: list[str] = []

    async def get(self, job_id: str) -> JobView:
        self.asked.append(job_id)
        if (verdict := self.errors.get(job_id)) is not None:
            raise refusal(verdict, "get", 404)
        return view(job_id)


class Latest(KeptJournal):
    """A journal that names jobs, each with the server's time."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[str, float | None] = {}

    async def latest_jobs(self) -> dict[str, float | None]:
        return dict(self.jobs)


def view(job_id: str, created_at_s: float | None = None) -> JobView:
    return JobView(job_id, JobStatus.PENDING, created_at_s=created_at_s)


class World:
    """Own jobs, and what is said of their clocks. `compared`: what was."""

    def __init__(self, *names: str) -> None:
        self.api, self.journal = Jobs(), Latest()
        self.journal.jobs = {name: 1000.0 + number for number, name in enumerate(names)}
        self.compared: list[tuple[float | None, str]] = []
        self.own_jobs = OwnJobs(
            self.api, self.journal, SETTLE_S, lambda server_s, job: self.compared.append((server_s, job.job_id))
        )

    async def read_list(self, now_s: float, *names: str) -> str | None:
        """A reading that shows these jobs."""
        await self.own_jobs.begin_list_reading(now_s)
        self.own_jobs.record_listed(map(view, names))
        return await self.own_jobs.find_job_not_shown()


async def test_the_latest_settled_job_must_be_shown() -> None:
    """The older ones need not: they are no better witnesses."""
    world = World("a", "b")
    await world.read_list(0.0)
    assert await world.read_list(SETTLE_S, "a") == "b"
    assert await world.read_list(SETTLE_S, "b") is None
    assert world.api.asked == ["b"]


async def test_a_job_that_was_just_made_may_be_missing() -> None:
    """The one before it may not."""
    world = World("a")
    assert await world.read_list(0.0) is None
    world.journal.jobs["b"] = None
    assert await world.read_list(SETTLE_S - 0.1) is None
    assert await world.read_list(SETTLE_S) == "a"
    assert await world.read_list(SETTLE_S, "a") is None
    assert await world.read_list(2 * SETTLE_S, "a") == "b"


@pytest.mark.parametrize("verdict", [Verdict.MISSING, Verdict.REFUSED])
async def test_a_deleted_job_is_asked_for_once_and_the_one_before_it_counts(verdict: Verdict) -> None:
    """It is no witness any more, and costs no more requests."""
    world = World("a", "b")
    world.api.errors["b"] = verdict
    await world.read_list(0.0)
    assert await world.read_list(SETTLE_S) == "a"
    assert await world.read_list(2 * SETTLE_S, "a") is None
    assert world.api.asked == ["b", "a"]


async def test_a_job_that_can_not_be_asked_for_proves_nothing() -> None:
    """A key that is refused says nothing of a job."""
    world = World("a")
    world.api.errors["a"] = Verdict.KEY_REFUSED
    await world.read_list(0.0)
    with pytest.raises(ApiError):
        await world.read_list(SETTLE_S)


async def test_an_api_that_knows_calls_again_asks_for_no_witness() -> None:
    """Its list is filtered by time, and a repeated call gives the same job."""
    world = World("a")
    world.api.idempotent = True
    await world.read_list(0.0)
    assert await world.read_list(SETTLE_S) is None
    assert world.api.asked == []


async def test_every_own_job_that_is_listed_shows_the_lists_clock() -> None:
    """With the server's time as it was known when it was answered; others' jobs show nothing."""
    world = World("a", "b")
    await world.read_list(0.0, "b", "stranger", "a")
    assert world.compared == [(1001.0, "b"), (1000.0, "a")]


async def test_an_own_job_may_be_listed_in_another_spelling() -> None:
    """A UUID in lower case is the one that was answered in upper case."""
    name = "0A6B7C1E-3D2F-4A5B-8C9D-0E1F2A3B4C5D"
    world = World(name)
    await world.read_list(0.0)
    assert await world.read_list(SETTLE_S, name.lower()) is None
    assert world.api.asked == []
