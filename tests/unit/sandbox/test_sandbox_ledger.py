import json
from dataclasses import replace
from pathlib import Path

import pytest

from classify_batch.errors import DamagedError, UsageError
from classify_batch.records import JobStatus
from classify_batch.sandbox.faults import Faults
from classify_batch.sandbox.ledger import Ledger, read_billed, read_jobs
from classify_batch.sandbox.options import Options
from classify_batch.sandbox.world import Job, World
from classify_batch.wire.v1 import CreateBody

FAULTS = Faults(error=0.2, partial=0.3, cancelled=0.1, stuck=0.1, doubled=0.3, unknown_status=0.3)


def draft(world: World, *file_ids: str) -> Job:
    rules = [{"type": "invoice", "description": "has line items, a total and “quotes”"}]
    told = {"file_ids": file_ids, "rules": rules, "parsing_configuration": {"max_pages": 2, "target_pages": [0, 3]}}
    return world.draft(CreateBody.model_validate(told), "p", 1.5)


def fill(path: Path, count: int) -> list[Job]:
    world, ledger = World(Options(faults=FAULTS), seed=5), Ledger(path)
    jobs = []
    for number in range(count):
        job = draft(world, *(f"file-{number}-{each}" for each in range(10)))
        ledger.append(job)
        jobs.append(world.add(job))
    ledger.close()
    return jobs


def test_jobs_come_back_as_they_were(tmp_path: Path) -> None:
    """Outcome, duration, gaps and everything told are the same after a restart."""
    jobs = fill(tmp_path / "new" / "jobs.jsonl", 30)
    world = World(Options(), seed=99)
    for job in read_jobs(tmp_path / "new" / "jobs.jsonl"):
        world.add(job)
    assert list(world) == jobs
    assert {job.ending.status for job in jobs} > {JobStatus.SUCCESS, JobStatus.PARTIAL_SUCCESS}
    assert {each for job in jobs for each in job.ending.oddities} == {"doubled", "unknown_status"}


def test_a_ledger_from_before_oddities_is_read(tmp_path: Path) -> None:
    """Lines that don't say what is odd about a job come back as jobs with nothing odd."""
    path = tmp_path / "jobs.jsonl"
    (job,) = fill(path, 1)
    entry = json.loads(path.read_text())
    del entry["oddities"]
    path.write_text(json.dumps(entry) + "\n")
    assert list(read_jobs(path)) == [replace(job, ending=job.ending._replace(oddities=()), rank=0)]


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
        ledger.append(jobs[2])
        ledger.close()
        assert torn.read_bytes() == text


def test_a_whole_line_that_is_no_job_is_named(tmp_path: Path) -> None:
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
    world, ledger = World(Options(), seed=5), Ledger(path)
    for file_ids in (["a", "b"], ["b", "c"], ["b"]):
        job = draft(world, *file_ids)
        ledger.append(job)
        world.add(job)
    ledger.close()
    assert read_billed(path) == {"a": 1, "b": 3, "c": 1}


def test_a_ledger_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    """A folder in its place is a UsageError with a hint."""
    with pytest.raises(UsageError, match="can't be opened") as caught:
        Ledger(tmp_path)
    assert caught.value.hint
