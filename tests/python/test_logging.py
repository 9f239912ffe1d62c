"""The caller's logging sees what happens in a run, and every record says what it is about."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest

from classify_batch import UsageError, arun, open_run, run
from tests.support.command_line import KEY, sandbox
from tests.support.sandbox_settings import IDS, sandbox_settings


def test_info_has_starts_and_stops(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At INFO: how the run began and how it ended, each with the run's ID, and no line for each job."""
    with caplog.at_level(logging.INFO, "classify_batch"):
        result = run(sandbox_settings(), IDS, tmp_path / "run")
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "run started: 0 of 25 files have their outcome",
        "run complete, exit status 0: 25 classified, 0 unmatched, 0 failed",
    ]
    assert {record.__dict__["run"] for record in caplog.records} == {result.manifest["run_id"]}


def test_debug_has_requests_and_jobs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG: each call and each job, with the chunk and the job that it is about; never the key."""
    with caplog.at_level(logging.DEBUG, "classify_batch"):
        run(sandbox_settings(), IDS, tmp_path / "run")
    jobs = {each.job_id for each in open_run(tmp_path / "run").outcomes()}
    creates = [record for record in caplog.records if record.getMessage().startswith("create in ")]
    assert sorted(record.__dict__["chunk"] for record in creates) == [0, 1, 2]
    for message in ("create in ", "job created", "job finished", "results in ", "outcomes committed"):
        about = {record.__dict__["job"] for record in caplog.records if record.getMessage().startswith(message)}
        assert about == jobs, message
    assert all({"run", "chunk", "job"} <= set(vars(record)) for record in caplog.records)


def test_records_of_two_runs_can_be_distinguished(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two runs in one loop: each record has the ID of its own run."""

    async def main() -> None:
        await asyncio.gather(*(arun(sandbox_settings(), IDS, tmp_path / name) for name in ("one", "two")))

    with caplog.at_level(logging.DEBUG, "classify_batch"):
        asyncio.run(main())
    for name in ("one", "two"):
        opened = open_run(tmp_path / name)
        jobs = {each.job_id for each in opened.outcomes()}
        runs = {record.__dict__["run"] for record in caplog.records if record.__dict__["job"] in jobs}
        assert runs == {opened.status["run_id"]}


def test_an_error_is_said_with_the_stop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused key: the calls that failed, and why the run stopped; the key itself is in no record."""
    secret = "llx-another-s3cr3t"
    monkeypatch.setenv("LLAMA_CLOUD_API_KEY", secret)
    with sandbox() as base_url, caplog.at_level(logging.DEBUG, "classify_batch"):
        result = run(sandbox_settings(api={"base_url": base_url}), IDS, tmp_path / "run")
    assert result.exit_status == 77
    said = [record.getMessage() for record in caplog.records]
    assert any("HTTP 401" in each for each in said)
    assert any(each.startswith("stopping: ") for each in said)
    assert any(each.startswith("run incomplete, exit status 77") for each in said)
    assert not any(secret in each or KEY in each for each in said)
    assert json.dumps(said)


def test_a_library_that_nobody_listens_to_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without a handler nothing is printed."""
    run(sandbox_settings(), IDS, tmp_path / "run")
    with pytest.raises(UsageError):
        run(sandbox_settings(), [], tmp_path / "other")
    assert capfd.readouterr() == ("", "")
