"""A shard has one owner at a time: real processes, and a server that counts what was paid."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.support.command_line import KEY, environment
from tests.support.real_run import sandbox

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


@pytest.mark.parametrize("rounds", [5, pytest.param(200, marks=pytest.mark.slow)])
def test_of_two_processes_one_works_and_the_other_leaves(tmp_path: Path, rounds: int) -> None:
    """Both are given the same shard of a new run at the same moment: one works, the other exits with 75, and each file
    is paid once."""
    with sandbox(tmp_path, "--api-key", KEY, "--job-duration-s", "0.4", "--job-duration-sigma", "0") as server:
        done = subprocess.run(
            [sys.executable, "-c", RACE, server.base_url, str(tmp_path), str(rounds)],
            capture_output=True,
            text=True,
            timeout=600,
            env=environment(),
            check=True,
        )
        assert [json.loads(line) for line in done.stdout.splitlines()] == [[0, 75]] * rounds, done.stderr
        paid = server.read_paid(server.ledger)
    assert paid == Counter(f"file-{number}-{place}" for number in range(rounds) for place in range(10))
