import statistics
from dataclasses import replace
from typing import Any

import pytest

from classify_batch.protocol import v2
from classify_batch.protocol.v1 import CreateBody
from classify_batch.sandbox.documents.project import Version
from classify_batch.sandbox.faults.fault_options import Faults
from classify_batch.sandbox.jobs.create_request import CreateRequest, parse_create_request
from classify_batch.sandbox.jobs.job_table import JobTable, count_billed
from classify_batch.sandbox.jobs.sandbox_job import SandboxJob
from classify_batch.sandbox.options import Options
from classify_batch.settings.job_spec import ParsingConfiguration
from classify_batch.vocabulary import JobStatus

PROJECT = "p"


def make_create_request(*file_ids: str) -> CreateRequest:
    rule = {"type": "invoice", "description": "has line items and a total"}
    return parse_create_request(CreateBody.model_validate({"file_ids": file_ids or ("f",), "rules": [rule]}))


def make_create_request_v2(
    file_id: str = "f", transaction_id: str | None = None, **configuration: Any
) -> CreateRequest:
    rule = {"type": "invoice", "description": "has line items and a total"}
    body = {
        "file_input": file_id,
        "configuration": {"rules": [rule], **configuration},
        "transaction_id": transaction_id,
    }
    return parse_create_request(v2.CreateBody.model_validate(body))


def make_job_table(count: int = 0, **options: Any) -> tuple[JobTable, list[SandboxJob]]:
    job_table = JobTable(Options(**options), seed=7)
    return job_table, [
        job_table.add_job(job_table.draft_job(make_create_request(), PROJECT, float(at_s))) for at_s in range(count)
    ]


def read_all_job_ids(job_table: JobTable, size: int, now_s: float = 1e9) -> list[str]:
    """The job IDs of all pages."""
    job_ids: list[str] = []
    rank: int | None = None
    while True:
        page = job_table.read_page(PROJECT, size, rank, now_s)
        job_ids += [job.job_id for job in page.jobs]
        rank = page.next_position
        if rank is None:
            return job_ids


def test_a_job_is_pending_until_its_time_has_come() -> None:
    """A job is PENDING until its time has come, and what it was destined to be from then on."""
    _, (job,) = make_job_table(1)
    assert job.status(job.finished_at_s - 0.001) is JobStatus.PENDING
    assert job.status(job.finished_at_s) is JobStatus.SUCCESS


def test_a_job_can_show_error_before_its_real_end() -> None:
    """From its end on it is ERROR with a reason, later what it was destined to be; each is a change of its status."""
    faults = Faults(error_first=1, error_first_s=5)
    _, (job,) = make_job_table(1, faults=faults, job_duration_s=10, job_duration_sigma=0)
    moments = (9.9, 10.0, 14.9, 15.0)
    assert [job.status(at_s) for at_s in moments] == ["PENDING", "ERROR", "ERROR", "SUCCESS"]
    assert [job.error_message(at_s) for at_s in moments] == [None, "TIMEOUT", "TIMEOUT", None]
    assert [job.changed_at_s(at_s) for at_s in moments] == [0.0, 10.0, 10.0, 15.0]
    assert count_billed([job]) == {"f": 1}


def test_shown_times_can_be_shifted_for_each_job() -> None:
    """What it shows is shifted, forth or back, by no more than set; what it lives by, and the others' lots, are not."""
    _, jobs = make_job_table(200, faults=Faults(created_at_jitter_s=30))
    shifts = [job.clock_shift_s for job in jobs]
    assert min(shifts) < -20 < 20 < max(shifts)
    assert max(map(abs, shifts)) <= 30
    assert all(job.shown_created_at_s == job.created_at_s + job.clock_shift_s for job in jobs)
    assert [replace(job, clock_shift_s=0.0) for job in jobs] == make_job_table(200)[1]


def test_the_same_seed_makes_the_same_jobs() -> None:
    """The same creates at the same times make the same jobs."""
    faults = Faults(error=0.3, partial=0.3)
    assert make_job_table(20, faults=faults)[1] == make_job_table(20, faults=faults)[1]


def test_durations_are_lognormal_about_the_median() -> None:
    """Half of the jobs take longer than `job_duration_s`; with sigma 0 all take exactly that."""
    _, jobs = make_job_table(2_000, job_duration_s=3.0)
    assert 2.8 < statistics.median(job.duration_s for job in jobs) < 3.2
    assert max(job.duration_s for job in jobs) > 9
    _, jobs = make_job_table(5, job_duration_s=3.0, job_duration_sigma=0)
    assert {job.duration_s for job in jobs} == {3.0}


def test_job_ids_are_new_after_a_fresh_start() -> None:
    """A sandbox that starts anew with the same seed at another time has other job IDs."""
    job_table, (job,) = make_job_table(1)
    assert JobTable(Options(), seed=job_table.seed).draft_job(make_create_request(), PROJECT, 99.0).job_id != job.job_id


def test_the_list_is_sorted_by_its_order() -> None:
    """Newest first, oldest first, or in an order that has nothing to do with time."""
    for order, expected in (("oldest", 1), ("newest", -1)):
        job_table, jobs = make_job_table(9, list_order=order)
        assert read_all_job_ids(job_table, 4) == [job.job_id for job in jobs][::expected]
    job_table, jobs = make_job_table(30, list_order="shuffled")
    job_ids = [job.job_id for job in jobs]
    assert sorted(read_all_job_ids(job_table, 7)) == sorted(job_ids)
    assert read_all_job_ids(job_table, 7) not in (job_ids, job_ids[::-1])


def test_the_list_can_be_sorted_by_last_change() -> None:
    """A job stands in front when it ends, in front of all that changed before, made later or not."""
    # Created at 0, 1, 2 and 3 s.
    job_table, jobs = make_job_table(4, list_order="changed", job_duration_s=10, job_duration_sigma=0)
    order = {job.job_id: job.number for job in jobs}
    shown = {
        at_s: [order[job_id] for job_id in read_all_job_ids(job_table, 9, at_s)] for at_s in (3.0, 10.0, 11.5, 13.0)
    }
    assert shown == {3.0: [4, 3, 2, 1], 10.0: [1, 4, 3, 2], 11.5: [2, 1, 4, 3], 13.0: [4, 3, 2, 1]}
    assert [order[job_id] for job_id in read_all_job_ids(job_table, 2, 11.5)] == [2, 1, 4, 3]


def test_a_reader_can_miss_a_job_by_last_change() -> None:
    """A job that ends between two pages comes to the front: behind the reader, who gets another one twice."""
    job_table, _ = make_job_table(4, list_order="changed", job_duration_s=10, job_duration_sigma=0)
    first = job_table.read_page(PROJECT, 2, None, 9.0)
    rest = job_table.read_page(PROJECT, 2, first.next_position, 10.0)
    assert [job.number for job in (*first.jobs, *rest.jobs)] == [4, 3, 3, 2]
    assert (first.total, rest.total, rest.next_position) == (4, 4, None)


def test_a_v2_job_also_changes_when_it_runs() -> None:
    """From PENDING to RUNNING it moves to the front as well."""
    job_table, _ = make_job_table(list_order="changed", job_duration_s=10, job_duration_sigma=0)
    for at_s in (0.0, 3.0):
        job_table.add_job(job_table.draft_job(make_create_request_v2(), PROJECT, at_s))
    shown = [
        [job.number for job in job_table.read_page(PROJECT, 9, None, at_s, "v2").jobs] for at_s in (4.0, 5.0, 8.0, 10.0)
    ]
    assert shown == [[2, 1], [1, 2], [2, 1], [1, 2]]


def test_pages_stay_the_same_while_jobs_are_added() -> None:
    """Jobs created between two pages make paging neither skip nor repeat one that was there, in any order."""
    for order in ("newest", "oldest", "shuffled"):
        job_table, jobs = make_job_table(25, list_order=order)
        seen: list[str] = []
        rank = None
        while True:
            page = job_table.read_page(PROJECT, 3, rank, 1e9)
            seen += [job.job_id for job in page.jobs]
            for _ in range(4 if len(seen) < 25 else 0):
                job_table.add_job(job_table.draft_job(make_create_request(), PROJECT, 1000.0))
            if (rank := page.next_position) is None:
                break
        assert len(seen) == len(set(seen))
        assert {job.job_id for job in jobs} <= set(seen)


def test_the_last_page_names_no_next_one() -> None:
    """A page that ends exactly at the last job says that it is the last."""
    job_table, _ = make_job_table(6)
    assert job_table.read_page(PROJECT, 6, None, 0.0).next_position is None
    assert job_table.read_page(PROJECT, 5, None, 0.0).next_position is not None


def test_a_job_shows_in_its_own_project_only() -> None:
    """Another project neither lists nor gives a job."""
    job_table, (job,) = make_job_table(1)
    assert job_table.find_job(job.job_id, PROJECT, 0.0) is job
    assert job_table.find_job(job.job_id, "other", 0.0) is None
    assert job_table.read_page("other", 10, None, 0.0).jobs == []


def test_new_jobs_are_hidden_while_they_lag() -> None:
    """`list_lag_s` hides a fresh job from the list and its total, `get_lag_s` from a get."""
    job_table, (job,) = make_job_table(1, faults=Faults(list_lag_s=5, get_lag_s=2))
    assert (read_all_job_ids(job_table, 1, 4.9), read_all_job_ids(job_table, 1, 5.0)) == ([], [job.job_id])
    assert (job_table.read_page(PROJECT, 1, None, 4.9).total, job_table.read_page(PROJECT, 1, None, 5.0).total) == (
        0,
        1,
    )
    assert (job_table.find_job(job.job_id, PROJECT, 1.9), job_table.find_job(job.job_id, PROJECT, 2.0)) == (None, job)


def test_the_list_can_hide_a_job_for_a_time() -> None:
    """From `list_hides_after_s` on, for `list_hides_for_s`, it is not in the list nor in its total; a get has it."""
    job_table, (job,) = make_job_table(1, faults=Faults(list_hides_after_s=10, list_hides_for_s=5))
    moments = [0.0, 9.9, 10.0, 14.9, 15.0, 1e9]
    assert [read_all_job_ids(job_table, 1, at_s) == [job.job_id] for at_s in moments] == [
        True,
        True,
        False,
        False,
        True,
        True,
    ]
    assert [job_table.read_page(PROJECT, 1, None, at_s).total for at_s in moments] == [1, 1, 0, 0, 1, 1]
    assert {job_table.find_job(job.job_id, PROJECT, at_s) for at_s in moments} == {job}
    job_table, (job,) = make_job_table(1, faults=Faults(list_hides_for_s=5, list_lag_s=7))
    assert [len(read_all_job_ids(job_table, 1, at_s)) for at_s in (4.9, 5.0, 6.9, 7.0)] == [0, 0, 0, 1]


def test_pages_stay_the_same_while_jobs_are_hidden() -> None:
    """A job that vanishes between two pages takes no other with it."""
    job_table, jobs = make_job_table(10, faults=Faults(list_hides_after_s=100, list_hides_for_s=3))
    first = job_table.read_page(PROJECT, 4, None, 99.0)
    rest = job_table.read_page(PROJECT, 100, first.next_position, 105.0)
    assert [job.number for job in (*first.jobs, *rest.jobs)] == [10, 9, 8, 7, 3, 2, 1]
    assert rest.total == len(jobs) - 3


def test_a_drafted_job_is_not_in_the_table() -> None:
    """A job that could not be kept is not in the table."""
    job_table, _ = make_job_table()
    job = job_table.draft_job(make_create_request(), PROJECT, 0.0)
    assert list(job_table) == []
    assert job_table.find_job(job.job_id, PROJECT, 0.0) is None


def test_unfinished_jobs_are_counted() -> None:
    """The count falls as jobs finish."""
    job_table, _ = make_job_table(3, job_duration_s=10, job_duration_sigma=0)
    assert [job_table.count_unfinished(now_s) for now_s in (9.9, 10.0, 11.5, 12.0)] == [3, 2, 1, 0]


def test_repeated_file_ids_are_one_file() -> None:
    """A file ID given twice in a create is answered once."""
    job_table, _ = make_job_table()
    assert job_table.draft_job(make_create_request("a", "b", "a"), PROJECT, 0.0).file_ids == ("a", "b")


def test_only_answered_files_are_billed() -> None:
    """A file is billed once for each job that answers it: not for jobs that fail, nor for null or absent results."""
    for faults, expected in (
        (Faults(), {"a": 2, "b": 1}),
        (Faults(error=1), {}),
        (Faults(cancelled=1), {}),
        (Faults(null_result=1), {}),
    ):
        job_table, _ = make_job_table(faults=faults)
        for file_ids in (["a", "b"], ["a"]):
            job_table.add_job(job_table.draft_job(make_create_request(*file_ids), PROJECT, 0.0))
        assert count_billed(job_table) == expected


def test_a_stuck_job_counts_as_unfinished() -> None:
    """A stuck job is never finished, is among the unfinished for ever, and is not paid."""
    job_table, (job,) = make_job_table(1, faults=Faults(stuck=1))
    assert job.status(1e12) is JobStatus.PENDING
    assert job_table.count_unfinished(1e12) == 1
    assert (count_billed(job_table), job_table.credits_spent) == ({}, 0)


def test_an_unfinished_job_can_show_unknown_statuses() -> None:
    """A job can show QUEUED and RUNNING while it is out, and what it has become at last."""
    _, (job,) = make_job_table(1, faults=Faults(unknown_status=1), job_duration_s=4, job_duration_sigma=0)
    assert [job.shown_status(at_s) for at_s in (0, 1.9, 2, 3.9, 4)] == ["QUEUED"] * 2 + ["RUNNING"] * 2 + ["SUCCESS"]


def test_only_answers_cost_credits() -> None:
    """A page a file, twice for MULTIMODAL; jobs that fail cost nothing."""
    job_table, _ = make_job_table()
    job_table.add_job(job_table.draft_job(make_create_request("a", "b"), PROJECT, 0.0))
    job_table.add_job(job_table.draft_job(make_create_request("c")._replace(mode="MULTIMODAL"), PROJECT, 0.0))
    assert job_table.credits_spent == 4
    job_table, _ = make_job_table(3, faults=Faults(error=1))
    assert job_table.credits_spent == 0


# --- v2 -------------------------------------------------------------------------------------------------------------


def test_a_v2_create_is_about_one_file() -> None:
    """Its file, its transaction, and pages counted from 0 inside; what both versions read means the same."""
    parsing = {"lang": "de", "max_pages": 3, "target_pages": "1,3-5"}
    order = make_create_request_v2("a", "t", parsing_configuration=parsing)
    assert (order.file_ids, order.transaction_id, order.mode) == (("a",), "t", "FAST")
    assert (order.config.rules, order.config.version) == (make_create_request().config.rules, "v2")
    assert order.config.parsing_configuration == ParsingConfiguration(lang="de", max_pages=3, target_pages=(0, 2, 3, 4))
    assert make_create_request_v2().config.parsing_configuration is None


def test_each_version_shows_its_own_jobs() -> None:
    """Lists, gets and transactions know the version and the project."""
    job_table, (old,) = make_job_table(1)
    new = job_table.add_job(job_table.draft_job(make_create_request_v2("a", "t"), PROJECT, 0.0))
    assert job_table.find_job(old.job_id, PROJECT, 0.0, "v2") is None
    assert job_table.find_job(new.job_id, PROJECT, 0.0) is None
    assert job_table.find_job(new.job_id, PROJECT, 0.0, "v2") is new
    assert [job_table.read_page(PROJECT, 9, None, 0.0, version).jobs for version in ("v1", "v2")] == [[old], [new]]
    assert job_table.select_by_id([old.job_id, new.job_id, "nope"], PROJECT, "v2") == [new]
    assert (job_table.find_by_transaction("t", PROJECT, 1e9), job_table.find_by_transaction("t", "other", 0.0)) == (
        new,
        None,
    )


@pytest.mark.parametrize("list_order", ["newest", "oldest", "shuffled", "changed"])
def test_jobs_selected_by_id_keep_the_list_order(list_order: str) -> None:
    """Asked for by ID, jobs come as the list has them, each once, and in pages."""
    job_table, _ = make_job_table(list_order=list_order)
    jobs = [
        job_table.add_job(job_table.draft_job(make_create_request_v2(str(number)), PROJECT, 0.0))
        for number in range(20)
    ]
    whole = list(job_table.read_page(PROJECT, 20, None, 0.0, "v2").jobs)
    wanted = [job.job_id for job in jobs[::3]]
    some = job_table.select_by_id([*wanted, wanted[0]], PROJECT, "v2")
    assert some == [job for job in whole if job.job_id in wanted]
    first = job_table.read_page(PROJECT, 4, None, 0.0, "v2", some)
    rest = job_table.read_page(PROJECT, 4, first.next_position, 0.0, "v2", some)
    assert [*first.jobs, *rest.jobs] == some
    assert (first.total, rest.next_position) == (7, None)


@pytest.mark.parametrize("stuck", [0, 1])
@pytest.mark.parametrize("list_order", ["newest", "oldest", "shuffled", "changed"])
def test_a_cancelled_job_is_finished_in_every_view(list_order: str, stuck: int) -> None:
    """List, get, count and credits know of it, and the other jobs are as they were."""
    job_table, _ = make_job_table(
        list_order=list_order, faults=Faults(stuck=stuck), job_duration_s=10, job_duration_sigma=0
    )
    jobs = [
        job_table.add_job(job_table.draft_job(make_create_request_v2(str(number)), PROJECT, 0.0)) for number in range(5)
    ]
    cancelled = job_table.cancel_job(jobs[2], 4.0)
    assert cancelled.status(4.0) is JobStatus.CANCELLED
    assert cancelled.finished_at_s == 4.0
    assert job_table.find_job(cancelled.job_id, PROJECT, 4.0, "v2") is cancelled
    assert set(job_table.read_page(PROJECT, 9, None, 4.0, "v2").jobs) == {*jobs[:2], cancelled, *jobs[3:]}
    assert list(job_table) == [*jobs[:2], cancelled, *jobs[3:]]
    assert [job_table.count_unfinished(now_s) for now_s in (4.0, 9.0, 10.0)] == [4, 4, 4 * stuck]
    assert (job_table.credits_spent, len(count_billed(job_table))) == (4 - 4 * stuck, 4 - 4 * stuck)


@pytest.mark.parametrize("later_first", [False, True])
def test_a_transaction_can_be_forgotten(later_first: bool) -> None:
    """So long after its job was created; from then on it gives the next job by it back, until that one is deleted."""
    job_table, _ = make_job_table(job_duration_s=0, forget_transactions_after_s=10)
    first = job_table.add_job(job_table.draft_job(make_create_request_v2("a", "t"), PROJECT, 0.0))
    assert [job_table.find_by_transaction("t", PROJECT, at_s) for at_s in (9.9, 10.0)] == [first, None]
    second = job_table.add_job(job_table.draft_job(make_create_request_v2("a", "t"), PROJECT, 12.0))
    assert [job_table.find_by_transaction("t", PROJECT, at_s) for at_s in (12.0, 21.9, 22.0)] == [second, second, None]
    job_table.delete_job(second if later_first else first)
    assert job_table.find_by_transaction("t", PROJECT, 12.0) is (None if later_first else second)
    job_table.delete_job(first if later_first else second)
    assert job_table.find_by_transaction("t", PROJECT, 12.0) is None
    assert count_billed(job_table) == {"a": 2}


def test_the_latest_job_is_the_clients_own() -> None:
    """The one that the client made last, in this version, if it is shown; others' jobs are not meant."""
    job_table, (_, old) = make_job_table(2)
    first = job_table.add_job(job_table.draft_job(make_create_request_v2(), PROJECT, 0.0))
    second = job_table.add_job(job_table.draft_job(make_create_request_v2(), PROJECT, 0.0))
    elsewhere = job_table.add_job(job_table.draft_job(make_create_request_v2(), "other", 0.0))
    job_table.add_job(job_table.draft_overlapping_job(second, 0.0))
    asked: list[tuple[str, Version]] = [(PROJECT, "v1"), (PROJECT, "v2"), ("other", "v2"), ("other", "v1")]
    assert [job_table.latest_job(project_id, version) for project_id, version in asked] == [
        old,
        second,
        elsewhere,
        None,
    ]
    job_table.delete_job(second)
    assert job_table.latest_job(PROJECT, "v2") == first


def test_a_deleted_job_stays_billed() -> None:
    """It is shown nowhere, its transaction is free, and its number isn't given out again."""
    job_table, _ = make_job_table(job_duration_s=0)
    jobs = [job_table.add_job(job_table.draft_job(make_create_request_v2(each, each), PROJECT, 0.0)) for each in "abc"]
    job_table.delete_job(jobs[1])
    assert job_table.find_job(jobs[1].job_id, PROJECT, 1.0, "v2") is None
    assert job_table.find_by_transaction("b", PROJECT, 1.0) is None
    assert set(job_table.read_page(PROJECT, 9, None, 1.0, "v2").jobs) == {jobs[0], jobs[2]}
    assert (job_table.credits_spent, count_billed(job_table)) == (3, {"a": 1, "b": 1, "c": 1})
    assert job_table.draft_job(make_create_request_v2(), PROJECT, 1.0).number == 4
