"""`cancel` of a run with shards: where a shard is at work, where none is, and between two of them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE

import pytest

from classify_batch import cancel
from tests.support.command_line import command, contents, environment, read_status, sandbox, small_jobs_config, until
from tests.support.start_command import COMMAND, CommandProcess

WAIT_S = 120.0
FILES = 12
LONG_JOB_S = 3.0
"""Of jobs that are still in flight when a busy machine comes to cancelling them."""


@pytest.fixture(params=["v1", "v2"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def job_s() -> float:
    return 0.1


@pytest.fixture
def server(job_s: float) -> Iterator[str]:
    with sandbox("--job-duration-s", str(job_s)) as base_url:
        yield base_url


@pytest.fixture
def work(tmp_path: Path, server: str, version: str) -> Path:
    config = small_jobs_config(server, version=version, files_per_job=4, jobs_in_flight=4, settle_s=0.3, drain_s=10)
    (tmp_path / "job.toml").write_text(config)
    (tmp_path / "ids.txt").write_text("".join(f"file-{n}\n" for n in range(FILES)))
    return tmp_path


def words(work: Path, *options: str) -> list[str]:
    """The arguments of `run` and `plan`, for three shards of one job each."""
    return [str(work / "job.toml"), "--input", str(work / "ids.txt"), "--run-dir", str(work / "run"), *options]


@contextmanager
def start(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command in a process of its own, which is killed at the end of the block, if it is still there."""
    with CommandProcess([*arguments], stdout=PIPE, stderr=PIPE, text=True, env=environment()) as process:
        try:
            yield process
        finally:
            process.kill()


def goes_on_well(work: Path) -> None:
    """`resume` carries all shards out, and each file has one outcome."""
    command("resume", work / "run", status=0)
    command("verify", work / "run", status=0)
    status = read_status(work / "run")
    assert (status["state"], sum(status["counts"].values()), "cancel" in status) == ("complete", FILES, False)


@pytest.mark.parametrize(("version", "job_s"), [("v1", LONG_JOB_S)])
def test_a_shard_that_completes_while_the_run_is_cancelled_leaves_it_cancelled(work: Path) -> None:
    """v1 can't cancel: the only begun shard completes, and nobody is at work any more. The command ends with 77, as the
    process does, and not with words about another process."""
    journal = work / "run" / "shards" / "00000" / "journal.jsonl"
    with start(*COMMAND, "run", *words(work, "--shards", "3")) as process:
        until(lambda: journal.exists() and b'"submitted"' in journal.read_bytes(), process)
        done = command("cancel", work / "run", "--json", status=77)
        assert (process.wait(WAIT_S), read_status(work / "run")["shards"][0]["state"]) == (77, "complete")
    assert "state       incomplete: shard 1: cancelled\n" in done.stderr
    status = read_status(work / "run")
    assert (status["reason"], status["exit_status"], status["cancel"]) == ("shard 1: cancelled", 77, "done")
    assert f"next: classify-batch resume {work / 'run'}\n" in done.stderr
    manifest = json.loads(done.stdout)
    assert (manifest["state"], manifest["exit_status"], manifest["cancel"]) == ("incomplete", 77, "done")
    goes_on_well(work)


def test_a_complete_run_with_shards_keeps_its_status(work: Path) -> None:
    """Nothing is left to cancel: 0 or 1 as before, without a key, and nothing is written. Another run's settings are
    refused."""
    command("run", *words(work, "--shards", "3"), status=0)
    before = contents(work / "run")
    done = command("cancel", work / "run", status=0, environ={"LLAMA_CLOUD_API_KEY": None})
    assert "complete already" in done.stderr
    assert (cancel(work / "run").exit_status, contents(work / "run")) == (0, before)
    other = work / "other.toml"
    other.write_text((work / "job.toml").read_text().replace('"invoice"', '"letter"'))
    assert "hint:" in command("cancel", work / "run", "--config", other, status=2).stderr
    assert contents(work / "run") == before


def test_a_planned_run_with_shards_is_cancelled_as_one_without(work: Path) -> None:
    """No shard was begun: 77, also when it is cancelled twice; `status` says so later, and `resume` goes on."""
    command("plan", *words(work, "--shards", "3"), status=0)
    for _ in range(2):
        done = command("cancel", work / "run", "--json", status=77)
        assert "state       incomplete: shard 0: cancelled\n" in done.stderr
        assert json.loads(done.stdout)["cancel"] == "done"
        status = read_status(work / "run")
        assert (status["exit_status"], status["cancel"], status["jobs"]) == (77, "done", 0)
        assert status["reason"] == "shard 0: cancelled"
    assert not (work / "run" / "shards" / "00001").exists()
    goes_on_well(work)


@pytest.mark.parametrize("version", ["v1"])
def test_a_cancel_without_a_shard_passes_over_those_without_files(work: Path) -> None:
    """More shards than chunks: one without files can't say that the run was cancelled, as it is complete."""
    command("plan", *words(work, "--shards", "5"), status=0)
    files = [each["files"] for each in read_status(work / "run")["shards"]]
    assert 0 in files
    command("cancel", work / "run", status=77)
    status = read_status(work / "run")
    first = files.index(4)
    assert (status["reason"], [*(work / "run" / "shards").iterdir()]) == (
        f"shard {first}: cancelled",
        [work / "run" / "shards" / f"{first:05d}"],
    )
    goes_on_well(work)


BETWEEN_SHARDS = """
import runpy, sys
from pathlib import Path
import anyio
from classify_batch.operations.shards import run_shards

go = Path(sys.argv.pop(1))
run_shard = run_shards.run_shard

async def wait_before_the_second(whole, request, index, shutdown):
    while index == 1 and not go.exists():
        await anyio.sleep(0.02)
    return await run_shard(whole, request, index, shutdown)

run_shards.run_shard = wait_before_the_second
sys.argv = ["classify-batch", *sys.argv[1:]]
runpy.run_module("classify_batch", run_name="__main__")
"""


@pytest.mark.parametrize("job_s", [LONG_JOB_S])
def test_a_process_between_two_shards_is_cancelled_too(work: Path) -> None:
    """It holds no shard at that moment, and would begin the next: the command waits for that, and cancels it."""
    manifest, go = work / "run" / "shards" / "00000" / "manifest.json", work / "go"
    run = [sys.executable, "-c", BETWEEN_SHARDS, str(go), "run", *words(work, "--shards", "3")]
    with start(*run) as process:
        until(lambda: manifest.exists() and b'"complete"' in manifest.read_bytes(), process)
        with start(*COMMAND, "cancel", str(work / "run")) as cancelling:
            time.sleep(1.0)
            assert cancelling.poll() is None, cancelling.communicate()
            go.touch()
            said = cancelling.communicate(timeout=WAIT_S)[1]
            assert (cancelling.returncode, process.wait(WAIT_S)) == (77, 77), said
    assert f"process {process.pid} on" in said
    last = work / "run" / "shards" / "00002" / "journal.jsonl"
    assert not last.exists() or b'"submitting"' not in last.read_bytes()  # on v1, where the second has completed
    assert read_status(work / "run")["cancel"] == "done"
    goes_on_well(work)


def test_a_process_that_stands_between_two_shards_is_named(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that neither begins a shard nor ends: 75 with its name, and nothing is left that would be obeyed later."""
    monkeypatch.setattr("classify_batch.operations.cancel.TIMEOUT_S", 1.0)
    manifest, go = work / "run" / "shards" / "00000" / "manifest.json", work / "go"
    run = [sys.executable, "-c", BETWEEN_SHARDS, str(go), "run", *words(work, "--shards", "3")]
    with start(*run) as process:
        until(lambda: manifest.exists() and b'"complete"' in manifest.read_bytes(), process)
        done = command("cancel", work / "run", status=75)
        assert f"process {process.pid} on" in done.stderr
        assert "hint:" in done.stderr
        go.touch()
        assert process.wait(WAIT_S) == 0
    command("verify", work / "run", status=0)
