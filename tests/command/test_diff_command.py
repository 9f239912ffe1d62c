"""`classify-batch diff` as a user meets it: real runs of the embedded sandbox, the real command."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5
from zlib import crc32

import pytest

from classify_batch.rundir.journal.line import seal_line
from tests.support.command_line import PATIENCE_S, command, command_process, contents
from tests.support.complete_run import write_complete_run
from tests.support.start_command import COMMAND, CommandProcess

MONDAY = {
    "same.txt": "an invoice number, line items and a total",
    "turned.txt": "an invoice number, line items and a total",
    "went.txt": "an agreement between parties with terms",
    "deleted.txt": "an agreement between parties with terms",
}
TUESDAY = {
    "same.txt": "an invoice number, line items and a total",
    "turned.txt": "an agreement between parties with terms",
    "came.txt": "an invoice number, line items and a total",
}
"""The documents of two runs; `deleted.txt` is still asked for in the second, and unknown there."""

RULES = """
rules = [
  { type = "invoice", description = "has an invoice number, line items and a total" },
  { type = "contract", description = "an agreement between parties with terms" },
]
"""
ASKED_FIRST = ("same.txt", "turned.txt", "went.txt", "deleted.txt")
ASKED_THEN = ("same.txt", "turned.txt", "came.txt", "deleted.txt")


def id_of(name: str) -> str:
    return str(uuid5(NAMESPACE_URL, name))


def classify(folder: Path, run: str, texts: Mapping[str, str], asked: tuple[str, ...], mode: str) -> None:
    """A run of the embedded sandbox on these documents, a file a job."""
    documents = folder / f"{run}-documents"
    documents.mkdir()
    for name, text in texts.items():
        (documents / name).write_text(text)
    (folder / f"{run}.toml").write_text(
        f'[api]\nbase_url = "sandbox"\n[job]\nmode = "{mode}"\n{RULES}\n[sandbox]\ndocuments = "{documents}"\n'
        "[plan]\nfiles_per_job = 1\n[limits]\nrequests_per_s = 500.0\nsettle_s = 0.5\n"
    )
    (folder / f"{run}.txt").write_text("".join(f"{id_of(name)}\n" for name in asked))
    done = command("run", f"{run}.toml", "--input", f"{run}.txt", "--run-dir", run, folder=folder)
    assert done.returncode in (0, 1), done.stderr


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs, `monday` and `tuesday`."""
    folder = tmp_path_factory.mktemp("nights")
    classify(folder, "monday", MONDAY, ASKED_FIRST, "FAST")
    classify(folder, "tuesday", TUESDAY, ASKED_THEN, "MULTIMODAL")
    return folder


@pytest.fixture
def nights(lived: Path, tmp_path: Path) -> Path:
    """The same, for a test of its own."""
    for name in ("monday", "tuesday"):
        shutil.copytree(lived / name, tmp_path / name)
    return tmp_path


def diff(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A comparison that succeeds, and changes nothing."""
    before = contents(folder)
    done = command("diff", *arguments, folder=folder)
    assert done.returncode == 0, done.stderr
    assert contents(folder) == before
    return done


def refused(folder: Path, *arguments: str) -> str:
    """What is said of a comparison that ends with status 2."""
    done = command("diff", *arguments, folder=folder)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    said = done.stderr.splitlines()
    assert said[0].startswith("error: ")
    assert said[-1].startswith("hint: ")
    assert "Traceback" not in done.stderr
    return done.stderr


def summed(folder: Path, *arguments: str) -> dict[str, Any]:
    done = diff(folder, *arguments, "--json")
    assert done.stderr == ""
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return summary


def test_two_runs_are_compared_file_by_file(nights: Path) -> None:
    """What came, what went, what turned into another type or failed, and that the mode was another one."""
    summary = summed(nights, "monday", "tuesday")
    changes = {"new": 1, "gone": 1, "outcome": 1, "type": 1, "confidence": 0}
    assert (summary["changes"], summary["unchanged"], summary["files"]) == (changes, 1, 5)
    assert summary["types"] == [
        {"change": "outcome", "before": "contract", "after": "failed", "files": 1},
        {"change": "type", "before": "invoice", "after": "contract", "files": 1},
    ]
    assert summary["differs"]["mode"] == {"before": "FAST", "after": "MULTIMODAL"}
    assert [summary[side]["run_dir"] for side in ("before", "after")] == ["monday", "tuesday"]
    assert [summary[side]["state"] for side in ("before", "after")] == ["complete", "complete"]
    assert summed(nights, "tuesday", "monday")["changes"] == changes


def test_the_summary_is_a_table_on_stdout(nights: Path) -> None:
    """Without options the summary is the data: lines of at most 80 characters that name what differs."""
    done = diff(nights, "monday", "tuesday")
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    assert "differs     mode: FAST -> MULTIMODAL" in lines
    assert f"  {'invoice':<30}-> {'contract':<29}{1:>12}" in lines


EXPECTED = {
    "new": ("came.txt", None, "classified"),
    "gone": ("went.txt", "classified", None),
    "outcome": ("deleted.txt", "classified", "failed"),
    "type": ("turned.txt", "classified", "classified"),
}


@pytest.mark.parametrize("change", EXPECTED)
def test_only_prints_the_files_with_that_change_as_jsonl(nights: Path, change: str) -> None:
    """The files with one change as JSONL on stdout, each with both its outcomes; the summary goes to stderr."""
    done = diff(nights, "monday", "tuesday", "--only", change)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    name, *outcomes = EXPECTED[change]
    assert [(line["file_id"], line["change"]) for line in lines] == [(id_of(name), change)]
    for said, outcome, run in zip(
        (lines[0]["before"], lines[0]["after"]), outcomes, (nights / "monday", nights / "tuesday"), strict=True
    ):
        assert said == (None if outcome is None else outcome_of(run, id_of(name)))
        assert outcome is None or said["outcome"] == outcome
    assert "other outcome" in done.stderr


def outcome_of(run: Path, file_id: str) -> dict[str, Any]:
    """What a run's own files say of a file."""
    texts = [(run / f"{name}.jsonl").read_text() for name in ("results", "failures")]
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    found = next(line for line in lines if line["file_id"] == file_id)
    return {key: found.get(key) for key in ("outcome", "type", "confidence", "code")}


def reseal(run: Path) -> None:
    """Gives the segments in a journal the checksums of what results.jsonl holds now."""
    journal, data = run / "journal.jsonl", (run / "results.jsonl").read_bytes()
    bodies = [json.loads(line) for line in journal.read_text().splitlines()]
    for body in bodies:
        del body["crc"]
        for item in body.get("items", ()):
            if "results" in item:
                start, end, _ = item["results"]
                item["results"] = [start, end, crc32(data[start:end])]
    journal.write_bytes(b"".join(seal_line(json.dumps(body, separators=(",", ":")).encode()) for body in bodies))


def test_min_confidence_change_decides_which_files_moved(nights: Path) -> None:
    """`--min-confidence-change` decides which files moved; with `--json` the lines come first, the summary last."""
    results = nights / "tuesday" / "results.jsonl"
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    line = next(line for line in lines if line["file_id"] == id_of("same.txt"))
    was = f'"confidence":{line["confidence"]}'
    now = f'"confidence":{line["confidence"] - 0.2:.6f}'[: len(was)]
    written = results.read_text().splitlines(keepends=True)
    results.write_text("".join(each.replace(was, now) if id_of("same.txt") in each else each for each in written))
    reseal(nights / "tuesday")
    for least, files in (("0.15", 1), ("0.25", 0)):
        arguments = ("monday", "tuesday", "--only", "confidence", "--min-confidence-change", least, "--json")
        *changed, summary = map(json.loads, diff(nights, *arguments).stdout.splitlines())
        assert [line["change"] for line in changed] == ["confidence"] * files
        assert summary["changes"]["confidence"] == files
        assert summary["confidence"]["min_change"] == float(least)
        assert summary["confidence"]["change"] == pytest.approx(-0.2, abs=1e-3)


def test_a_run_compared_with_itself_has_no_changes(nights: Path) -> None:
    """Nothing changed, and that is status 0 as well."""
    summary = summed(nights, "monday", "monday")
    assert (sum(summary["changes"].values()), summary["unchanged"], summary["differs"]) == (0, 4, {})


def test_lines_have_the_same_order_in_every_process(tmp_path: Path) -> None:
    """The order of the lines is the same in every process, whatever Python's hashes of strings are in it."""
    write_complete_run(tmp_path / "a", 300, 100)
    write_complete_run(tmp_path / "b", 3, 1)
    said = {
        command_process("diff", "a", "b", "--only", "gone", folder=tmp_path, environ={"PYTHONHASHSEED": seed}).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1
    assert said.pop().count("\n") == 297


def test_files_of_an_incomplete_run_are_waiting(nights: Path) -> None:
    """A run whose last jobs were not collected: said, and its files wait instead of being gone."""
    run = nights / "tuesday"
    (run / "manifest.json").unlink()
    lines = (run / "journal.jsonl").read_bytes().splitlines(keepends=True)
    ends = [number for number, line in enumerate(lines) if json.loads(line)["kind"] in ("collected", "rejected")]
    (run / "journal.jsonl").write_bytes(b"".join(lines[: ends[0]]))
    summary = summed(nights, "monday", "tuesday")
    assert (summary["after"]["state"], summary["waiting"]) == ("incomplete", 4)
    assert summary["changes"] == {"new": 0, "gone": 1, "outcome": 0, "type": 0, "confidence": 0}
    assert "incomplete: 0 of 4 files have their outcome" in diff(nights, "monday", "tuesday").stdout


def test_a_damaged_run_is_named_with_status_2(nights: Path) -> None:
    """A damaged journal, outcomes that are cut off, and a run.json that is none: the file is named, status 2."""
    run = nights / "tuesday"
    sound = {name: data for name, data in contents(run).items() if data is not None}

    def damaged(name: str, data: bytes) -> str:
        (run / name).write_bytes(data)
        said = [refused(nights, *sides) for sides in (("monday", "tuesday"), ("tuesday", "monday"))]
        (run / name).write_bytes(sound[name])
        assert said[0] == said[1]
        return said[0]

    assert "results.jsonl in tuesday has " in damaged("results.jsonl", sound["results.jsonl"][:-7])
    results = sound["results.jsonl"].replace(b'"outcome":', b'"outcome"!')
    assert "results.jsonl in tuesday, line 1: not an outcome" in damaged("results.jsonl", results)
    journal = sound["journal.jsonl"].replace(b'"kind"', b'"Kind"', 2)
    assert "journal.jsonl in tuesday, line 1" in damaged("journal.jsonl", journal)
    assert "run.json in tuesday" in damaged("run.json", b"{}")


def test_a_directory_without_a_run_is_a_usage_error(nights: Path) -> None:
    """A directory that is not there, or holds no run, or is a file, is a usage error that names it."""
    (nights / "empty").mkdir()
    (nights / "file").touch()
    for name in ("absent", "empty", "file"):
        assert f"{name} holds no run" in refused(nights, name, "monday")
        assert f"{name} holds no run" in refused(nights, "monday", name)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("monday",), "Missing argument 'RUN_B'"),
        (("monday", ""), "it is empty"),
        (("monday", "tuesday", "--only", "nothing"), "'nothing' is not one of"),
        (("monday", "tuesday", "--min-confidence-change", "1.1"), "1.1 is not in the range"),
        (("monday", "tuesday", "--min-confidence-change", "nan"), "nan is not a number"),
    ],
)
def test_wrong_usage_is_one_message_with_a_hint(lived: Path, arguments: tuple[str, ...], words: str) -> None:
    """Each is one message with a hint."""
    assert words in refused(lived, *arguments)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks for the open files of a process")
def test_a_signal_leaves_no_temporary_files(tmp_path: Path) -> None:
    """Ctrl-C in the middle ends with 75, and the run directories hold what they held: no temporary file."""
    write_complete_run(tmp_path / "a", 200_000, 500)
    before = sorted(contents(tmp_path))
    with CommandProcess(
        [*COMMAND, "diff", "a", "a", "--only", "confidence"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        until_it_spills(process.pid, tmp_path)
        process.send_signal(2)
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 75
    assert "hint: " in said
    assert sorted(contents(tmp_path)) == before


def until_it_spills(pid: int, folder: Path) -> None:
    """Returns when a process has a nameless file open in `folder`."""
    for _ in range(1_000_000):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(entry.readlink())
            except OSError:
                continue
            if target.startswith(str(folder)) and target.endswith("(deleted)"):
                return
    raise AssertionError("it never wrote a temporary file")


MEASURED = """
import runpy, sys
sys.argv = ["classify-batch", "diff", "a", "b", "--json"]
try:
    runpy.run_module("classify_batch", run_name="__main__")
finally:
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    print(status["VmHWM"].split()[0], file=sys.stderr)  # getrusage would tell of the process that it was forked from
"""


@pytest.mark.slow
def test_a_million_files_are_compared_in_150_mib(tmp_path: Path) -> None:
    """Two runs of a million files are compared in 150 MiB; a dict of one of them alone would take twice as much."""
    write_complete_run(tmp_path / "a", 1_000_000, 500)
    write_complete_run(tmp_path / "b", 1_000_000, 500, confidence=0.5)
    done = subprocess.run(
        [sys.executable, "-c", MEASURED], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True
    )
    assert json.loads(done.stdout)["changes"]["confidence"] == 1_000_000
    assert int(done.stderr) < 150 * 1024
