"""`classify-batch export` as a user meets it: real runs of the embedded sandbox, the real command."""

from __future__ import annotations

import csv
import json
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest

from tests.support.command_line import PATIENCE_S, Call, calling, command, contents, environment
from tests.support.complete_run import write_complete_run
from tests.support.start_command import COMMAND, CommandProcess

DOCUMENTS = {
    "strong.txt": "an invoice number, line items and a total",
    "contract.txt": "an agreement between parties with terms",
    "weak.txt": "an invoice from parties with a total",
    "unsure.txt": "an invoice of terms between parties",
    "nothing.txt": "zebra",
}
CONFIG = """
[api]
base_url = "sandbox"

[job]
rules = [
  { type = "invoice", description = "has an invoice number, line items and a total" },
  { type = "contract", description = "an agreement between parties with terms" },
]

[plan]
files_per_job = 2

[limits]
requests_per_s = 500.0
settle_s = 0.5

[sandbox]
documents = "documents"
"""
SORTED = """
[escalation]
below_confidence = 0.7
unmatched = true

[triage]
accept_above = 0.8
by_type = { contract = 0.75 }
"""
CHOICES = ("classified", "unmatched", "failed", "accepted", "review")
BIG_FILES = 200_000


def refused(folder: Path, *arguments: str, status: int = 2) -> str:
    """What is said where nothing is written."""
    there = contents(folder)
    done = command("export", *arguments, folder=folder, status=status)
    said = done.stderr.splitlines()
    assert done.stdout == ""
    assert said[0].startswith("error: ")
    assert said[-1].startswith("hint: ")
    assert contents(folder) == there
    return done.stderr


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that has all there is (`run`), one that takes it over and adds to it (`then`), and one
    without triage (`plain`)."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "documents").mkdir()
    for name, text in DOCUMENTS.items():
        (folder / "documents" / name).write_text(text)
    rows = [(str(uuid5(NAMESPACE_URL, name)), f'in/"{name}"', f"=row{number}") for number, name in enumerate(DOCUMENTS)]
    asked = [*rows, ("stranger", "in/s, t.txt", "-1")]
    for name, some in (("ids.csv", asked), ("fewer.csv", asked[1:])):
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([("file_id", "path", "type"), *some])
    (folder / "sorted.toml").write_text(CONFIG + SORTED)
    (folder / "plain.toml").write_text(CONFIG)
    told = ("--carry", "path", "--carry", "type")
    command("run", "sorted.toml", "--input", "fewer.csv", "--run-dir", "run", *told, folder=folder, status=1)
    command(
        "run",
        "sorted.toml",
        "--input",
        "ids.csv",
        "--run-dir",
        "then",
        *told,
        "--reuse",
        "run",
        folder=folder,
        status=1,
    )
    command("run", "plain.toml", "--input", "ids.csv", "--run-dir", "plain", folder=folder, status=1)
    return folder


@pytest.fixture
def folder(lived: Path, tmp_path: Path) -> Path:
    """The same, for a test of its own."""
    shutil.copytree(lived, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path) -> Call:
    """`classify-batch export`, in this process and in that folder."""
    return calling(capsys, monkeypatch, folder, "export")


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a complete run that takes a second to be written as CSV."""
    folder = tmp_path_factory.mktemp("big")
    write_complete_run(folder / "run", BIG_FILES, 500)
    return folder


# --- What is written --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["run", "then"])
def test_each_selection_has_as_many_files_as_status_says(folder: Path, run: str, call: Call) -> None:
    """For each choice as many files as `status` says, in a table and in JSONL, and every choice has some."""
    status = json.loads(command("status", run, "--json", folder=folder, status=0).stdout)
    counts = {**status["counts"], **status["triage"]}
    assert 0 not in counts.values()
    assert status["reused" if run == "then" else "second_looks"] > 0
    for only in CHOICES:
        for name in ("out.jsonl", "out.csv"):
            done = call(None, run, name, "--only", only, "--json")
            assert (done.status, done.body) == (0, {"target": name, "files": counts[only], "only": only})
            assert f"{counts[only]} of {status['files']} files ({only}) to {name}" in done.err
        with (folder / "out.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        lines = lines_of(folder / "out.jsonl")
        assert [row["file_id"] for row in rows] == [line["file_id"] for line in lines]
        assert len(lines) == counts[only]


def test_the_runs_triage_decides_what_is_accepted(folder: Path) -> None:
    """The thresholds of the run decide, by type where it has one of its own; together they are the classified ones."""
    found = {}
    for only in ("accepted", "review", "classified"):
        command("export", "run", "out.jsonl", "--only", only, folder=folder, status=0)
        found[only] = lines_of(folder / "out.jsonl")
    least = {"invoice": 0.8, "contract": 0.75}
    assert all(line["confidence"] >= least[line["type"]] for line in found["accepted"])
    assert all(line["confidence"] < least[line["type"]] for line in found["review"])
    ids = {only: {line["file_id"] for line in lines} for only, lines in found.items()}
    assert ids["accepted"] | ids["review"] == ids["classified"]
    assert any(line["confidence"] < 0.8 for line in found["accepted"]), "the test needs one that only its type accepts"


def test_without_only_the_runs_own_lines_are_exported(folder: Path) -> None:
    """Without `--only` JSONL is the run's own lines, results first; on stdout as well."""
    run = folder / "then"
    expected = (run / "results.jsonl").read_text() + (run / "failures.jsonl").read_text()
    done = command("export", "then", "out.jsonl", folder=folder, status=0)
    assert ((folder / "out.jsonl").read_text(), done.stdout) == (expected, "")
    done = command("export", "then", "-", folder=folder, status=0)
    assert done.stdout == expected
    assert "6 of 6 files to stdout" in done.stderr


def test_a_csv_has_a_column_for_each_key(folder: Path) -> None:
    """A column for each thing that lines tell, and for each that is carried; nothing that is a formula."""
    command("export", "then", "out.csv", folder=folder, status=0)
    lines = {
        line["file_id"]: line for name in ("results", "failures") for line in lines_of(folder / f"then/{name}.jsonl")
    }
    with (folder / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(lines) == 6
    keys = [key for key in rows[0] if key not in ("path", "carried.type")]
    for row in rows:
        line = lines[row["file_id"]]
        assert {key: row[key] for key in keys} == {key: "" if line.get(key) is None else str(line[key]) for key in keys}
        assert row["path"] == line["carried"]["path"]
        assert row["carried.type"] == "'" + line["carried"]["type"]
    assert all(any(row[key] for row in rows) for key in keys), "the test needs something in each column"


def test_an_exported_selection_is_an_input_for_a_run(folder: Path) -> None:
    """What is to be reviewed goes into another run, with what it carries."""
    command("export", "run", "review.jsonl", "--only", "review", folder=folder, status=0)
    told = ("--input", "review.jsonl", "--run-dir", "again", "--carry", "path")
    command("run", "plain.toml", *told, folder=folder, status=0)
    ids = [{line["file_id"] for line in lines_of(folder / name)} for name in ("review.jsonl", "again/results.jsonl")]
    assert ids[0] == ids[1] != set()


def test_an_incomplete_run_exports_what_is_committed(folder: Path) -> None:
    """Only what is committed, and how many files wait is said."""
    run = folder / "plain"
    (run / "manifest.json").unlink()
    journal = (run / "journal.jsonl").read_bytes().splitlines(keepends=True)
    ends = [number for number, line in enumerate(journal) if b'"results":[' in line]
    (run / "journal.jsonl").write_bytes(b"".join(journal[: ends[-1]]))
    counts = json.loads(command("status", "plain", "--json", folder=folder, status=0).stdout)["counts"]
    assert 0 < sum(counts.values()) < 6
    done = command("export", "plain", "-", folder=folder, status=0)
    assert done.stdout.count("\n") == sum(counts.values())
    assert f"waiting     {6 - sum(counts.values())} files" in done.stderr


def test_an_export_into_the_run_directory_harms_nothing(folder: Path) -> None:
    """A file that isn't the run's own may stand there: the run is as sound as before."""
    command("export", "run", "run/out.csv", folder=folder, status=0)
    command("verify", "run", folder=folder, status=0)


# --- What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run",), "Missing argument 'TARGET'"),
        (("run", ""), "it is empty"),
        (("run", "out.txt"), "out.txt: an export is written as JSONL, CSV, Parquet or Arrow"),
        (("run", "out"), "out: an export is written as JSONL, CSV, Parquet or Arrow"),
        (("run", ".csv"), ".csv: an export is written as JSONL, CSV, Parquet or Arrow"),
        (("run", "documents"), "documents: an export is written as JSONL, CSV, Parquet or Arrow"),
        (("run", f"{'x' * 300}.csv"), "x.csv: File name too long"),
        (("run", "absent/out.csv"), "there is no directory absent"),
        (("run", "ids.csv/out.csv"), "there is no directory ids.csv"),
        (("run", "run/results.jsonl"), "run/results.jsonl is a file of the run itself"),
        (("run", "run/../run/Journal.jsonl"), "is a file of the run itself"),
        (("run", "run/failures.3.jsonl"), "is a file of the run itself"),
        (("run", "run/sandbox/new.jsonl"), "is a file of the run itself"),
        (("run", "plain/plan.jsonl"), "plain/plan.jsonl is a file of the run itself"),
        (("documents", "out.csv"), "documents holds no run"),
        (("absent", "out.csv"), "absent holds no run"),
        (("run", "-", "--json"), "--json and the outcomes can't both go to stdout"),
        (("run", "out.csv", "--only", "nothing"), "'nothing' is not one of"),
        (("plain", "out.csv", "--only", "review"), "the run in plain has no triage"),
        (("plain", "-", "--only", "accepted"), "the run in plain has no triage"),
    ],
)
def test_wrong_usage_is_one_message_and_writes_nothing(
    folder: Path, call: Call, arguments: tuple[str, ...], words: str
) -> None:
    """Each is one message with a hint, and nothing is written."""
    there = contents(folder)
    done = call(None, *arguments)
    said = done.err.splitlines()
    assert (done.status, done.out) == (2, "")
    assert said[0].startswith("error: ")
    assert said[-1].startswith("hint: ")
    assert words in said[0]
    assert contents(folder) == there


def test_a_directory_as_target_is_refused(folder: Path) -> None:
    """A directory that is called like a target stays."""
    (folder / "out.csv").mkdir()
    assert "out.csv is not a file" in refused(folder, "run", "out.csv")


def test_a_missing_triage_is_named_in_the_hint(lived: Path) -> None:
    """Without triage the hint names what would bring it."""
    assert "hint: set `[triage] accept_above` in the config" in refused(lived, "plain", "out.csv", "--only", "review")


# --- Whole or not at all ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_an_existing_target_is_replaced_as_a_whole(folder: Path, name: str) -> None:
    """Nothing of a longer file that was there is left, and nothing else."""
    command("export", "run", f"new.{name}", folder=folder, status=0)
    (folder / name).write_text("old\n" * 10_000)
    command("export", "run", name, folder=folder, status=0)
    assert (folder / name).read_bytes() == (folder / f"new.{name}").read_bytes()
    assert [path.name for path in folder.iterdir() if path.name.endswith(".tmp")] == []


def test_a_damaged_run_leaves_the_existing_target(folder: Path) -> None:
    """A run whose committed lines are not there is reported by file, and nothing takes the old target's place."""
    (folder / "out.csv").write_text("old")
    results = folder / "run" / "results.jsonl"
    data = results.read_bytes()
    for damaged, words in (
        (data[:-9], "results.jsonl in run has "),
        (data.replace(b'"outcome":', b'"outcome"!'), "results.jsonl in run, line 1: not an outcome"),
    ):
        results.write_bytes(damaged)
        for target in ("out.csv", "out.jsonl"):
            assert words in refused(folder, "run", target)


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "out.csv"), (signal.SIGTERM, "out.parquet")])
def test_a_signal_leaves_the_existing_target(big: Path, number: signal.Signals, name: str) -> None:
    """In the middle it ends with 75, the old target is there, and no half a new one beside it."""
    (big / name).write_text("old")
    before = sorted(path.name for path in big.iterdir())
    process, said = interrupt_while_it_writes(big, name, number)
    assert (process.returncode, said.splitlines()[0]) == (75, f"error: interrupted by {number.name}")
    assert "hint: " in said
    assert sorted(path.name for path in big.iterdir()) == before
    assert (big / name).read_text() == "old"


def interrupt_while_it_writes(big: Path, name: str, number: signal.Signals) -> tuple[subprocess.Popen[str], str]:
    """An export to which a signal came while it wrote, and what it said. On a busy machine the signal may come too
    late: then once more."""
    words = [*COMMAND, "export", "run", name]
    for _ in range(3):
        with CommandProcess(words, cwd=big, stderr=subprocess.PIPE, env=environment(), text=True) as process:
            while process.poll() is None and not any(path.suffix == ".tmp" for path in big.iterdir()):
                pass
            process.send_signal(number)
            _, said = process.communicate(timeout=PATIENCE_S)
        if process.returncode != 0:
            return process, said
        (big / name).write_text("old")
    raise AssertionError("no signal ends it")


def test_a_full_disk_exits_with_75_and_leaves_nothing(big: Path) -> None:
    """Where the disk takes no more it is said, with status 75, and what was begun is gone."""
    before = sorted(path.name for path in big.iterdir())
    done = subprocess.run(
        [*COMMAND, "export", "run", "full.csv"],
        cwd=big,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )
    assert (done.returncode, done.stdout) == (75, "")
    assert done.stderr.startswith("error: ")
    assert "full.csv: File too large" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("hint: ")
    assert sorted(path.name for path in big.iterdir()) == before


# --- Size -------------------------------------------------------------------------------------------------------------

MEASURED = """
import runpy, sys
sys.argv = ["classify-batch", "export", "run", sys.argv[1]]
try:
    runpy.run_module("classify_batch", run_name="__main__")
finally:
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    print(status["VmHWM"].split()[0], file=sys.stderr)  # getrusage would tell of the process that it was forked from
"""


@pytest.mark.parametrize("name", ["big.jsonl", "big.csv"])
def test_large_exports_need_little_memory(big: Path, name: str) -> None:
    """200,000 outcomes, 50 MB of lines, are written in 64 MiB, most of which are the libraries."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, name], cwd=big, capture_output=True, text=True, timeout=300, check=True
    )
    assert int(done.stderr.splitlines()[-1]) < 64 * 1024
    with (big / name).open("rb") as file:
        assert sum(1 for _ in file) == BIG_FILES + (name == "big.csv")
