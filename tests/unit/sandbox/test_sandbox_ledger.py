import json
from dataclasses import replace
from pathlib import Path

import pytest

from classify_batch.errors import DamagedError, UsageError
from classify_batch.protocol import v2
from classify_batch.protocol.v1 import CreateBody
from classify_batch.sandbox.faults.fault_options import Faults
from classify_batch.sandbox.jobs.create_request import parse_create_request
from classify_batch.sandbox.jobs.job_table import JobTable
from classify_batch.sandbox.jobs.ledger import Ledger, read_billed, read_jobs
from classify_batch.sandbox.jobs.sandbox_job import SandboxJob
from classify_batch.sandbox.options import Options
from classify_batch.settings.job_spec import ParsingConfiguration
from classify_batch.vocabulary import JobStatus

ODD = {"doubled": 0.3, "unknown_status": 0.3, "error_first": 0.5, "created_at_jitter_s": 9}
FAULTS = Faults.model_validate({"error": 0.2, "partial": 0.3, "cancelled": 0.1, "stuck": 0.1, **ODD})
RULES = [{"type": "invoice", "description": "has line items, a total and “quotes”"}]


def draft(job_table: JobTable, *file_ids: str) -> SandboxJob:
    given = {"file_ids": file_ids, "rules": RULES, "parsing_configuration": {"max_pages": 2, "target_pages": [0, 3]}}
    return job_table.draft_job(parse_create_request(CreateBody.model_validate(given)), "p", 1.5)


def fill(path: Path, count: int) -> list[SandboxJob]:
    job_table, ledger = JobTable(Options(faults=FAULTS), seed=5), Ledger(path)
    jobs = []
    for number in range(count):
        job = draft(job_table, *(f"file-{number}-{each}" for each in range(10)))
        ledger.append_job(job)
        jobs.append(job_table.add_job(job))
    ledger.close()
    return jobs


def test_jobs_are_read_back_unchanged(tmp_path: Path) -> None:
    """Ending, duration, gaps and configuration are the same after a restart."""
    jobs = fill(tmp_path / "new" / "jobs.jsonl", 30)
    job_table = JobTable(Options(), seed=99)
    for job in read_jobs(tmp_path / "new" / "jobs.jsonl"):
        job_table.add_job(job)
    assert list(job_table) == jobs
    assert {job.ending.status for job in jobs} > {JobStatus.SUCCESS, JobStatus.PARTIAL_SUCCESS}
    assert {each for job in jobs for each in job.ending.oddities} == {"doubled", "unknown_status"}
    assert {job.ending.error_first_s for job in jobs} == {0.0, 5.0}
    assert len({job.clock_shift_s for job in jobs}) == len(jobs)


def test_a_ledger_without_oddities_can_be_read(tmp_path: Path) -> None:
    """Lines that don't say what is odd about a job, its end or its clock come back as jobs with nothing odd."""
    path = tmp_path / "jobs.jsonl"
    jobs = fill(path, 5)
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    for entry in entries:
        del entry["oddities"], entry["error_first_s"], entry["clock_shift_s"]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    plain = [
        replace(job, ending=job.ending._replace(oddities=(), error_first_s=0.0), clock_shift_s=0.0) for job in jobs
    ]
    assert list(read_jobs(path)) == [replace(job, rank=0) for job in plain]


def test_a_ledger_without_versions_can_be_read(tmp_path: Path) -> None:
    """Lines that name no version and no transaction are jobs of v1."""
    path = tmp_path / "jobs.jsonl"
    jobs = fill(path, 3)
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    for entry in entries:
        del entry["version"], entry["transaction_id"]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert list(read_jobs(path)) == [replace(job, rank=0) for job in jobs]
    assert {job.version for job in jobs} == {"v1"}


def fill_v2(path: Path) -> JobTable:
    """A table of a cancelled job, a deleted one and one that is neither, and a job of v1."""
    job_table, ledger = JobTable(Options(), seed=5), Ledger(path)
    for key in ("a", "b", "c"):
        given = {"rules": RULES, "parsing_configuration": {"target_pages": "1,3-5", "lang": "de"}}
        body = v2.CreateBody.model_validate({"file_input": key, "configuration": given, "transaction_id": key})
        job = job_table.draft_job(parse_create_request(body), "p", 1.5)
        ledger.append_job(job)
        job_table.add_job(job)
    job = draft(job_table, "d")
    ledger.append_job(job)
    job_table.add_job(job)
    first, second, *_ = job_table
    ledger.append_cancellation(first, 1.625)
    job_table.cancel_job(first, 1.625)
    ledger.append_deletion(second)
    job_table.delete_job(second)
    ledger.close()
    return job_table


def test_cancelled_and_deleted_v2_jobs_are_read_back(tmp_path: Path) -> None:
    """Cancelled, deleted, with their transactions and briefs: the jobs are as they were, and only answers are paid."""
    job_table = fill_v2(tmp_path / "jobs.jsonl")
    again = JobTable(Options(), seed=99)
    for job in read_jobs(tmp_path / "jobs.jsonl"):
        again.add_job(job)
    assert list(again) == list(job_table)
    assert [job.version for job in again] == ["v2"] * 3 + ["v1"]
    assert next(iter(again)).config.parsing_configuration == ParsingConfiguration(lang="de", target_pages=(0, 2, 3, 4))
    assert again.credits_spent == job_table.credits_spent == 3
    found = [again.find_by_transaction(key, "p", 1e9) for key in ("a", "b", "c")]
    assert [job and job.file_ids for job in found] == [("a",), None, ("c",)]
    assert read_billed(tmp_path / "jobs.jsonl") == {"b": 1, "c": 1, "d": 1}


def test_jobs_of_both_versions_with_the_same_rules_stay_apart(tmp_path: Path) -> None:
    """Jobs of v1 and v2 with the same rules come back each in its version."""
    job_table, ledger = JobTable(Options(), seed=5), Ledger(tmp_path / "jobs.jsonl")
    old = CreateBody.model_validate({"file_ids": ["a"], "rules": RULES})
    new = v2.CreateBody.model_validate({"file_input": "a", "configuration": {"rules": RULES}})
    for body in (old, new, old):
        ledger.append_job(job_table.add_job(job_table.draft_job(parse_create_request(body), "p", 1.5)))
    ledger.close()
    assert [job.version for job in read_jobs(tmp_path / "jobs.jsonl")] == ["v1", "v2", "v1"]


def test_a_cancellation_of_an_unknown_job_is_damage(tmp_path: Path) -> None:
    """A cancellation of a job that no line before it holds is not passed over."""
    path = tmp_path / "jobs.jsonl"
    fill_v2(path)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(DamagedError, match=r"jobs\.jsonl, line 4"):
        list(read_jobs(path))


def test_a_torn_last_line_is_cut_at_every_byte(tmp_path: Path) -> None:
    """Wherever the last line was cut off, the jobs before it come back, and the next job is appended whole."""
    whole = tmp_path / "whole.jsonl"
    jobs = fill(whole, 3)
    text = whole.read_bytes()
    start = text.rindex(b"\n", 0, -1) + 1
    for end in range(start, len(text)):
        torn = tmp_path / "torn.jsonl"
        torn.write_bytes(text[:end])
        assert [job.number for job in read_jobs(torn)] == [1, 2]
        ledger = Ledger(torn)
        ledger.append_job(jobs[2])
        ledger.close()
        assert torn.read_bytes() == text


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    """Damage is not passed over: file and line are named."""
    path = tmp_path / "jobs.jsonl"
    fill(path, 3)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:-5], lines[2]]) + "\n")
    with pytest.raises(DamagedError, match=r"jobs\.jsonl, line 2"):
        list(read_jobs(path))


def test_files_billed_more_than_once_can_be_counted(tmp_path: Path) -> None:
    """The ledger alone proves how often each file was paid for."""
    path = tmp_path / "jobs.jsonl"
    job_table, ledger = JobTable(Options(), seed=5), Ledger(path)
    for file_ids in (["a", "b"], ["b", "c"], ["b"]):
        job = draft(job_table, *file_ids)
        ledger.append_job(job)
        job_table.add_job(job)
    ledger.close()
    assert read_billed(path) == {"a": 1, "b": 3, "c": 1}


def test_a_ledger_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    """A folder in its place is a UsageError with a hint."""
    with pytest.raises(UsageError, match="can't be opened") as caught:
        Ledger(tmp_path)
    assert caught.value.hint
