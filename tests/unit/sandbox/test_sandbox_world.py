import statistics
from typing import Any

from classify_batch.records import JobStatus
from classify_batch.sandbox.faults import Faults
from classify_batch.sandbox.options import Options
from classify_batch.sandbox.world import Job, World, count_billed
from classify_batch.wire.v1 import CreateBody

PROJECT = "p"


def body(*file_ids: str) -> CreateBody:
    rule = {"type": "invoice", "description": "has line items and a total"}
    return CreateBody.model_validate({"file_ids": file_ids or ("f",), "rules": [rule]})


def make_world(count: int = 0, **options: Any) -> tuple[World, list[Job]]:
    world = World(Options(**options), seed=7)
    return world, [world.add(world.draft(body(), PROJECT, float(at_s))) for at_s in range(count)]


def walk(world: World, size: int, now_s: float = 1e9) -> list[str]:
    """The job IDs of all pages."""
    job_ids: list[str] = []
    rank: int | None = None
    while True:
        page = world.page(PROJECT, size, rank, now_s)
        job_ids += [job.job_id for job in page.jobs]
        rank = page.last_rank
        if rank is None:
            return job_ids


def test_state_is_a_function_of_the_moment() -> None:
    """A job is PENDING until its time has come, and what it was destined to be from then on."""
    _, (job,) = make_world(1)
    assert job.status(job.finished_at_s - 0.001) is JobStatus.PENDING
    assert job.status(job.finished_at_s) is JobStatus.SUCCESS


def test_same_seed_same_world() -> None:
    """The same creates at the same times make the same jobs."""
    faults = Faults(error=0.3, partial=0.3)
    assert make_world(20, faults=faults)[1] == make_world(20, faults=faults)[1]


def test_durations_are_lognormal_about_the_median() -> None:
    """Half of the jobs take longer than `job_duration_s`; with sigma 0 all take exactly that."""
    _, jobs = make_world(2_000, job_duration_s=3.0)
    assert 2.8 < statistics.median(job.duration_s for job in jobs) < 3.2
    assert max(job.duration_s for job in jobs) > 9
    _, jobs = make_world(5, job_duration_s=3.0, job_duration_sigma=0)
    assert {job.duration_s for job in jobs} == {3.0}


def test_started_afresh_no_id_is_given_out_again() -> None:
    """A sandbox that starts anew with the same seed at another time has other job IDs."""
    world, (job,) = make_world(1)
    assert World(Options(), seed=world.seed).draft(body(), PROJECT, 99.0).job_id != job.job_id


def test_list_orders() -> None:
    """Newest first, oldest first, or in an order that has nothing to do with time."""
    for order, expected in (("oldest", 1), ("newest", -1)):
        world, jobs = make_world(9, list_order=order)
        assert walk(world, 4) == [job.job_id for job in jobs][::expected]
    world, jobs = make_world(30, list_order="shuffled")
    job_ids = [job.job_id for job in jobs]
    assert sorted(walk(world, 7)) == sorted(job_ids)
    assert walk(world, 7) not in (job_ids, job_ids[::-1])


def test_pages_stand_still_while_jobs_come() -> None:
    """Jobs created between two pages make paging neither skip nor repeat one that was there, in any order."""
    for order in ("newest", "oldest", "shuffled"):
        world, jobs = make_world(25, list_order=order)
        seen: list[str] = []
        rank = None
        while True:
            page = world.page(PROJECT, 3, rank, 1e9)
            seen += [job.job_id for job in page.jobs]
            for _ in range(4 if len(seen) < 25 else 0):
                world.add(world.draft(body(), PROJECT, 1000.0))
            if (rank := page.last_rank) is None:
                break
        assert len(seen) == len(set(seen))
        assert {job.job_id for job in jobs} <= set(seen)


def test_last_page_has_no_successor() -> None:
    """A page that ends exactly at the last job says that it is the last."""
    world, _ = make_world(6)
    assert world.page(PROJECT, 6, None, 0.0).last_rank is None
    assert world.page(PROJECT, 5, None, 0.0).last_rank is not None


def test_jobs_stay_in_their_project() -> None:
    """Another project neither lists nor gives a job."""
    world, (job,) = make_world(1)
    assert world.get(job.job_id, PROJECT, 0.0) is job
    assert world.get(job.job_id, "other", 0.0) is None
    assert world.page("other", 10, None, 0.0).jobs == []


def test_lags_hide_fresh_jobs() -> None:
    """`list_lag_s` hides a fresh job from the list and its total, `get_lag_s` from a get."""
    world, (job,) = make_world(1, faults=Faults(list_lag_s=5, get_lag_s=2))
    assert (walk(world, 1, 4.9), walk(world, 1, 5.0)) == ([], [job.job_id])
    assert (world.page(PROJECT, 1, None, 4.9).total, world.page(PROJECT, 1, None, 5.0).total) == (0, 1)
    assert (world.get(job.job_id, PROJECT, 1.9), world.get(job.job_id, PROJECT, 2.0)) == (None, job)


def test_a_draft_is_not_yet_in_the_world() -> None:
    """A job that could not be kept is not in the world."""
    world, _ = make_world()
    job = world.draft(body(), PROJECT, 0.0)
    assert list(world) == []
    assert world.get(job.job_id, PROJECT, 0.0) is None


def test_unfinished_jobs_are_counted() -> None:
    """The count falls as jobs finish."""
    world, _ = make_world(3, job_duration_s=10, job_duration_sigma=0)
    assert [world.count_unfinished(now_s) for now_s in (9.9, 10.0, 11.5, 12.0)] == [3, 2, 1, 0]


def test_repeated_file_ids_are_one_file() -> None:
    """A file ID given twice in a create is answered once."""
    world, _ = make_world()
    assert world.draft(body("a", "b", "a"), PROJECT, 0.0).file_ids == ("a", "b")


def test_only_answered_files_are_billed() -> None:
    """A file is billed once for each job that answers it: not for jobs that fail, nor for null or absent results."""
    for faults, expected in (
        (Faults(), {"a": 2, "b": 1}),
        (Faults(error=1), {}),
        (Faults(cancelled=1), {}),
        (Faults(null_result=1), {}),
    ):
        world, _ = make_world(faults=faults)
        for file_ids in (["a", "b"], ["a"]):
            world.add(world.draft(body(*file_ids), PROJECT, 0.0))
        assert count_billed(world) == expected


def test_stuck_jobs_stay_and_count() -> None:
    """A stuck job is never finished, is among the unfinished for ever, and is not paid."""
    world, (job,) = make_world(1, faults=Faults(stuck=1))
    assert job.status(1e12) is JobStatus.PENDING
    assert world.count_unfinished(1e12) == 1
    assert (count_billed(world), world.credits_spent) == ({}, 0)


def test_unknown_words_for_a_job_that_is_out() -> None:
    """A job can show QUEUED and RUNNING while it is out, and what it has become at last."""
    _, (job,) = make_world(1, faults=Faults(unknown_status=1), job_duration_s=4, job_duration_sigma=0)
    assert [job.shown_status(at_s) for at_s in (0, 1.9, 2, 3.9, 4)] == ["QUEUED"] * 2 + ["RUNNING"] * 2 + ["SUCCESS"]


def test_credits_are_spent_on_answers_only() -> None:
    """A page a file, twice for MULTIMODAL; jobs that fail cost nothing."""
    world, _ = make_world()
    world.add(world.draft(body("a", "b"), PROJECT, 0.0))
    world.add(world.draft(body("c").model_copy(update={"mode": "MULTIMODAL"}), PROJECT, 0.0))
    assert world.credits_spent == 4
    world, _ = make_world(3, faults=Faults(error=1))
    assert world.credits_spent == 0
