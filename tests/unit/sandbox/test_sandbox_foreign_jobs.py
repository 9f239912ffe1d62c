from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from classify_batch.protocol import v1, v2
from classify_batch.sandbox.faults.fault_options import Faults
from classify_batch.sandbox.jobs.create_request import parse_create_request
from classify_batch.sandbox.jobs.foreign_jobs import overlapping_create_request
from classify_batch.sandbox.jobs.job_table import JobTable, count_billed
from classify_batch.sandbox.jobs.ledger import Ledger, read_billed, read_jobs
from classify_batch.sandbox.jobs.sandbox_job import SandboxJob
from classify_batch.sandbox.options import Options
from classify_batch.vocabulary import JobStatus

RULES = [{"type": "invoice", "description": "has line items and a total"}]


def make_job_table(**faults: Any) -> JobTable:
    return JobTable(Options(faults=Faults(**faults)), seed=3)


def make_job(job_table: JobTable, *file_ids: str, mode: str = "FAST") -> SandboxJob:
    body = v1.CreateBody.model_validate({"file_ids": file_ids, "rules": RULES, "mode": mode})
    return job_table.add_job(job_table.draft_job(parse_create_request(body), "p", 5.0))


def make_job_v2(job_table: JobTable) -> SandboxJob:
    body = {"file_input": "a", "configuration": {"rules": RULES}, "transaction_id": "t"}
    return job_table.add_job(job_table.draft_job(parse_create_request(v2.CreateBody.model_validate(body)), "p", 5.0))


@pytest.mark.parametrize(("count", "shared"), [(1, 1), (4, 2), (5, 3), (499, 250)])
def test_a_foreign_job_shares_half_of_the_files(count: int, shared: int) -> None:
    """A random half of them, rounded up, and as many others, all mixed, by the same rules and within the limit."""
    file_ids = [f"file-{number}" for number in range(count)]
    job = make_job(make_job_table(), *file_ids)
    create_requests = [overlapping_create_request(job, None, Random(seed)) for seed in range(20)]
    for create_request in create_requests:
        assert len(create_request.file_ids) == len(set(create_request.file_ids)) == 2 * shared <= 500
        assert len(set(create_request.file_ids) & set(file_ids)) == shared
        assert (create_request.config, create_request.mode, create_request.transaction_id) == (job.config, "FAST", None)
    if count > 1:
        assert len({frozenset(create_request.file_ids) for create_request in create_requests}) > 1


@pytest.mark.parametrize(("mode", "expected"), [(None, "MULTIMODAL"), ("FAST", "FAST")])
def test_a_foreign_job_can_have_another_mode(mode: str | None, expected: str) -> None:
    """On v1 the one that is set, else the job's."""
    assert (
        overlapping_create_request(make_job(make_job_table(), "a", mode="MULTIMODAL"), mode, Random(1)).mode == expected
    )


def test_on_v2_a_foreign_job_has_the_same_file() -> None:
    """In the mode that v2 has, and by no transaction: that is the client's own."""
    create_request = overlapping_create_request(make_job_v2(make_job_table()), "MULTIMODAL", Random(1))
    assert (create_request.file_ids, create_request.mode, create_request.transaction_id) == (("a",), "FAST", None)


def test_foreign_jobs_have_their_own_durations_and_endings() -> None:
    """Each has its own duration and end, half of them with gaps, and the project of the job that it overlaps."""
    job_table = make_job_table()
    jobs = [make_job(job_table, *"abcdefgh") for _ in range(100)]
    others = [job_table.add_job(job_table.draft_overlapping_job(job, 6.0)) for job in jobs]
    assert {(job.by_other, job.project_id, job.created_at_s) for job in others} == {(True, "p", 6.0)}
    ends = Counter(job.ending.status for job in others)
    assert set(ends) == {JobStatus.SUCCESS, JobStatus.PARTIAL_SUCCESS}
    assert 35 < ends[JobStatus.PARTIAL_SUCCESS] < 65
    assert len({job.job_id for job in job_table}) == 200
    assert len({job.duration_s for job in others}) == 100
    assert {make_job_table(error=1).draft_overlapping_job(jobs[0], 6.0).ending.status} == {JobStatus.ERROR}


def test_the_client_pays_only_for_its_own_jobs() -> None:
    """Foreign jobs are in the table and count as unfinished, but are never billed to the client, even cancelled
    ones."""
    job_table = make_job_table()
    job = make_job_v2(job_table)
    others = [job_table.add_job(job_table.draft_overlapping_job(job, 5.0)) for _ in range(10)]
    assert (list(job_table), job_table.count_unfinished(5.0)) == ([job, *others], 11)
    assert sum(other.credits for other in others) > 0
    assert (job_table.credits_spent, count_billed(job_table)) == (1, {"a": 1})
    for other in others:
        job_table.cancel_job(other, 5.0)
    assert (job_table.credits_spent, job_table.count_unfinished(5.0)) == (1, 1)


def test_the_ledger_keeps_which_jobs_are_foreign(tmp_path: Path) -> None:
    """Read back, others' jobs are others' still, and not on the client's bill."""
    path = tmp_path / "jobs.jsonl"
    job_table, ledger = make_job_table(), Ledger(path)
    for _ in range(5):
        job = make_job(job_table, "a", "b")
        ledger.append_job(job)
        ledger.append_job(job_table.add_job(job_table.draft_overlapping_job(job, 6.0)))
    ledger.close()
    again = make_job_table()
    for job in read_jobs(path):
        again.add_job(job)
    assert list(again) == list(job_table)
    assert [job.by_other for job in again] == [False, True] * 5
    assert read_billed(path) == count_billed(job_table) == {"a": 5, "b": 5}
    assert again.credits_spent == job_table.credits_spent == 10


def test_a_ledger_without_foreign_jobs_can_be_read(tmp_path: Path) -> None:
    """Lines that don't say whose a job is are the client's."""
    path = tmp_path / "jobs.jsonl"
    ledger = Ledger(path)
    ledger.append_job(make_job(make_job_table(), "a"))
    ledger.close()
    path.write_text(path.read_text().replace(',"by_other":false', ""))
    assert "by_other" not in path.read_text()
    assert [job.by_other for job in read_jobs(path)] == [False]
