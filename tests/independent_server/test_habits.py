"""Whole runs against a server with other habits: what is promised rests on the contract and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.real_run import Run, independent_server
from tests.support.start_command import COMMAND

HABITS = {
    "bare": "--order oldest --omit created_at,mode,parsing_configuration,total_size,Date --chunked",
    "chatty": "--order random --fill --page-beyond refuse --gzip --chunked --words QUEUED,RUNNING",
    "odd ids": "--order newest --ids odd --results-page 1 --doubled 0.5 --close --words PENDING,STARTED",
    "crowded": "--others 40 --order oldest --list-lag-s 0.4 --get-lag-s 0.4",
    "slow, no list": "--list-fails 404 --delay-s 0.2 --get-lag-s 0.4",
    "busy, failing": "--busy 0.03 --retry-after date --ahead-s 90 --read-5xx 0.1 --close --results-page 3",
}

LOSSES = {
    "ahead": "--lost 0.2 --ahead-s 90 --created-at offset --order newest --list-lag-s 0.5",
    "ahead, no Date": "--lost 0.2 --ahead-s 90 --omit Date --order random",
    "behind": "--late-503 0.2 --early-503 0.1 --ahead-s -7200 --created-at compact --page-beyond refuse",
    "bare": "--lost 0.2 --omit created_at,mode,parsing_configuration,total_size,Date --list-lag-s 0.5",
    "unspeakable": "--lost 0.2 --created-at words --fill --order random --close --chunked --gzip",
    "crowded": "--lost 0.2 --others 20 --list-lag-s 0.5 --order oldest --fill",
    "crowded, no times": "--lost 0.2 --others 30 --others-overlap --omit created_at --order oldest",
    "untidy": "--lost 0.2 --unasked 0.3 --doubled 0.3 --nameless 0.3 --results-page 3",
    "everything": "--lost 0.1 --late-503 0.05 --read-5xx 0.03 --busy 0.01 --partial 0.2 --error 0.05 --cancelled 0.05"
    " --list-lag-s 0.3 --get-lag-s 0.3 --others 5 --nameless 0.1 --order random --words QUEUED",
}


def numbered(count: int, prefix: str = "file") -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]


@pytest.mark.parametrize("habits", HABITS.values(), ids=HABITS.keys())
def test_any_server_that_keeps_the_contract_will_do(tmp_path: Path, habits: str) -> None:
    """Order, page sizes, optional fields, ids, lags and framing of answers are the server's own affair."""
    with independent_server(tmp_path, *habits.split()) as server:
        run = Run(tmp_path, server, numbered(300))
        assert run.judge(*run.to_end()) == {}


@pytest.mark.slow
@pytest.mark.parametrize("habits", LOSSES.values(), ids=LOSSES.keys())
def test_lost_create_answers_cost_nothing(tmp_path: Path, habits: str) -> None:
    """Whatever the list leaves out or spells otherwise, a job whose answer was lost is found and not paid again."""
    with independent_server(tmp_path, *habits.split(), "--seed", "5") as server:
        run = Run(tmp_path, server, numbered(200), files_per_job=10, parsing='parsing_configuration = { lang = "de" }')
        codes = run.judge(*run.to_end())
        assert set(codes.values()) <= {"not_answered", "job_error", "job_cancelled"}


@pytest.mark.slow
@pytest.mark.parametrize("nameless", [0.0, 0.5])
def test_lost_jobs_without_an_answer_cost_nothing(tmp_path: Path, nameless: float) -> None:
    """A job of one file that answers nothing is not the one that was paid, and doesn't hold the run up; nor does one
    whose only answer is about no file."""
    habits = f"--lost 0.4 --partial 0.5 --nameless {nameless} --duration-s 0.05 --seed 3"
    with independent_server(tmp_path, *habits.split()) as server:
        run = Run(tmp_path, server, numbered(20), files_per_job=1)
        assert set(run.judge(*run.to_end()).values()) <= {"not_answered"}


@pytest.mark.parametrize("says", ["name", "index", "nothing"])
def test_foreign_files_fail_alone(tmp_path: Path, says: str) -> None:
    """A file of another project fails, however the server puts it, and takes no neighbour with it."""
    file_ids = numbered(60)
    file_ids[7], file_ids[33], file_ids[34] = "x.1", "x.10", "x"
    neighbours = [*file_ids, "file-1.x", "p-1", "File", "not"]
    with independent_server(tmp_path, "--foreign", "x", "--foreign-says", says) as server:
        run = Run(tmp_path, server, neighbours, files_per_job=32)
        assert run.judge(*run.to_end()) == dict.fromkeys(["x.1", "x.10", "x"], "rejected")


def test_a_file_that_breaks_its_job_fails_alone(tmp_path: Path) -> None:
    """A job that ends with ERROR is split down to the file at fault; the others are paid once."""
    file_ids = [*numbered(40), "broken", *numbered(40, "more")]
    with independent_server(tmp_path, "--poison", "broken", "--duration-s", "0.05") as server:
        run = Run(tmp_path, server, file_ids, files_per_job=40)
        assert run.judge(*run.to_end()) == {"broken": "job_error"}


@pytest.mark.parametrize("tokens", ["ignored", "refused"])
def test_results_that_cannot_be_read_to_their_end_are_not_paid_again(tmp_path: Path, tokens: str) -> None:
    """What can't be read was paid: its files fail and say why, and are not sent again, not by a retry either."""
    with independent_server(tmp_path, "--results-tokens", tokens, "--results-page", "7") as server:
        run = Run(tmp_path, server, numbered(40), files_per_job=10)
        for command in (run.command, [*COMMAND, "resume", str(run.run_dir), "--retry-failed"]):
            run.command = command
            status, said = run.to_end()
            assert status == 1, said
            assert [line["code"] for line in run.lines("failures.jsonl")] == ["not_answered"] * 4 * 3
            assert len(run.lines("results.jsonl")) == 4 * 7
            assert max(server.read_paid(server.ledger).values()) == 1
            assert run.verify()[0] == 0


@pytest.mark.slow
def test_a_list_that_answers_500_for_ever_is_done_without(tmp_path: Path) -> None:
    """Jobs are then asked for by their ids."""
    with independent_server(tmp_path, "--list-fails", "500") as server:
        run = Run(tmp_path, server, numbered(200))
        assert run.judge(*run.to_end()) == {}
