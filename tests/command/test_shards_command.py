"""Runs with shards: real processes, a real server, and what it was paid for."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from classify_batch import open_run
from tests.support.command_line import KEY, asked, command, environment, small_jobs_config, until
from tests.support.real_run import Server, sandbox
from tests.support.start_command import COMMAND, CommandProcess

WAIT_S = 120.0


class Place:
    """A folder with a config, an input and a run directory, and the server that the run calls."""

    def __init__(self, folder: Path, server: Server, *, files: int = 203, jobs_in_flight: int = 20) -> None:
        self.folder, self.server, self.run_dir = folder, server, folder / "run"
        self.file_ids = [f"file-{number}" for number in range(files)]
        config = small_jobs_config(
            server.base_url, files_per_job=5, requests_per_s=400, settle_s=1, attempts=3, jobs_in_flight=jobs_in_flight
        )
        (folder / "job.toml").write_text(config)
        (folder / "ids.txt").write_text("".join(f"{file_id}\n" for file_id in self.file_ids))

    def words(self, *options: str) -> tuple[str, ...]:
        return ("run", str(self.folder / "job.toml"), *self.given(), *options)

    def given(self) -> tuple[str, ...]:
        return ("--input", str(self.folder / "ids.txt"), "--run-dir", str(self.run_dir))

    def start(self, *options: str) -> subprocess.Popen[str]:
        """The command as a process of its own."""
        return CommandProcess(
            [*COMMAND, *self.words(*options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    def shard_dir(self, index: int) -> Path:
        return self.run_dir / "shards" / f"{index:05d}"

    def outcomes(self) -> list[dict[str, Any]]:
        """All lines of all shards."""
        return [
            json.loads(line)
            for name in ("results.jsonl", "failures.jsonl")
            for path in sorted(self.run_dir.glob(f"shards/*/{name}"))
            for line in path.read_bytes().splitlines()
        ]

    def judge(self) -> None:
        """Asserts that each file has one outcome, and was paid once; and that every shard can be verified."""
        assert Counter(line["file_id"] for line in self.outcomes()) == Counter(self.file_ids)
        assert self.server.read_paid(self.server.ledger) == Counter(self.file_ids)
        verified = command("verify", self.run_dir, status=0)
        assert verified.stdout == f"sound and complete: {len(self.file_ids):,} files, each with one outcome\n"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with sandbox(tmp_path, "--api-key", KEY, "--job-duration-s", "0.05") as server:
        yield Place(tmp_path, server)


def end(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """The exit status of each, and what it said."""
    try:
        return [(process.wait(WAIT_S), process.communicate()[1]) for process in processes]
    finally:
        for process in processes:
            process.kill()


def test_processes_that_start_together_agree_on_one_plan(place: Place) -> None:
    """Four shards begin at the same moment in a new directory: one plans, and each file is paid once."""
    ends = end([place.start("--shard", f"{index}/4") for index in range(4)])
    assert [status for status, _ in ends] == [0, 0, 0, 0], ends
    place.judge()
    run = json.loads((place.run_dir / "run.json").read_bytes())
    shards = [json.loads((place.shard_dir(index) / "run.json").read_bytes()) for index in range(4)]
    assert {each["run_id"] for each in shards} == {run["run_id"]}
    assert [each["shard"]["index"] for each in shards] == [0, 1, 2, 3]
    assert sum(each["files"] for each in shards) == len(place.file_ids)
    plans = b"".join((place.shard_dir(index) / "plan.jsonl").read_bytes() for index in range(4))
    assert plans == (place.run_dir / "plan.jsonl").read_bytes()
    assert len({line["chunk"] for line in place.outcomes()}) == run["chunks"]
    status = json.loads(command("status", place.run_dir, "--json", status=0).stdout)
    assert (status["state"], status["exit_status"], status["counts"]["classified"]) == (
        "complete",
        0,
        sum(line["outcome"] == "classified" for line in place.outcomes()),
    )
    assert [(each["state"], each["files"], each["done"]) for each in status["shards"]] == [
        ("complete", each["files"], each["files"]) for each in shards
    ]


def test_a_killed_planner_is_followed_by_another(place: Place) -> None:
    """A process is killed while it reads the input; one that waited for its plan plans, and the run is whole."""
    with CommandProcess(
        [
            *COMMAND,
            *place.words("--shard", "0/2")[:2],
            "--input",
            "-",
            "--run-dir",
            str(place.run_dir),
            "--shard",
            "0/2",
        ],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
    ) as planner:
        until(lambda: (place.run_dir / "lock").exists() and (place.run_dir / "lock").read_bytes())
        other = place.start("--shard", "1/2")
        time.sleep(1.5)  # it waits meanwhile
        assert other.poll() is None
        planner.kill()
    assert end([other])[0][0] == 0
    assert end([place.start("--shard", "0/2")])[0][0] == 0
    place.judge()


def test_one_process_carries_all_shards_out(place: Place) -> None:
    """Without a shard the command does one after the other, and the same command then calls nothing."""
    command("plan", *place.words("--shards", "3")[1:], status=0)
    done = command(*place.words(), status=0)
    assert "shards      3: 3 complete" in done.stderr
    place.judge()
    again = command(*place.words("--json"), status=0)
    assert "this run was complete already" in again.stderr
    assert json.loads(again.stdout)["counts"] == json.loads(command("status", place.run_dir, "--json").stdout)["counts"]


def test_the_outcomes_of_all_shards_are_read_as_one_runs(place: Place) -> None:
    """`export`, `open_run` and `--reuse` have each file once, and a shard's directory is read by itself, too."""
    command(*place.words("--shards", "3"), status=0)
    for name in ("all.jsonl", "all.csv"):
        done = command("export", place.run_dir, place.folder / name, status=0)
        assert f"exported    {len(place.file_ids)} of {len(place.file_ids)} files" in done.stderr
    exported = [json.loads(line)["file_id"] for line in (place.folder / "all.jsonl").read_text().splitlines()]
    assert Counter(exported) == Counter(place.file_ids)
    rows = (place.folder / "all.csv").read_text().splitlines()
    assert Counter(row.split(",")[0] for row in rows[1:]) == Counter(place.file_ids)
    run = open_run(place.run_dir)
    assert Counter(each.file_id for each in run.outcomes()) == Counter(place.file_ids)
    assert Counter(each.file_id for each in run.follow()) == Counter(place.file_ids)
    assert (run.state, run.exit_status, sum(run.counts.values())) == ("complete", 0, len(place.file_ids))
    one = open_run(place.shard_dir(1))
    assert len(list(one.outcomes())) == sum(one.counts.values()) < len(place.file_ids)
    again = ("--input", place.folder / "ids.txt", "--run-dir", place.folder / "again", "--reuse", place.run_dir)
    command("run", place.folder / "job.toml", *again, status=0)
    place.judge()  # nothing was paid again


def test_a_run_with_shards_reuses_others(place: Place) -> None:
    """What earlier runs answered is in no shard: it is read, and verified, with the whole run."""
    (place.folder / "some.txt").write_text("".join(f"{file_id}\n" for file_id in place.file_ids[:50]))
    earlier = place.folder / "earlier"
    words = ("--input", place.folder / "some.txt", "--run-dir", earlier)
    command("run", place.folder / "job.toml", *words, status=0)
    processes = [place.start("--shard", f"{index}/2", "--reuse", str(earlier)) for index in range(2)]
    assert [status for status, _ in end(processes)] == [0, 0]
    status = json.loads(command("status", place.run_dir, "--json", status=0).stdout)
    assert (status["reused"], sum(status["counts"].values())) == (50, len(place.file_ids))
    assert Counter(each.file_id for each in open_run(place.run_dir).outcomes()) == Counter(place.file_ids)
    assert place.server.read_paid(place.server.ledger) == Counter(place.file_ids)
    command("verify", place.run_dir, status=0)
    results = place.run_dir / "results.jsonl"
    results.write_bytes(results.read_bytes().replace(b"file-7", b"file-8", 1))
    assert "reused outcomes" in command("verify", place.run_dir, status=2).stdout


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("shards/00001/results.jsonl", b"file-", b"file+", "shard 1: results.jsonl, lines"),
        ("shards/00001/plan.jsonl", b"file-", b"file+", "shard 1: plan.jsonl"),
        ("plan.jsonl", b"file-", b"file+", "plan.jsonl in"),
        ("run.json", b'"chunks": 14', b'"chunks": 15', "the chunks of the shards are not those of plan.jsonl"),
        ("run.json", b'"duplicates": 0', b'"duplicates": 1', "is not shard 0 of the run"),
    ],
)
def test_verify_names_what_is_damaged(place: Place, name: str, old: bytes, new: bytes, words: str) -> None:
    """A changed byte, in a shard or in what all share, is found (2), and the shard is named."""
    command(*place.words("--shards", "3"), status=0)
    path = place.run_dir / name
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    assert words in command("verify", place.run_dir, status=2).stdout


def test_shards_that_were_exchanged_are_found(place: Place) -> None:
    """Two shards in each other's place: each is sound by itself, and the run is not."""
    command(*place.words("--shards", "2"), status=0)
    shards = place.run_dir / "shards"
    (shards / "00000").rename(shards / "between")
    (shards / "00001").rename(shards / "00000")
    (shards / "between").rename(shards / "00001")
    assert "is not shard 0 of the run" in command("verify", place.run_dir, status=2).stdout
    assert "is not shard 0 of the run" in command(*place.words("--shard", "0/2"), status=2).stderr


def test_shards_without_their_run_are_not_planned_anew(place: Place) -> None:
    """The whole run's run.json is gone: another plan would pay for the shards' files once more, so it is refused."""
    command(*place.words("--shard", "0/2"), status=0)
    (place.run_dir / "run.json").unlink()
    for options in (("--shard", "1/2"), ("--shards", "2"), ()):
        assert "has shards, but no run.json" in command(*place.words(*options), status=2).stderr
    assert len(place.server.read_paid(place.server.ledger)) == len(place.outcomes())


def test_cancel_and_tune_reach_all_shards(tmp_path: Path) -> None:
    """`tune` reaches each process, `cancel` ends all of them with 77, and `resume` then carries all shards out."""
    with sandbox(tmp_path, "--api-key", KEY, "--job-duration-s", "0.3") as server:
        place = Place(tmp_path, server, files=1000, jobs_in_flight=2)
        processes = [place.start("--shard", f"{index}/2") for index in range(2)]
        journals = [place.shard_dir(index) / "journal.jsonl" for index in range(2)]
        until(lambda: all(path.exists() and b'"collected"' in path.read_bytes() for path in journals))
        command("tune", place.run_dir, "--jobs-in-flight", "3", status=0)
        assert all(b'"kind":"tuned"' in path.read_bytes() for path in journals)
        command("tune", place.run_dir, "--max-credits", "9000", status=0)
        for journal in journals:
            whole = journal.read_bytes().split(b"\n")[:-1]
            tuned = [line for line in map(json.loads, whole) if line["kind"] == "tuned"]
            assert tuned[-1]["limits"] == {"max_credits": 4500}  # half of it, as it has half of the files
        cancelled = command("cancel", place.run_dir, status=77)
        assert [status for status, _ in end(processes)] == [77, 77], cancelled.stderr
        assert "no process is at work" in command("tune", place.run_dir, "--pause", status=2).stderr
        status = json.loads(command("status", place.run_dir, "--json", status=0).stdout)
        assert (status["state"], status["exit_status"], status["cancel"]) == ("incomplete", 77, "done")
        command("resume", place.run_dir, "--jobs-in-flight", "100", status=0)
        place.judge()


def test_one_process_for_all_shards_is_one(tmp_path: Path) -> None:
    """It is held as a whole while it is on: a second one leaves with 75, `tune` counts for all later shards, and a
    signal ends it with 75."""
    with sandbox(tmp_path, "--api-key", KEY, "--job-duration-s", "0.2") as server:
        place = Place(tmp_path, server, files=600, jobs_in_flight=2)
        with place.start("--shards", "4") as process:
            journals = [place.shard_dir(index) / "journal.jsonl" for index in range(4)]
            until(lambda: journals[0].exists() and b'"collected"' in journals[0].read_bytes(), process)
            assert "is in use by process" in command(*place.words(), status=75).stderr
            command("tune", place.run_dir, "--jobs-in-flight", "50", "--max-credits", "12000", status=0)
            status = json.loads(command("status", place.run_dir, "--json", status=0).stdout)
            assert (status["state"], status["holder"]["pid"]) == ("running", process.pid)
            until(lambda: journals[1].exists() and b'"submitting"' in journals[1].read_bytes(), process)
            opened = json.loads(journals[1].read_bytes().splitlines()[0])["limits"]
            assert (opened["jobs_in_flight"], opened["max_credits"]) == (50, 3000)
            process.terminate()
            assert process.wait(WAIT_S) == 75
        command("resume", place.run_dir, "--jobs-in-flight", "50", status=0)
        place.judge()


@pytest.mark.slow
def test_other_shards_jobs_are_not_read(tmp_path: Path) -> None:
    """Shards that run at the same time, whose creates' answers get lost, look for their jobs in one list: each knows
    the other's by its journal, and reads hardly any of their results."""
    with sandbox(tmp_path, "--api-key", KEY, "--fault", "lost_create_answer=0.1", "--job-duration-s", "0.5") as server:
        place = Place(tmp_path, server, files=1000, jobs_in_flight=10)
        ends = end([place.start("--shard", f"{index}/2") for index in range(2)])
        assert [status for status, _ in ends] == [0, 0], ends
        place.judge()
        read = sum(asked(server.base_url)["requests"]["results"].values())
        jobs = len({line["job_id"] for line in place.outcomes()})
        assert read < 2 * jobs  # without the other's journal it is more than 3


def test_more_shards_than_chunks(tmp_path: Path) -> None:
    """A small night in an array of fixed size: shards without files are complete at once."""
    with sandbox(tmp_path, "--api-key", KEY) as server:
        place = Place(tmp_path, server, files=7)
        for index in range(4):
            command(*place.words("--shard", f"{index}/4"), status=0)
        place.judge()
        assert json.loads(command("status", place.run_dir, "--json").stdout)["state"] == "complete"


def test_a_killed_shard_goes_on_where_it_was(tmp_path: Path) -> None:
    """SIGKILL in the middle of one shard: the same command ends it, and the other is none the wiser."""
    with sandbox(tmp_path, "--api-key", KEY, "--job-duration-s", "0.3") as server:
        place = Place(tmp_path, server, files=400, jobs_in_flight=4)
        with place.start("--shard", "1/2") as process:
            journal = place.shard_dir(1) / "journal.jsonl"
            until(lambda: journal.exists() and b'"collected"' in journal.read_bytes(), process)
            process.kill()
        status = json.loads(command("status", place.run_dir, "--json", status=0).stdout)
        assert status["state"] == "incomplete"
        assert [each["state"] for each in status["shards"]] == ["incomplete", "incomplete"]
        assert [status for status, _ in end([place.start("--shard", "0/2"), place.start("--shard", "1/2")])] == [0, 0]
        place.judge()


@pytest.mark.slow
def test_shards_that_are_killed_again_and_again(tmp_path: Path) -> None:
    """Three shards at once, a tenth of the creates' answers lost, and ten SIGKILLs at random moments: each file has one
    outcome, and is paid once."""
    rng = random.Random(11)
    with sandbox(tmp_path, "--api-key", KEY, "--fault", "lost_create_answer=0.1", "--job-duration-s", "0.3") as server:
        place = Place(tmp_path, server, files=900, jobs_in_flight=4)
        processes = [place.start("--shard", f"{index}/3") for index in range(3)]
        for _ in range(10):
            time.sleep(rng.uniform(0.5, 3.0))
            index = rng.randrange(3)
            processes[index].kill()
            processes[index].communicate()
            processes[index] = place.start("--shard", f"{index}/3")
        ends = end(processes)
        assert [status for status, _ in ends] == [0, 0, 0], ends
        place.judge()


@pytest.mark.parametrize(
    ("environ", "options", "words"),
    [
        ({}, ("--shards", "3", "--shard", "auto"), "neither JOB_COMPLETION_INDEX nor SLURM_ARRAY_TASK_ID is set"),
        ({"JOB_COMPLETION_INDEX": "3"}, ("--shards", "3", "--shard", "auto"), "shard 3 of 3 shards: the last one is 2"),
        (
            {"SLURM_ARRAY_TASK_ID": "one"},
            ("--shards", "3", "--shard", "auto"),
            "SLURM_ARRAY_TASK_ID='one' is no number",
        ),
        (
            {"JOB_COMPLETION_INDEX": "1", "SLURM_ARRAY_TASK_ID": "2"},
            ("--shards", "3", "--shard", "auto"),
            "contradict each other",
        ),
        ({"JOB_COMPLETION_INDEX": "1"}, ("--shard", "auto"), "nobody said how many shards it has"),
        ({}, ("--shard", "1"), "nobody said how many shards it has"),
        ({}, ("--shard", "3/3"), "shard 3 of 3 shards"),
        ({}, ("--shard", "-1/3"), "shard '-1/3' is none"),
        ({}, ("--shard", "1/3", "--shards", "4"), "shard 1/3 of 4 shards"),
        ({}, ("--shards", "0"), "0 shards"),
        ({}, ("--shards", "10001"), "10001 shards"),
        ({}, ("--shards", "2", "--submit-only"), "submit_only is for one shard"),
    ],
)
def test_odd_shards_are_refused_before_anything_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, str],
    options: tuple[str, ...],
    words: str,
) -> None:
    """Each says what is wrong, and what to do."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    server = Server("http://127.0.0.1:9", tmp_path / "ledger", "sandbox", lambda _path: Counter())
    place = Place(tmp_path, server)
    refused = command(*place.words(*options), status=2)
    assert words in refused.stderr
    assert "hint: " in refused.stderr
    assert not place.run_dir.exists()


def test_auto_takes_the_schedulers_number(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod of an Indexed Job and a task of a job array carry out the shard that they are given."""
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    command(*place.words("--shards", "2", "--shard", "auto"), status=0)
    assert not place.shard_dir(0).exists()
    monkeypatch.delenv("JOB_COMPLETION_INDEX")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    command(*place.words("--shard", "auto"), status=0)
    place.judge()


def test_a_run_keeps_its_number_of_shards(place: Place) -> None:
    """Another number, another input, and shards of a run that has none are refused (2)."""
    command("plan", *place.words("--shards", "3")[1:], status=0)
    for options in (("--shards", "4"), ("--shard", "0/2")):
        assert "holds a run of 3 shards" in command(*place.words(*options), status=2).stderr
    assert "shard 3 of 3 shards" in command(*place.words("--shard", "3"), status=2).stderr
    (place.folder / "ids.txt").write_text("other\n")
    assert "holds a run of other file IDs" in command(*place.words("--shard", "0/3"), status=2).stderr
    plain = place.folder / "plain"
    words = ("--input", place.folder / "ids.txt", "--run-dir", plain)
    command("plan", place.folder / "job.toml", *words, status=0)
    refused = command("run", place.folder / "job.toml", *words, "--shard", "0/2", status=2)
    assert "holds a run without shards" in refused.stderr
