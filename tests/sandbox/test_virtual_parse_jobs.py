"""Whole v2 runs over parse jobs, in virtual time: free by the vendor's word, until a bill says otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest

from classify_batch.errors import ExitStatus
from classify_batch.events import Event, Warned
from tests.support.simulated_run import Lab, laboratory

pytestmark = pytest.mark.anyio

PARSE_JOBS = [f"pjb-{number:03}" for number in range(40)]


def credits_of(lab: Lab) -> dict[str, Any]:
    """The manifest's credits."""
    found: dict[str, Any] = json.loads(lab.store.files["manifest.json"])["credits"]
    return found


@contextmanager
def parse_job_laboratory(file_ids: Sequence[str] = PARSE_JOBS, **options: Any) -> Iterator[Lab]:
    """A v2 run over these."""
    with laboratory(version="v2", **options) as lab:
        lab.file_ids = file_ids
        yield lab


class Listener:
    """Keeps the warnings of a run."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    async def observe(self, event: Event) -> None:
        if isinstance(event, Warned):
            self.warnings.append(event.message)


async def test_a_bound_of_nothing_is_enough_for_parse_jobs() -> None:
    """Nothing is set aside for them and nothing is billed; each has its answer, under its own ID."""
    with parse_job_laboratory(limits={"max_credits": 0}) as lab:
        assert (await lab.run()).state == "complete"
        assert set(lab.outcomes()) == set(PARSE_JOBS)
        assert credits_of(lab) == {"reserved": 0, "billed": 0}
        assert lab.app.job_table.credits_spent == 0
        assert await lab.judge() == {}


async def test_files_beside_parse_jobs_cost_what_they_cost() -> None:
    """20 files of five pages at most, one of which is billed; the parse jobs cost nothing."""
    mixed = [*PARSE_JOBS[:20], *(f"file-{number}" for number in range(20))]
    with parse_job_laboratory(mixed, limits={"max_credits": 100}) as lab:
        assert (await lab.run()).state == "complete"
        assert credits_of(lab) == {"reserved": 20, "billed": 20}
    with parse_job_laboratory(mixed, limits={"max_credits": 4}) as lab:
        assert (await lab.run()).exit_status == ExitStatus.PERSON
        assert {file_id[:4] for file_id in lab.outcomes()} == {"pjb-"}


async def test_a_bill_is_reported_once_counts_and_stops_the_run_at_its_bound() -> None:
    """The first bill says that they aren't free: from then on five credits are set aside for each, as for a file."""
    limits = {"max_credits": 20, "jobs_in_flight": 2}
    with parse_job_laboratory(limits=limits, faults={"parse_jobs_billed": True}) as lab:
        listener = Listener()
        lab.observers = [listener]
        ending = await lab.run()
        assert ending.exit_status == ExitStatus.PERSON
        assert "limits.max_credits" in (ending.reason or "")
        assert credits_of(lab)["reserved"] == credits_of(lab)["billed"] == lab.app.job_table.credits_spent
        assert 15 <= lab.app.job_table.credits_spent <= 20
        said = [words for words in listener.warnings if "parse jobs cost nothing" in words]
        assert len(said) == 1
        assert "parse job pjb-0" in said[0]
        assert "was billed 1 credits" in said[0]


async def test_the_next_process_knows_that_parse_jobs_are_billed() -> None:
    """A scheduler that gives the same command again after 77 gets no further jobs out of it."""
    limits = {"max_credits": 20, "jobs_in_flight": 2}
    with parse_job_laboratory(limits=limits, faults={"parse_jobs_billed": True}) as lab:
        for _ in range(4):
            assert (await lab.run()).exit_status == ExitStatus.PERSON
        assert lab.app.job_table.credits_spent <= 20


async def test_without_a_bound_a_bill_is_reported_and_counts() -> None:
    """The run goes on: nobody set a bound."""
    with parse_job_laboratory(faults={"parse_jobs_billed": True}) as lab:
        listener = Listener()
        lab.observers = [listener]
        assert (await lab.run()).state == "complete"
        assert credits_of(lab) == {"reserved": 40, "billed": 40}
        assert sum("parse jobs cost nothing" in words for words in listener.warnings) == 1


@pytest.mark.parametrize("seed", range(4))
async def test_killed_processes_classify_each_parse_job_once(seed: int) -> None:
    """Kills and lost answers: each parse job is classified once, and nothing is paid. Which project it is in, where no
    job has shown it yet, its own record says, since no list of files does."""
    with parse_job_laboratory(
        latency_s=0.05,
        commit_s=0.01,
        job_duration_s=1.0,
        seed=seed,
        limits={"max_credits": 0, "jobs_in_flight": 8},
    ) as lab:
        lab.wire.lose_create_answers(Random(seed), 0.2)
        assert (await lab.run_through_power_cuts(Random(seed), 0.6, 8)).state == "complete"
        assert lab.paid_twice() == []
        assert lab.app.job_table.credits_spent == 0
        assert await lab.judge() == {}


async def test_the_project_of_a_parse_job_is_asked_of_the_job() -> None:
    """The list of files doesn't have it, and its own record names the project."""
    with parse_job_laboratory(PARSE_JOBS[:1]) as lab:
        seen: list[str] = []

        async def note(request: Any) -> None:
            seen.append(request.url.path)

        lab.wire.before = note
        await lab.run_until_power_cut(0.05, max)
        assert (await lab.run()).state == "complete"
        assert "/api/v2/parse/pjb-000" in seen
        assert "/api/v1/beta/files" not in seen
