"""Run directories that version 0.2 left on disks: they are read, gone on with and tried again, and nothing is lost.

The directories beside this file are data, made once by `make_old_runs.py` with 0.2 itself, some of them killed. A test
works on a copy: what version 0.2 wrote is never written again.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from classify_batch.sandbox import read_billed, read_jobs
from tests.support.command_line import Call, calling

HERE = Path(__file__).parent
LOOKS = {"FAST", "MULTIMODAL"}
"""The modes of a first and of a second look."""

pytestmark = pytest.mark.usefixtures("kept")


@dataclass(frozen=True)
class Old:
    """What a directory holds, as version 0.2 showed it.

    Attributes:
        codes: of the failed files.
        rest: what `status --json` says beside, by the manifest's keys.
    """

    name: str
    files: int
    classified: int
    unmatched: int
    jobs: int
    codes: Mapping[str, int] = field(default_factory=dict)
    rest: Mapping[str, Any] = field(default_factory=dict)
    complete: bool = True

    @property
    def counts(self) -> dict[str, int]:
        return {"classified": self.classified, "unmatched": self.unmatched, "failed": sum(self.codes.values())}

    @property
    def answered(self) -> int:
        return self.classified + self.unmatched

    @property
    def outcomes(self) -> int:
        return sum(self.counts.values())


COMPLETE = Old(
    "complete_v1", 40, 39, 1, 8, rest={"triage": {"accepted": 16, "review": 23, "unmatched": 1, "failed": 0}}
)
REUSED = Old(
    "reused_v1",
    60,
    58,
    2,
    4,
    rest={"reused": 40, "triage": {"accepted": 24, "review": 34, "unmatched": 2, "failed": 0}},
)
FAILURES_V1 = Old("failures_v1", 40, 23, 2, 15, {"overdue": 10, "rejected": 2, "not_answered": 2, "job_error": 1})
FAILURES_V2 = Old("failures_v2", 24, 17, 1, 26, {"overdue": 2, "rejected": 1, "not_answered": 2, "job_error": 1})
KILLED_V1 = Old("killed_second_look_v1", 60, 30, 0, 16, rest={"second_looks": 14}, complete=False)
KILLED_V2 = Old("killed_v2", 40, 11, 0, 21, complete=False)

KILLED = (KILLED_V1, KILLED_V2)
FAILED = (FAILURES_V1, FAILURES_V2)
EVERY = (COMPLETE, REUSED, *FAILED, *KILLED)


def each(*olds: Old) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("old", olds, ids=lambda old: old.name)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder; but for the lock, which every holder leaves empty."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def kept() -> Iterator[None]:
    """Nothing of the data is changed by whatever the tests do."""
    before = {old.name: contents(HERE / old.name) for old in EVERY}
    yield
    assert {old.name: contents(HERE / old.name) for old in EVERY} == before


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """The command line in the folder that holds the copies."""
    return calling(capsys, monkeypatch, tmp_path)


class Copy:
    """A copy of a directory, to do with as one likes."""

    def __init__(self, old: Old, folder: Path) -> None:
        self.folder = folder / old.name
        shutil.copytree(HERE / old.name, self.folder)
        self.run_dir = self.folder / "run"
        self.same_command = (
            *("run", str(self.folder / "job.toml"), "--input", str(self.folder / "ids.txt")),
            *("--run-dir", str(self.run_dir)),
        )

    @property
    def file_ids(self) -> list[str]:
        return (self.folder / "ids.txt").read_text("utf-8").splitlines()

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.run_dir / name).read_text("utf-8").splitlines()]

    @property
    def ledger(self) -> Path:
        return self.run_dir / "sandbox" / "jobs.jsonl"

    @property
    def jobs(self) -> int:
        return sum(1 for _ in read_jobs(self.ledger))

    def judge(self, call: Call) -> None:
        """Each ID has its one outcome, none was paid twice, and the command says so."""
        outcomes = [line["file_id"] for name in ("results.jsonl", "failures.jsonl") for line in self.lines(name)]
        assert sorted(outcomes) == sorted(self.file_ids)
        billed = read_billed(self.ledger)
        assert {file_id for file_id, times in billed.items() if times > 1} == set()
        verified = call(None, "verify", str(self.run_dir))
        assert verified.status == 0, verified
        assert f"sound and complete: {len(self.file_ids)} files" in verified.out


# --- Read -------------------------------------------------------------------------------------------------------------


@each(*EVERY)
def test_an_old_run_is_read(old: Old, tmp_path: Path, call: Call) -> None:
    """`verify` proves it, `status` tells the known counts, `export` hands on as many rows as there are outcomes."""
    copy = Copy(old, tmp_path)
    before = contents(copy.folder)
    verified = call(None, "verify", str(copy.run_dir))
    assert verified.status == (0 if old.complete else 75), verified
    assert "damaged" not in verified.out

    told = call(None, "status", str(copy.run_dir), "--json").body
    assert (told["state"], told["files"]) == ("complete" if old.complete else "incomplete", old.files)
    assert (told["counts"], told["failure_codes"], told["jobs"]) == (old.counts, old.codes, old.jobs)
    assert {key: told[key] for key in old.rest} == old.rest

    target = tmp_path / "outcomes.csv"
    assert call(None, "export", str(copy.run_dir), str(target)).status == 0
    with target.open(encoding="utf-8-sig", newline="") as file:
        rows = [row["file_id"] for row in csv.DictReader(file)]
    assert len(rows) == old.outcomes
    assert set(rows) <= set(copy.file_ids)
    assert contents(copy.folder) == before


# --- Gone on with -----------------------------------------------------------------------------------------------------


@each(*KILLED)
def test_an_old_run_that_was_killed_goes_on(old: Old, tmp_path: Path, call: Call) -> None:
    """`resume` ends it: each ID has one outcome, no job is made for what was out, and what was committed stays."""
    copy = Copy(old, tmp_path)
    committed = copy.lines("results.jsonl")[: old.answered]
    journal = (copy.run_dir / "journal.jsonl").read_bytes()
    accepted = Counter((file_id, job.mode) for job in read_jobs(copy.ledger) for file_id in job.file_ids)
    resumed = call(None, "resume", str(copy.run_dir))
    assert resumed.status == 0, resumed

    copy.judge(call)
    assert copy.lines("results.jsonl")[: old.answered] == committed
    assert (copy.run_dir / "journal.jsonl").read_bytes().startswith(journal)
    now = Counter((file_id, job.mode) for job in read_jobs(copy.ledger) for file_id in job.file_ids)
    assert accepted.total() > old.outcomes
    assert {key: now[key] for key in accepted} == dict.fromkeys(accepted, 1)
    assert now.keys() - accepted.keys() != set()


def test_first_answers_of_an_old_run_get_their_second_look(tmp_path: Path, call: Call) -> None:
    """First answers that waited when an old run was killed stand beside the second ones, which count."""
    copy = Copy(KILLED_V1, tmp_path)
    waited = {line["file_id"]: line for line in copy.lines("provisional.jsonl")}
    waited = dict(list(waited.items())[: KILLED_V1.rest["second_looks"]])  # a tail behind them is not committed
    assert call(None, *copy.same_command).status == 0
    second = {line["file_id"]: line for line in copy.lines("results.jsonl") if line.get("counts") == "second"}
    assert waited.keys() < second.keys()
    for file_id, first in waited.items():
        line = second[file_id]
        assert {line["mode"], line["other"]["mode"]} == LOOKS
        assert line["other"] == {key: first[key] for key in line["other"]}


def test_failed_files_of_an_old_v1_run_are_tried_again(tmp_path: Path, call: Call) -> None:
    """`--retry-failed` ends: old jobs are looked at first, and only a job that still is out keeps its files failed."""
    copy = Copy(FAILURES_V1, tmp_path)
    failures = (copy.run_dir / "failures.jsonl").read_bytes()
    late = {line["file_id"]: line["job_id"] for line in copy.lines("failures.jsonl") if line["code"] == "overdue"}
    retried = call(None, "resume", str(copy.run_dir), "--retry-failed")
    assert retried.status == 1, retried

    copy.judge(call)
    assert (copy.run_dir / "failures.1.jsonl").read_bytes() == failures
    failed = {line["file_id"]: line["code"] for line in copy.lines("failures.jsonl")}
    assert set(failed.values()) == {"overdue"}
    assert "file-022-stuck" in failed
    answered = {line["file_id"]: line["job_id"] for line in copy.lines("results.jsonl")}
    assert answered["file-027-late"] == late["file-027-late"]
    assert answered.keys() >= {
        "file-003-foreign",
        "file-007-vague",
        "file-012-poison",
        "file-016-null",
        "file-019-null",
    }


def test_failed_files_of_an_old_v2_run_are_tried_again(tmp_path: Path, call: Call) -> None:
    """`--retry-failed` ends well: overdue jobs have their answers by now, and the other files get jobs of their own."""
    copy = Copy(FAILURES_V2, tmp_path)
    failures, jobs = (copy.run_dir / "failures.jsonl").read_bytes(), copy.jobs
    late = {line["file_id"]: line["job_id"] for line in copy.lines("failures.jsonl") if line["code"] == "overdue"}
    retried = call(None, "resume", str(copy.run_dir), "--retry-failed", "--job-timeout-s", "60")
    assert retried.status == 0, retried

    copy.judge(call)
    assert (copy.run_dir / "failures.1.jsonl").read_bytes() == failures
    answered = {line["file_id"]: line["job_id"] for line in copy.lines("results.jsonl")}
    assert {file_id: answered[file_id] for file_id in late} == late
    assert copy.jobs == jobs + FAILURES_V2.counts["failed"] - len(late)


# --- Complete ---------------------------------------------------------------------------------------------------------


@each(COMPLETE, REUSED, *FAILED)
def test_a_complete_old_run_started_again(old: Old, tmp_path: Path, call: Call) -> None:
    """Whichever command is given, nothing is called, no byte is changed, and the status is the finished run's."""
    copy = Copy(old, tmp_path)
    before = contents(copy.folder)
    for words in (copy.same_command, ("resume", str(copy.run_dir))):
        done = call(None, *words)
        assert done.status == (1 if old.codes else 0), done
        assert "complete already: nothing was called" in done.err
        assert contents(copy.folder) == before


def test_an_old_run_is_taken_over(tmp_path: Path, call: Call) -> None:
    """A new run with `--reuse` takes all outcomes of an old one over, and asks only for the rest."""
    old, reused = Copy(COMPLETE, tmp_path), Copy(REUSED, tmp_path)
    shutil.rmtree(reused.run_dir)
    done = call(None, *reused.same_command, "--reuse", str(old.run_dir))
    assert done.status == 0, done
    reused.judge(call)
    taken = {line["file_id"]: line["type"] for line in reused.lines("results.jsonl") if "reused_from" in line}
    assert taken == {line["file_id"]: line["type"] for line in old.lines("results.jsonl")}
    assert sorted(read_billed(reused.ledger)) == sorted(set(reused.file_ids) - set(old.file_ids))
