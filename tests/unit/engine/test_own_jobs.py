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

    def __init__(self) -> None:
        self.api, self.journal = Jobs(), Latest()
        self.compared: list[tuple[float | None, str]] = []
        self.own_jobs = OwnJobs(
            self.api,
            self.journal,
            lambda floor_s, job: self.compared.append((floor_s, job.job_id)),
            settle_s=SETTLE_S,
            answered_within_s=60.0,
        )

    def make(self, *names: str, at_s: float = 0.0) -> None:
        """Creates are answered with these jobs, one a second by the server's clock."""
        for number, name in enumerate(names):
            self.own_jobs.record_job(name, at_s, 1000.0 + number)

    async def read_list(self, now_s: float, *names: str) -> str | None:
        """A reading that shows these jobs."""
        await self.own_jobs.begin_list_reading(now_s)
        self.own_jobs.record_listed(map(view, names))
        return await self.own_jobs.find_job_not_shown(now_s)


async def test_the_latest_settled_job_must_be_shown() -> None:
    """The older ones need not: they are no better witnesses."""
    world = World()
    world.make("a", "b")
    assert await world.read_list(SETTLE_S, "a") == "b"
    assert await world.read_list(SETTLE_S, "b") is None
    assert world.api.asked == ["b"]


async def test_a_job_that_was_just_made_may_be_missing() -> None:
    """The one before it may not."""
    world = World()
    world.make("a")
    assert await world.read_list(0.0) is None
    world.make("b", at_s=SETTLE_S)
    assert await world.read_list(SETTLE_S) == "a"
    assert await world.read_list(SETTLE_S, "a") is None
    assert await world.read_list(2 * SETTLE_S, "a") == "b"


async def test_a_fast_run_has_a_witness_all_the_time() -> None:
    """Hundreds of jobs are made within the settling time, and only what may still be needed is kept."""
    world = World()
    for number in range(2000):
        world.make(f"job-{number}", at_s=number * 0.25)
    settled = f"job-{1999 - int(SETTLE_S / 0.25)}"
    assert await world.read_list(499.75, "job-1999") == settled
    assert await world.read_list(499.75, settled) is None
    assert len(world.own_jobs._witnesses) == len(world.own_jobs._floors) <= SETTLE_S / 0.25 + 2


@pytest.mark.parametrize("verdict", [Verdict.MISSING, Verdict.REFUSED])
async def test_a_job_is_gone_when_it_is_missing_twice(verdict: Verdict) -> None:
    """`settle_s` apart: the replica that says so may be the one that lags. Then it is no witness any more."""
    world = World()
    world.make("a")
    world.api.errors["a"] = verdict
    assert await world.read_list(SETTLE_S) == "a"
    assert await world.read_list(2 * SETTLE_S - 1.0) == "a"
    assert await world.read_list(2 * SETTLE_S) is None
    del world.api.errors["a"]
    assert await world.read_list(3 * SETTLE_S) == "a"
    world.api.errors["a"] = verdict
    assert await world.read_list(4 * SETTLE_S) == "a"


async def test_a_job_that_can_not_be_asked_for_proves_nothing() -> None:
    """A key that is refused says nothing of a job."""
    world = World()
    world.make("a")
    world.api.errors["a"] = Verdict.KEY_REFUSED
    with pytest.raises(ApiError):
        await world.read_list(SETTLE_S)


async def test_an_api_that_knows_calls_again_asks_for_no_witness() -> None:
    """Its list is filtered by time, and a repeated call gives the same job."""
    world = World()
    world.api.idempotent = True
    world.make("a")
    assert await world.read_list(SETTLE_S) is None
    assert world.api.asked == []


async def test_every_own_job_that_is_listed_shows_the_lists_clock() -> None:
    """With the server's time before which creates say that it can't have been made; others' jobs show nothing."""
    world = World()
    world.make("a", "b")
    await world.read_list(0.0, "b", "stranger", "a")
    assert world.compared == [(1001.0, "b"), (1000.0, "a")]


async def test_jobs_of_earlier_processes_show_the_lists_clock_and_need_not_be_there() -> None:
    """They may be another account's, or long gone. When they were made is known but for how long an answer takes."""
    world = World()
    world.journal.jobs = {"old": 1000.0, "unknown": None}
    await world.read_list(0.0, "old", "unknown")
    assert world.compared == [(940.0, "old"), (None, "unknown")]
    assert await world.read_list(SETTLE_S) is None
    assert world.api.asked == []


async def test_an_own_job_may_be_listed_in_another_spelling() -> None:
    """A UUID in lower case is the one that was answered in upper case."""
    name = "0A6B7C1E-3D2F-4A5B-8C9D-0E1F2A3B4C5D"
    world = World()
    world.make(name)
    assert await world.read_list(SETTLE_S, name.lower()) is None
    assert world.api.asked == []
