"""Runs that are killed, interrupted and taken up again: any moment is a good moment to die."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from tests.support.leaving import EXIT_TIMEOUT_S, LeaveTimer
from tests.support.real_run import Run, independent_server, sandbox

KILLS = 3
SOME_BYTES = 1000

HABITS = (
    "--lost 0.03 --late-503 0.02 --busy 0.02 --read-5xx 0.03 --order random --list-lag-s 0.5 --get-lag-s 0.3 --fill"
    " --ids odd --results-page 40 --ahead-s 90 --partial 0.05 --words QUEUED --others 3 --omit created_at"
)
SANDBOX = (
    "--fault lost_create_answer=0.05 --fault read_503=0.03 --fault rate_429=0.02 --fault list_lag_s=0.5"
    " --list-order shuffled --list-page-size-max 30"
)


def numbered(count: int) -> list[str]:
    return [f"file-{number}" for number in range(count)]


def kill_and_finish(run: Run, rng: random.Random) -> tuple[int, str]:
    """Kills the command some times on its way, each time somewhere in the next quarter of it, then lets it end."""
    bytes_in_all = 200 * len(run.file_ids)
    for _ in range(KILLS):
        goal = run.committed() + rng.randint(0, bytes_in_all // 4)
        with run.start() as process:
            going = run.wait_for_bytes(process, goal)
            process.kill()
            process.communicate()
            assert going or process.returncode in (0, 1)
    return run.to_end()


@pytest.mark.slow
@pytest.mark.parametrize("server", ["independent_server", "sandbox"])
def test_killed_three_times_nothing_is_lost_and_nothing_paid_twice(tmp_path: Path, server: str) -> None:
    """5,000 files, SIGKILL at three moments, lost answers on top: one outcome each, and each paid once."""
    serving = (
        independent_server(tmp_path, *HABITS.split())
        if server == "independent_server"
        else sandbox(tmp_path, *SANDBOX.split())
    )
    with serving as listening:
        run = Run(tmp_path, listening, numbered(5000), files_per_job=100)
        codes = run.judge(*kill_and_finish(run, random.Random(server)))
        assert set(codes.values()) <= {"not_answered"}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_ends_the_run_in_order(tmp_path: Path, number: signal.Signals) -> None:
    """One signal: status 75 within 4 s, sound, and the same command goes on to the end without paying twice."""
    with independent_server(tmp_path, "--delay-s", "0.15") as server:
        run = Run(tmp_path, server, numbered(240))
        with run.start() as process:
            assert run.wait_for_bytes(process, SOME_BYTES)
            timer = LeaveTimer(process)
            process.send_signal(number)
            assert timer.wait_s() < EXIT_TIMEOUT_S
            _, said = process.communicate()
            assert process.returncode == 75, said
        assert "next:" in said
        assert run.verify()[0] == 75
        assert run.judge(*run.to_end()) == {}


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_the_run_at_once(tmp_path: Path, number: signal.Signals, status: int) -> None:
    """Two signals: 130 or 143 without waiting for the answers on the wire, and still nothing is paid twice."""
    with independent_server(tmp_path, "--delay-s", "0.6", "--results-page", "50") as server:
        run = Run(tmp_path, server, numbered(60))
        with run.start() as process:
            assert run.wait_for(process, lambda: server.ledger.exists() and server.ledger.stat().st_size > 0)
            timer = LeaveTimer(process)
            assert timer.wait_s(meanwhile=lambda: os.kill(process.pid, number)) < EXIT_TIMEOUT_S
            assert process.wait() == status
        assert run.judge(*run.to_end()) == {}
