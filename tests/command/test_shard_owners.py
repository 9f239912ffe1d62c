"""A shard has one owner at a time: real processes, and a server that counts what was paid."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.command.test_shards_command import Place, end
from tests.support.command_line import KEY, command, environment, until
from tests.support.real_run import sandbox

LEASE_S = 6.0
"""A process that gets this machine's disk or CPU later than that is taken for one that stands still."""

# Forks two processes a round, which begin when a pipe is closed, so at the same moment: a start of the command takes a
# second, which is longer than what they race for.
RACE = """
import json, os, sys
from classify_batch import ClassifyBatchError, Settings, run
import classify_batch.operations.public_run, classify_batch.llamacloud.v1.batch_api

base_url, folder, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
settings = Settings(
    api={"base_url": base_url},
    job={"rules": [{"type": "invoice", "description": "has line items and a total"}]},
    plan={"files_per_job": 3},
    limits={"requests_per_s": 400, "settle_s": 1, "accept_s": 0},
)


def compete(number, gate):
    try:
        os.read(gate, 1)
        file_ids = [f"file-{number}-{place}" for place in range(10)]
        return int(run(settings, file_ids, f"{folder}/run-{number}", shard="0/1").exit_status)
    except ClassifyBatchError as error:
        return int(error.exit_status)


for number in range(rounds):
    gate, opener = os.pipe()
    children = []
    for _ in range(2):
        child = os.fork()
        if not child:
            os.close(opener)
            status = 99
            try:
                status = compete(number, gate)
            finally:
                os._exit(status)
        children.append(child)
    os.close(opener)
    os.close(gate)
    print(json.dumps(sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)), flush=True)
"""


@pytest.mark.parametrize("rounds", [5, pytest.param(60, marks=pytest.mark.slow)])
def test_of_two_processes_one_works_and_the_other_leaves(tmp_path: Path, rounds: int) -> None:
    """Both are given the same shard of a new run at the same moment: one works, the other exits with 75 (or with 0,
    where a busy machine lets it begin when all is done), and each file is paid once."""
    with sandbox(tmp_path, "--api-key", KEY, "--job-duration-s", "0.4", "--job-duration-sigma", "0") as server:
        done = subprocess.run(
            [sys.executable, "-c", RACE, server.base_url, str(tmp_path), str(rounds)],
            capture_output=True,
            text=True,
            timeout=600,
            env=environment(),
            check=True,
        )
        ends = Counter(map(tuple, map(json.loads, done.stdout.splitlines())))
        assert ends.keys() <= {(0, 75), (0, 0)}, done.stderr
        assert (ends.total(), ends[0, 75] > 0) == (rounds, True)
        paid = server.read_paid(server.ledger)
    assert paid == Counter(f"file-{number}-{place}" for number in range(rounds) for place in range(10))


@pytest.mark.slow
def test_a_process_that_is_woken_after_its_lease_pays_nothing(tmp_path: Path) -> None:
    """A process is stopped in the middle of its creates, another takes the shard over and carries it out, and the
    first is woken: it leaves with 75, each file is paid once, and the run is sound."""
    with sandbox(tmp_path, "--api-key", KEY, "--job-duration-s", "0.3") as server:
        place = Place(tmp_path, server, files=400, jobs_in_flight=6)
        with (place.folder / "job.toml").open("a") as config:
            config.write(f"lease_s = {LEASE_S}\n")
        stopped = place.start("--shard", "0/1")
        journal = place.shard_dir(0) / "journal.jsonl"
        until(lambda: journal.exists() and journal.read_bytes().count(b'"collected"') > 3, stopped)
        stopped.send_signal(signal.SIGSTOP)
        try:
            time.sleep(LEASE_S)
            took_over, said = end([place.start("--shard", "0/1")])[0]
            assert took_over == 0, said
        finally:
            stopped.send_signal(signal.SIGCONT)
        ((status, said),) = end([stopped])
        assert status == 75, said
        assert "another process's" in said
        assert "Traceback" not in said
        place.judge()
        assert command("status", place.run_dir, "--json").stdout.count('"state": "complete"') == 2
